"""Reads checkpoints: the fingerprint, the description of the model, the weights."""

import logging
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from input_pipeline.names import shown_error
from input_pipeline.storage import utf8_path
from saip_jax.run_folder.files import CHECKPOINTS, FINGERPRINT, MODEL, MODEL_FILE, STATE
from saip_jax.run_folder.folder import read_config
from saip_jax.run_folder.integrity import brief, damage_of, read_object
from saip_jax.run_folder.older import current_names, describe_older_model


def read_fingerprint(step_path: pathlib.PurePath) -> dict[str, Any]:
  """Returns the settings and the identity of the data that a checkpoint belongs to.

  Args:
    step_path: W/checkpoints/<step>, local or in a bucket.

  Raises:
    ValueError: none there.
  """
  try:
    return current_names(read_object(step_path / FINGERPRINT / "metadata"))
  except (ValueError, OSError) as e:
    raise ValueError(f"{step_path} has no fingerprint of a run: {shown_error(e)}") from e


def read_model_description(workdir, step: int) -> dict[str, Any]:
  """Returns the model.json of a checkpoint: "facts" of the backbone and "head_counts" of decoders.

  Checkpoints of earlier versions have none: there the run's config.json describes the model.

  Raises:
    ValueError: neither can be read.
  """
  step_path = pathlib.Path(workdir) / CHECKPOINTS / str(step)
  if not (step_path / MODEL).exists():
    return describe_older_model(read_config(workdir))
  path = step_path / MODEL / MODEL_FILE
  try:
    return read_object(path)
  except (ValueError, OSError) as e:
    raise ValueError(f"{step_path} holds no checkpoint that is whole: {path} cannot be read: {shown_error(e)}") from e


def read_model(step_path) -> tuple[Any, Any]:
  """Returns (params, method_state) of one checkpoint as numpy arrays; the optimizer's state is not read.

  Args:
    step_path: W/checkpoints/<step>.

  Raises:
    ValueError: no whole checkpoint there.
  """
  quiet_orbax()
  path = utf8_path(step_path, "checkpoint") / STATE
  damage = damage_of(step_path)
  if damage:
    raise ValueError(f"{step_path} holds no checkpoint that is whole: {damage}")
  try:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
      stored = reader.metadata(path).item_metadata.tree
      wanted = {
        name: jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), stored[name])
        for name in ("params", "extra")
      }
      to_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
      args = ocp.args.PyTreeRestore(item=wanted, restore_args=to_numpy, partial_restore=True)
      model = reader.restore(path, args=args)
  except (ValueError, KeyError, OSError, AttributeError) as e:
    raise ValueError(f"{step_path} cannot be read as a checkpoint: {brief(e)}") from e
  return model["params"], model["extra"]


def quiet_orbax() -> None:
  """Drops the log messages of Orbax: its errors are raised here as one line each."""
  logging.getLogger("absl").addFilter(_is_not_orbax)


def _is_not_orbax(record: logging.LogRecord) -> bool:
  return "orbax" not in record.pathname
