"""Where arrays live: the only file that knows JAX's mesh interface."""

from typing import Any, Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Returns a mesh with the one axis "data" over the given devices (all of them by default).

  The axis is `Auto`: the compiler shards what lies between the placed inputs, as Linen modules need.
  """
  devices = list(devices) if devices is not None else jax.devices()
  return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of the state: a copy on every device."""
  return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of a batch: the leading axis split over the devices."""
  return NamedSharding(mesh, P("data"))


def check_batch_size(mesh: Mesh, batch_size: int, accumulate: int) -> None:
  """Raises ValueError unless every device gets the same number of images in every micro-step.

  Args:
    mesh: the devices.
    batch_size: images per update over all devices.
    accumulate: micro-steps per update.
  """
  devices = mesh.devices.size
  if batch_size % (devices * accumulate):
    raise ValueError(
        f"config.batch_size is {batch_size}: it must be a multiple of {devices} devices x config.accumulate"
        f" {accumulate} = {devices * accumulate}"
    )


def shard_batch(mesh: Mesh, host_arrays: dict[str, Any]) -> dict[str, jax.Array]:
  """Returns the global batch of which this process holds the given rows.

  Args:
    mesh: the devices.
    host_arrays: name -> numpy array of this process's rows, in the order of the processes.
  """
  return jax.make_array_from_process_local_data(batch_sharding(mesh), host_arrays)
