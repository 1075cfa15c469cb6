"""Placement of arrays: the only file that uses JAX's mesh interface."""

import collections
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

# Limits for cutting over "fsdp": smaller arrays cost more communication than they save memory, and shorter axes do not
# fill the lanes of a TPU. The latter also excludes the leading axis of stacked blocks, which a scan walks along.
_LEAST_ELEMENTS, _LEAST_LENGTH = 2**16, 128


def make_mesh(devices: Sequence[jax.Device] | None = None, fsdp: int = 1) -> Mesh:
  """Returns a mesh over the given devices (all of them by default).

  The axes are `Auto`: the compiler shards what lies between the placed inputs, as Linen modules need.

  Args:
    devices: of all processes.
    fsdp: devices that share one copy of the state, see `place_state`; 1 leaves out the axis.

  Returns:
    ("data",), or ("data", "fsdp") of (devices / fsdp, fsdp).

  Raises:
    ValueError: the devices cannot be grouped by `fsdp`.
  """
  devices = list(devices) if devices is not None else jax.devices()
  if len(devices) % fsdp:
    raise ValueError(f"config.fsdp is {fsdp}: it must divide the number of devices, which is {len(devices)}")
  shape, names = ((len(devices),), ("data",)) if fsdp == 1 else ((len(devices) // fsdp, fsdp), ("data", "fsdp"))
  return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(names), devices=devices)


def device_kinds(mesh: Mesh) -> str:
  """Returns the number and kind of the devices, as "8 x TPU v4"."""
  kinds = collections.Counter(device.device_kind for device in mesh.devices.flat)
  return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array that is copied to every device."""
  return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of a batch: the leading axis split over all devices."""
  return NamedSharding(mesh, P(mesh.axis_names))


def place_state(mesh: Mesh, shapes):
  """Returns a state's shapes with the shardings of its arrays, by one rule for parameters, teacher and optimizer.

  Without an "fsdp" axis every device holds all of it. With one, an array of 2**16 elements or more is cut along its
  longest axis that is 128 or longer and a multiple of the mesh axis; the other arrays are small.

  Args:
    mesh: the devices.
    shapes: tree of anything with shape and dtype.

  Returns:
    The same tree of `jax.ShapeDtypeStruct` with shardings.
  """
  parts = mesh.shape.get("fsdp", 1)

  def place(a):
    lengths = [n if n % parts == 0 and n >= _LEAST_LENGTH else 0 for n in a.shape]
    cut = [None] * len(lengths)
    if parts > 1 and a.size >= _LEAST_ELEMENTS and any(lengths):
      cut[lengths.index(max(lengths))] = "fsdp"
    return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=NamedSharding(mesh, P(*cut) if any(cut) else P()))

  return jax.tree.map(place, shapes)


def options_of_one_run(platform: str) -> dict[str, Any]:
  """Returns compiler options for a program that runs once, such as the one that makes the first weights.

  On a CPU, LLVM's optimizations and XLA's emitters of fused loops take most of the time of compiling, and one run wins
  less than that back.

  Args:
    platform: of the devices.
  """
  return {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False} if platform == "cpu" else {}


def lower_step(mesh: Mesh, update, state, spec: dict[str, Any]):
  """Returns the training step lowered for placed arrays, the state donated; training and `saip compile` use the same.

  Arrays cut over "fsdp" are gathered before the network runs: otherwise the compiler gathers the activations, which are
  larger. The optimizer's state stays cut, and so does the returned state.

  Args:
    mesh: the devices.
    update: from `make_train_step`.
    state: shapes from `place_state`.
    spec: of the global batch, from `Method.batch_spec`.
  """
  whole = lambda tree: jax.lax.with_sharding_constraint(tree, replicated(mesh)) if "fsdp" in mesh.shape else tree

  def train_step(state, batch):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # kernels are split by hand: they ask for the mesh
      gathered = {name: whole(getattr(state, name)) for name in ("params", "method_state", "frozen")}
      after, metrics = update(state.replace(**gathered), batch)
      return after.replace(frozen=state.frozen), metrics

  shardings = shardings_of(state), replicated(mesh)
  return jax.jit(train_step, donate_argnums=0, out_shardings=shardings).lower(state, place_batch(mesh, spec))


def place_batch(mesh: Mesh, spec: dict[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns the shapes of a global batch with the shardings of its arrays.

  Args:
    mesh: the devices.
    spec: name -> shape and dtype, from `Method.batch_spec`.
  """
  sharding = batch_sharding(mesh)
  return {name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding) for name, a in spec.items()}


def shardings_of(tree):
  """Returns the sharding of every leaf."""
  return jax.tree.map(lambda a: a.sharding, tree)


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
  with jax.transfer_guard_host_to_device("allow"):  # the one intended copy; several hosts would not pass
    return jax.make_array_from_process_local_data(batch_sharding(mesh), host_arrays)


def on_one_device(mesh: Mesh, tree):
  """Returns whole copies of the arrays on one device of this process; all processes must call it.

  Args:
    mesh: the devices.
    tree: arrays placed by `place_state`.
  """
  leaves, structure = jax.tree.flatten(tree)
  cut = [i for i, leaf in enumerate(leaves) if not leaf.is_fully_replicated]
  if cut:
    gather = jax.jit(lambda arrays: arrays, out_shardings=replicated(mesh))
    for i, whole in zip(cut, gather([leaves[i] for i in cut])):
      leaves[i] = whole
  return structure.unflatten([leaf.addressable_data(0) for leaf in leaves])
