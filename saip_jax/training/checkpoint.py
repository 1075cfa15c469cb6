"""Writes and restores the checkpoints of a run with Orbax.

A checkpoint is the state, the fingerprint of its run and the description of its model. The position in the data is no
part of it: the order is a pure function of (seed, step).
"""

import concurrent.futures
import contextlib
import json
import pathlib
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from input_pipeline.names import shown_error
from input_pipeline.schema import differences
from saip_jax.run_folder.bucket import RunTakenOver
from saip_jax.run_folder.files import CHECKPOINTS, COMMITTED, FINGERPRINT, MODEL, MODEL_FILE, STATE
from saip_jax.run_folder.integrity import brief, newest_whole, steps_in
from saip_jax.run_folder.reading import quiet_orbax, read_fingerprint
from saip_jax.run_folder.workdir import RunFolder
from saip_jax.training.state import TrainState

_CHANGES_LISTED = 8  # of those that make another run
_PAUSE_S = 5  # before a failed save is tried again


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
      workdir: the run's folder, a `RunFolder` or a local path.
      keep_last: number of newest checkpoints kept.
      keep_every: checkpoints at multiples of this many updates are kept for good; None keeps only the newest.
      fingerprint: JSON-able nested settings that make the run what it is.
      model: JSON-able description of the model, written into each checkpoint as model.json; None writes none.

    Raises:
      ValueError: the newest checkpoint has another fingerprint, the message lists what differs; or it is damaged.
    """
    quiet_orbax()
    self._folder = RunFolder.of(workdir)
    self.path = self._folder.checkpoints
    if not self._folder.read_only:
      _remove_unfinished(self.path, self._folder.in_bucket)
    self._keep = (keep_last, keep_every)
    self._manager = self._open()
    self._fingerprint = json.loads(json.dumps(fingerprint))  # as it will be read back: tuples are lists
    self._model = model
    self._saving: int | None = None  # the step of the newest save
    self._failures = 0  # in a row
    self._uploader = concurrent.futures.ThreadPoolExecutor(1)
    self._upload: concurrent.futures.Future | None = None
    if self.latest() is not None:
      self._check_fingerprint()

  def _open(self) -> ocp.CheckpointManager:
    handlers, described = ocp.handlers.DefaultCheckpointHandlerRegistry(), ocp.JsonCheckpointHandler(MODEL_FILE)
    for arguments in (ocp.args.JsonSave, ocp.args.JsonRestore):
      handlers.add(MODEL, arguments, described)
    keep_last, keep_every = self._keep
    unfinished = None if isinstance(self.path, epath.Path) else _CommittedFolder  # None: as Orbax does in a bucket
    writing = {"max_to_keep": keep_last, "keep_period": keep_every, "temporary_path_class": unfinished}
    options = ocp.CheckpointManagerOptions(**{"read_only": True} if self._folder.read_only else writing)
    return ocp.CheckpointManager(self.path, options=options, handler_registry=handlers)

  def _check_fingerprint(self) -> None:
    try:
      stored = read_fingerprint(self.step_path(self.latest()))
    except ValueError:
      self._refuse_damaged()
      raise
    changes = sorted(differences(stored, self._fingerprint), key=lambda change: "absent" in change)
    if changes:
      more = f"; and {len(changes) - _CHANGES_LISTED} more" if len(changes) > _CHANGES_LISTED else ""
      raise ValueError(
        f"--workdir={self._folder.name} holds another run: {'; '.join(changes[:_CHANGES_LISTED])}{more};"
        " set these back, or choose another --workdir"
      )

  def _refuse_damaged(self) -> None:
    """Raises ValueError if the newest checkpoint is not whole.

    The user decides whether to continue from an older one: the updates between them are done again, and the damaged
    one must make room.
    """
    step, damaged = newest_whole(self.path, parts=None)
    if damaged:
      then = "starts anew: there is no other" if step is None else f"goes on from step {step}, which is whole"
      raise ValueError(f"{'; '.join(damaged)}; copy it again, or delete it, and the run {then}")

  def latest(self) -> int | None:
    """Returns the step of the newest checkpoint, or None."""
    return self._manager.latest_step()

  def step_path(self, step: int) -> pathlib.PurePath:
    """Returns the folder of a checkpoint, local or in a bucket."""
    return self.path / str(step)

  def save(self, step: int, state, wait: bool = False) -> None:
    """Starts writing the state after update `step`; returns once it may be changed or donated.

    In a bucket, a save that failed is tried again: at once, or with the next state if it failed in the background. Of
    several processes none knows what the others wrote, so there a failed save ends the run.

    Args:
      step: number of updates done.
      state: the state after them.
      wait: return once it is written, as `wait`.

    Raises:
      CheckpointError: too little space, or this or the previous save failed.
    """
    if not self._folder.in_bucket:
      needed, free = state_bytes(state), shutil.disk_usage(self.path).free
      if free < needed:
        raise CheckpointError(
          f"cannot save step {step}: it needs {_megabytes(needed)}, {self.path} has {_megabytes(free)} free; make"
          f" room, or choose a --workdir on another disk ({self._last_good()})"
        )
    try:
      self._check_for_errors()
      self._failures = 0
    except Exception as e:
      self._retry_or_raise(self._saving, e, f"step {step} is saved next")
    while True:
      try:
        return self._save(step, state, wait)
      except RunTakenOver:
        raise
      except Exception as e:
        self._retry_or_raise(step, e, "trying again")

  def _retry_or_raise(self, step: int, error: Exception, then: str) -> None:
    """Makes the checkpoints ready for another save after a failed one; raises `CheckpointError` after two in a row."""
    self._failures += 1
    if not self._folder.in_bucket or jax.process_count() > 1 or self._failures > 1:
      raise self._failed(step, error) from error
    print(f"warning: step {step} could not be saved: {brief(error)}; {then}", file=sys.stderr, flush=True)
    with contextlib.suppress(Exception):  # it failed already
      self._manager.close()
    time.sleep(_PAUSE_S)
    self._upload = None
    if self._folder.uploads:
      shutil.rmtree(self.path / str(step), ignore_errors=True)
    _remove_unfinished(self.path, True)
    self._manager = self._open()

  def _save(self, step: int, state, wait: bool) -> None:
    self._folder.publish()
    items = {STATE: ocp.args.StandardSave(state.stored()), FINGERPRINT: ocp.args.JsonSave(self._fingerprint)}
    if self._model is not None:
      items[MODEL] = ocp.args.JsonSave(self._model)
    self._saving = step
    self._manager.save(step, args=ocp.args.Composite(**items), force=True)
    if self._folder.uploads:
      self._upload = self._uploader.submit(self._upload_when_written, step)
    if wait:
      self._wait_until_finished()

  def _upload_when_written(self, step: int) -> None:
    self._manager.wait_until_finished()
    self._folder.upload_checkpoint(step, *self._keep)

  def _wait_until_finished(self) -> None:
    self._manager.wait_until_finished()
    if self._upload is not None:
      self._upload.result()

  def _check_for_errors(self) -> None:
    self._manager.check_for_errors()
    if self._upload is not None:  # one at a time: a save waits for the one before it, as Orbax does
      self._upload.result()

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
      self._wait_until_finished()
    except Exception as e:
      raise self._failed(None, e) from e

  def close(self) -> None:
    """Waits for started saves and releases the folder; raises as `wait`."""
    try:
      self.wait()
    finally:
      self._uploader.shutdown()
      self._manager.close()

  def _failed(self, step: int | None, error: Exception) -> CheckpointError:
    cure = "see that the bucket can be written" if self._folder.in_bucket else "make room"
    what = f"step {step}" if step is not None else "the last checkpoint"
    return CheckpointError(
      f"cannot save {what} under {self._folder.child(CHECKPOINTS)}: {brief(error)}; {cure} or choose another --workdir"
      f" ({self._last_good()})"
    )

  def _last_good(self) -> str:
    try:
      steps = self._folder.saved_steps()
    except OSError:
      return f"the last good checkpoint under {self._folder.child(CHECKPOINTS)} cannot be looked up now"
    return f"last good checkpoint: {self._folder.child(CHECKPOINTS, str(steps[-1]))}" if steps else "no checkpoint yet"


def state_bytes(state) -> int:
  """Returns the size of all arrays of a tree in bytes."""
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _remove_unfinished(path, in_bucket: bool) -> None:
  """Deletes what killed saves left and nothing else; Orbax ignores it, but it may be large."""
  if jax.process_index() == 0 and path.is_dir():
    for entry in path.glob("*.orbax-checkpoint-tmp*"):
      shutil.rmtree(entry, ignore_errors=True)
    for step in steps_in(path) if in_bucket else ():  # a bucket cannot rename: the final name is there from the start
      if not (path / str(step) / COMMITTED).exists():
        epath.Path(path / str(step)).rmtree()


def _megabytes(size: int) -> str:
  return f"{size / 1e6:,.1f} MB"
