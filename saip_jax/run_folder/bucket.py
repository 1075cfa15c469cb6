"""The folder of a run that trains into a bucket."""

import functools
import json
import pathlib
import shutil
import uuid
from collections.abc import Mapping
from typing import Any

import jax
import tensorstore as ts
from etils import epath

from input_pipeline import buckets, storage
from saip_jax.run_folder import remote
from saip_jax.run_folder.files import CHECKPOINTS, COMMITTED, CONFIG, LOCK
from saip_jax.run_folder.integrity import kvstore
from saip_jax.run_folder.lock import holder_of, holder_record
from saip_jax.run_folder.workdir import RunFolder, refuse_other_files

_ORBAX_WRITES = "gs"  # the only scheme that Orbax reads and writes itself


class RunTakenOver(ValueError):
  """Another run has been started in the same folder of a bucket."""


class BucketFolder(RunFolder):
  """The folder of a run at a URL.

  Orbax writes checkpoints to gs:// itself. For other schemes it writes them to the local folder, and they are uploaded.
  All other files are written locally, and `publish` uploads what has changed. It is called before a checkpoint is
  written, so that nothing that precedes a checkpoint is missing.

  One run at a time writes: the run that was started last. An earlier one stops at its next `publish`. The bucket knows
  which one is the last from W/run.lock, which no clock is needed for.
  """

  in_bucket = True

  def __init__(self, url: str):
    """Makes the local folder of a run at a URL.

    Raises:
      ValueError: several processes and a scheme that needs uploads.
    """
    scheme = url.partition("://")[0]
    self.uploads = scheme != _ORBAX_WRITES
    if jax.process_count() > 1 and self.uploads:
      raise ValueError(
        f"--workdir={url}: a run of several processes can be in {_ORBAX_WRITES}:// or in a folder that all of them"
        f" mount, not in {scheme}://"
      )
    place = url.replace("://", "_").replace("/", "_")
    super().__init__(pathlib.Path(storage.cache_folder()) / "runs" / f"{place}.{jax.process_index()}")
    self.name = url
    self.data_cache = pathlib.Path(storage.cache_folder())
    if not self.uploads:
      self.checkpoints = epath.Path(url) / CHECKPOINTS
    self._id, self._held = uuid.uuid4().hex, False
    self._published: dict[str, tuple[int, int]] = {}  # as `_stamps`
    with storage.writing(self.path, "the local files of a run in ", storage.CACHE_ADVICE):
      self.path.mkdir(parents=True, exist_ok=True)

  def begin(self, config: Mapping[str, Any]) -> None:
    """Claims the folder in the bucket and copies what a resumed run goes on with.

    Raises:
      ValueError: the folder holds something else, or the bucket cannot be reached or written.
    """
    self._clear()  # of what an earlier start left on this machine
    advice = "see that the bucket exists, that this machine reaches it and that its account may write there"
    with storage.writing(self.name, "--workdir=", advice):
      found = remote.reachable(self.name, lambda: buckets.versions(self.name))
      refuse_other_files(self.name, found.keys(), left={LOCK})
      if jax.process_index() == 0:
        remote.reachable(self.name, lambda: self._claim(found, config))
    self._held = True
    read = {name: version for name, version in found.items() if "/" not in name and name != LOCK}
    remote.copy_files(self.name, read, self.path)
    self._published = self._stamps()
    if self.uploads:
      steps = remote.committed_steps(found)
      started = {name.split("/")[1] for name in found if name.startswith(f"{CHECKPOINTS}/")}
      for unfinished in sorted(started - set(map(str, steps))):
        url = self.child(CHECKPOINTS, unfinished)
        remote.retried(url, functools.partial(buckets.remove_tree, url))
      for step in steps[:1]:
        remote.copy_checkpoint(self.name, found, step, self.path)

  def _clear(self) -> None:
    for entry in self.path.iterdir():
      if entry.name != LOCK:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

  def _claim(self, found: Mapping[str, str], config: Mapping[str, Any]) -> None:
    """Writes the lock, and the config of a new run; checks that TensorStore, which Orbax uses, reaches the bucket."""
    if LOCK in found:
      print(f"note: {self._holder()} held {self.name}; if it still runs, it stops at its next checkpoint", flush=True)
    record = holder_record(id=self._id)
    storage.write_file(self.child(LOCK), record)
    self._held = True
    if not self.uploads:
      try:
        store = ts.KvStore.open(kvstore(f"{self.name}/")).result()
        seen = store.read(LOCK).result().value
      except Exception as error:  # TensorStore raises errors of many kinds
        raise OSError(f"{self.name}: TensorStore cannot read it: {error}") from error
      if seen != record:
        raise OSError(f"{self.name}: TensorStore and fsspec see different files; see TENSORSTORE_GCS_HTTP_URL")
    if CONFIG not in found:
      storage.write_file(self.child(CONFIG), (json.dumps(config, indent=2) + "\n").encode())

  def _lock(self) -> bytes:
    try:
      return storage.read_file(self.child(LOCK))
    except FileNotFoundError:
      return b""

  def _holder(self) -> str:
    try:
      return holder_of(self._lock())
    except (ValueError, KeyError, TypeError):
      return "another run"

  def _stamps(self) -> dict[str, tuple[int, int]]:
    """Returns name -> (size, time) of the local files that belong into the bucket."""
    files = [path for path in self.path.rglob("*") if path.is_file() and path.suffix not in (".partial", ".unfinished")]
    named = {path.relative_to(self.path).as_posix(): path.stat() for path in files}
    mine = {n: s for n, s in named.items() if n != LOCK and not n.startswith(f"{CHECKPOINTS}/")}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in mine.items()}

  def publish(self) -> None:
    """Uploads the files that have changed.

    Raises:
      RunTakenOver: another run was started in this folder.
      OSError: the bucket cannot be written.
    """
    if not self._held:
      return
    if jax.process_index() == 0 and self._id.encode() not in remote.retried(self.name, self._lock):
      self._held = False  # nothing more is written there
      raise RunTakenOver(f"--workdir={self.name} was taken over by {self._holder()}: this run stops")
    for name, stamp in self._stamps().items():
      if self._published.get(name) != stamp:
        url = self.child(name)
        remote.retried(url, functools.partial(buckets.upload, self.path / name, url))
        self._published[name] = stamp

  def saved_steps(self) -> list[int]:
    """Returns the steps of the committed checkpoints in the bucket, oldest first; raises OSError."""
    return remote.committed_steps(remote.reachable(self.name, lambda: buckets.versions(self.name)))[::-1]

  def upload_checkpoint(self, step: int, keep_last: int, keep_every: int | None) -> None:
    """Uploads a checkpoint, the file that makes it whole last, and removes those that are not kept.

    Raises:
      OSError: the bucket cannot be written.
    """
    folder, whole = self.checkpoints / str(step), f"{CHECKPOINTS}/{step}/{COMMITTED}"
    names = sorted(path.relative_to(self.path).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in [*(name for name in names if name != whole), whole]:
      url = self.child(name)
      remote.retried(url, functools.partial(buckets.upload, self.path / name, url))
    steps = remote.committed_steps(remote.retried(self.name, lambda: buckets.versions(self.name)))
    for old in steps[keep_last:]:
      if not keep_every or old % keep_every:
        url = self.child(CHECKPOINTS, str(old))
        remote.retried(url, functools.partial(storage.remove, f"{url}/{COMMITTED}"))
        remote.retried(url, functools.partial(buckets.remove_tree, url))

  def end(self) -> None:
    """Uploads what has changed and releases the folder; what cannot be uploaded stays in the local folder."""
    try:
      self.publish()
    except OSError as error:
      raise OSError(f"{error}; the last files of the run are in {self.path}") from error
    if self._held:
      self._held = False
      if jax.process_index() == 0:
        storage.remove(self.child(LOCK))
      self._clear()
