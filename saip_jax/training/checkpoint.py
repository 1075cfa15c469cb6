"""Checkpoints on disk: the only file that knows Orbax.

A checkpoint is the state and the fingerprint of its run. The position in the data is no part of it: the order is a
pure function of (seed, step).
"""

import json
import logging
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from input_pipeline.names import shown_error
from input_pipeline.schema import differences
from input_pipeline.storage import utf8_path, writing
from saip_jax.run_folder.integrity import brief, checkpoint_steps, damage_of, newest_whole, read_object
from saip_jax.run_folder.older import current_names
from saip_jax.training.state import TrainState


class CheckpointError(OSError):
  """A checkpoint could not be written; those written before are intact."""


def claim_workdir(workdir, config: Mapping[str, Any]) -> pathlib.Path:
  """Makes the folder of a run and marks it with its config.json, or checks that it is such a folder.

  With several processes the first must have done so before the others.

  Raises:
    ValueError: the folder holds something else, or is a file, or is not the one that the first process made, or cannot
      be written.
  """
  workdir = utf8_path(workdir, "--workdir")
  if jax.process_index() and not (workdir / "config.json").exists():
    raise ValueError(
      f"--workdir={workdir} is not shared: process {jax.process_index()} does not see what process 0"
      " wrote there; choose a folder that all hosts mount"
    )
  if workdir.exists() and not workdir.is_dir():
    raise ValueError(f"--workdir={workdir} is a file: choose a folder for the run")
  with writing(workdir, "--workdir=", "choose a folder that can be written"):
    workdir.mkdir(parents=True, exist_ok=True)
    if not (workdir / "config.json").exists():
      if any(path.name != "config.json.partial" for path in workdir.iterdir()):
        raise ValueError(f"--workdir={workdir} holds files but no config.json of a run: choose an empty or new folder")
      write_config(workdir, config)
  return workdir


def write_config(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Writes W/config.json; whole or not at all."""
  partial = workdir / "config.json.partial"
  partial.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
  os.replace(partial, workdir / "config.json")


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
  """Returns what `write_config` wrote; raises ValueError, which names the file, if it is damaged."""
  path = pathlib.Path(workdir) / "config.json"
  try:
    return current_names(read_object(path))
  except (OSError, ValueError) as e:
    raise ValueError(
      f"{path} cannot be read: {shown_error(e)}; copy it again, or start the run again with its recipe, "
      "which writes it anew"
    ) from e


class Checkpoints:
  """The checkpoints of one run: W/checkpoints/<step>/, written in the background, whole or not at all."""

  def __init__(self, workdir, keep_last: int, keep_every: int | None, fingerprint: Mapping[str, Any]):
    """Opens the checkpoints of a run and refuses those of another.

    Args:
      workdir: the run's folder.
      keep_last: number of newest checkpoints kept.
      keep_every: checkpoints at multiples of this many updates are kept for good; None keeps only the newest.
      fingerprint: JSON-able nested settings that make the run what it is.

    Raises:
      ValueError: the newest checkpoint has another fingerprint, the message lists what differs; or it is damaged.
    """
    logging.getLogger("absl").addFilter(_is_not_orbax)
    self._workdir = pathlib.Path(workdir).absolute()
    self.path = self._workdir / "checkpoints"
    _remove_unfinished(self.path)
    options = ocp.CheckpointManagerOptions(max_to_keep=keep_last, keep_period=keep_every)
    self._manager = ocp.CheckpointManager(self.path, options=options, item_names=("state", "fingerprint"))
    self._fingerprint = json.loads(json.dumps(fingerprint))  # as it will be read back: tuples are lists
    if self.latest() is not None:
      self._check_fingerprint()

  def _check_fingerprint(self) -> None:
    try:
      stored = read_fingerprint(self.step_path(self.latest()))
    except ValueError:
      self._refuse_damaged()
      raise
    changes = differences(stored, self._fingerprint)
    if changes:
      raise ValueError(
        f"--workdir={self._workdir} holds another run: {'; '.join(changes)};"
        " set these back, or choose another --workdir"
      )

  def _refuse_damaged(self) -> None:
    """Raises ValueError if the newest checkpoint is not whole: to go on from an older one is for a person to decide,
    as the updates between them are done again and the damaged one must make room."""
    step, damaged = newest_whole(self._workdir, parts=None)
    if damaged:
      then = "starts anew: there is no other" if step is None else f"goes on from step {step}, which is whole"
      raise ValueError(f"{'; '.join(damaged)}; copy it again, or delete it, and the run {then}")

  def latest(self) -> int | None:
    """Returns the step of the newest checkpoint, or None."""
    return self._manager.latest_step()

  def step_path(self, step: int) -> pathlib.Path:
    """Returns the folder of a checkpoint."""
    return self.path / str(step)

  def save(self, step: int, state) -> None:
    """Starts writing the state after update `step`; returns once it may be changed or donated.

    Raises:
      CheckpointError: too little space, or this or the previous save failed.
    """
    needed, free = state_bytes(state), shutil.disk_usage(self.path).free
    if free < needed:
      raise CheckpointError(
        f"cannot save step {step}: it needs {_megabytes(needed)}, {self.path} has {_megabytes(free)} free; make"
        f" room, or choose a --workdir on another disk ({self._last_good()})"
      )
    args = ocp.args.Composite(
      state=ocp.args.StandardSave(state.stored()), fingerprint=ocp.args.JsonSave(self._fingerprint)
    )
    try:
      self._manager.check_for_errors()
      self._manager.save(step, args=args, force=True)
    except Exception as e:
      raise self._failed(step, e) from e

  def restore(self, abstract_state):
    """Returns the newest state, bit for bit as it was saved.

    Args:
      abstract_state: tree of `jax.ShapeDtypeStruct` with shardings: where the arrays shall live.

    Raises:
      ValueError: the checkpoint is damaged, or has other arrays than this program makes from the same settings.
    """
    self._refuse_damaged()
    step = self.latest()
    args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state.stored()))
    try:
      return TrainState.from_stored(self._manager.restore(step, args=args).state)
    except (ValueError, KeyError) as e:
      raise ValueError(f"{self.step_path(step)} does not fit this version of the program: {shown_error(e)}") from e

  def wait(self) -> None:
    """Returns once every started save is on disk.

    Raises:
      CheckpointError: one of them failed.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as e:
      raise self._failed(None, e) from e

  def close(self) -> None:
    """Waits and lets go of the folder; raises as `wait`."""
    try:
      self.wait()
    finally:
      self._manager.close()

  def _failed(self, step: int | None, error: Exception) -> CheckpointError:
    what = f"step {step}" if step is not None else "the last checkpoint"
    return CheckpointError(
      f"cannot save {what} under {self.path}: {brief(error)}; make room or choose another --workdir"
      f" ({self._last_good()})"
    )

  def _last_good(self) -> str:
    steps = checkpoint_steps(self._workdir)
    return f"last good checkpoint: {self.step_path(steps[-1])}" if steps else "no checkpoint yet"


def read_fingerprint(step_path) -> dict[str, Any]:
  """Returns the settings and the identity of the data that a checkpoint belongs to.

  Args:
    step_path: W/checkpoints/<step>.

  Raises:
    ValueError: none there.
  """
  try:
    return current_names(read_object(pathlib.Path(step_path) / "fingerprint" / "metadata"))
  except (ValueError, OSError) as e:
    raise ValueError(f"{step_path} has no fingerprint of a run: {shown_error(e)}") from e


def read_model(step_path) -> tuple[Any, Any]:
  """Returns (params, method_state) of one checkpoint as numpy arrays; the optimizer's state is not read.

  Args:
    step_path: W/checkpoints/<step>.

  Raises:
    ValueError: no whole checkpoint there.
  """
  logging.getLogger("absl").addFilter(_is_not_orbax)
  path = utf8_path(step_path, "checkpoint") / "state"
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


def state_bytes(state) -> int:
  """Returns the size of all arrays of a tree in bytes."""
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _is_not_orbax(record: logging.LogRecord) -> bool:
  """A log filter: what Orbax has to say is raised as one clear error here, or of no concern to a person."""
  return "orbax" not in record.pathname


def _remove_unfinished(path: pathlib.Path) -> None:
  """Deletes what a killed save left behind, and nothing else; Orbax ignores it, but it may be large."""
  if jax.process_index() == 0 and path.is_dir():
    for entry in path.glob("*.orbax-checkpoint-tmp*"):
      shutil.rmtree(entry, ignore_errors=True)


def _megabytes(size: int) -> str:
  return f"{size / 1e6:,.1f} MB"
