"""Writes and restores the checkpoints of a run with Orbax.

A checkpoint is the state, the fingerprint of its run and the description of its model. The position in the data is no
part of it: the order is a pure function of (seed, step).
"""

import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from input_pipeline.names import shown_error
from input_pipeline.schema import differences
from saip_jax.run_folder.files import CHECKPOINTS, COMMITTED, FINGERPRINT, MODEL, MODEL_FILE, STATE
from saip_jax.run_folder.integrity import brief, checkpoint_steps, newest_whole
from saip_jax.run_folder.reading import quiet_orbax, read_fingerprint
from saip_jax.training.state import TrainState


class CheckpointError(OSError):
  """A checkpoint could not be written; those written before are intact."""


class _CommittedFolder(ocp.path.atomicity.AtomicRenameTemporaryPath):
  """A local checkpoint that has the file COMMITTED, as in a bucket; Orbax itself writes it here from 0.12.3 on only."""

  async def finalize(self):
    (self.get() / COMMITTED).touch()
    await super().finalize()


class Checkpoints:
  """The checkpoints of one run: W/checkpoints/<step>/, written in the background, whole or not at all."""

  def __init__(
    self,
    workdir,
    keep_last: int,
    keep_every: int | None,
    fingerprint: Mapping[str, Any],
    model: Mapping[str, Any] | None = None,
  ):
    """Opens the checkpoints of a run and refuses those of another.

    Args:
      workdir: the run's folder.
      keep_last: number of newest checkpoints kept.
      keep_every: checkpoints at multiples of this many updates are kept for good; None keeps only the newest.
      fingerprint: JSON-able nested settings that make the run what it is.
      model: JSON-able description of the model, written into each checkpoint as model.json; None writes none.

    Raises:
      ValueError: the newest checkpoint has another fingerprint, the message lists what differs; or it is damaged.
    """
    quiet_orbax()
    self._workdir = pathlib.Path(workdir).absolute()
    self.path = self._workdir / CHECKPOINTS
    _remove_unfinished(self.path)
    handlers, described = ocp.handlers.DefaultCheckpointHandlerRegistry(), ocp.JsonCheckpointHandler(MODEL_FILE)
    for arguments in (ocp.args.JsonSave, ocp.args.JsonRestore):
      handlers.add(MODEL, arguments, described)
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep_last, keep_period=keep_every, temporary_path_class=_CommittedFolder
    )
    self._manager = ocp.CheckpointManager(self.path, options=options, handler_registry=handlers)
    self._fingerprint = json.loads(json.dumps(fingerprint))  # as it will be read back: tuples are lists
    self._model = model
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
    """Raises ValueError if the newest checkpoint is not whole.

    The user decides whether to continue from an older one: the updates between them are done again, and the damaged
    one must make room.
    """
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
    items = {STATE: ocp.args.StandardSave(state.stored()), FINGERPRINT: ocp.args.JsonSave(self._fingerprint)}
    if self._model is not None:
      items[MODEL] = ocp.args.JsonSave(self._model)
    try:
      self._manager.check_for_errors()
      self._manager.save(step, args=ocp.args.Composite(**items), force=True)
    except Exception as e:
      raise self._failed(step, e) from e

  def restore(self, abstract_state):
    """Returns the newest state, bit for bit as it was saved.

    Args:
      abstract_state: tree of `jax.ShapeDtypeStruct` with the shardings to restore to.

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
    """Waits for started saves and releases the folder; raises as `wait`."""
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


def state_bytes(state) -> int:
  """Returns the size of all arrays of a tree in bytes."""
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _remove_unfinished(path: pathlib.Path) -> None:
  """Deletes the unfinished folders of killed saves and nothing else; Orbax ignores them, but they may be large."""
  if jax.process_index() == 0 and path.is_dir():
    for entry in path.glob("*.orbax-checkpoint-tmp*"):
      shutil.rmtree(entry, ignore_errors=True)


def _megabytes(size: int) -> str:
  return f"{size / 1e6:,.1f} MB"
