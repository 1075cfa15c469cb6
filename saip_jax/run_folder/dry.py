"""The folder of a run as a dry run sees it: it is read, and nothing is left there."""

import contextlib
import hashlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from input_pipeline import buckets, storage
from saip_jax.run_folder import remote
from saip_jax.run_folder.files import CHECKPOINTS, CONFIG, LOCK
from saip_jax.run_folder.folder import refuse_other_content
from saip_jax.run_folder.lock import refuse_held
from saip_jax.run_folder.workdir import RunFolder, refuse_other_files


class DryFolder(RunFolder):
  """A folder that a run could use.

  Attributes:
    exists: whether it holds a run.
  """

  read_only = True

  def __init__(self, workdir, scratch: pathlib.Path):
    """Looks at the folder.

    Args:
      workdir: a local path or a URL.
      scratch: a local folder for indexes of the data; those of the run are used again.

    Raises:
      ValueError: the folder holds something else, or another run is using it.
      OSError: a bucket that cannot be read.
    """
    place = storage.as_place(workdir, "--workdir", writable=True)
    self.in_bucket = isinstance(place, str)
    if isinstance(place, str):
      found = remote.reachable(place, lambda: buckets.versions(place))
      (scratch / "workdir").mkdir()
      super().__init__(remote.local(place) if CONFIG in found else scratch / "workdir")
      refuse_other_files(place, found.keys(), left={LOCK})
    else:
      super().__init__(storage.utf8_path(place, "--workdir"))
      refuse_other_content(self.path)
      refuse_held(self.path)
    self.name = place if isinstance(place, str) else str(self.path)
    self.exists = (self.path / CONFIG).exists()
    self.data_cache = scratch
    for index in self.path.glob("*_index_*"):
      (scratch / index.name).symlink_to(index)

  @contextlib.contextmanager
  def mark(self) -> Iterator[None]:
    """Proves that the folder can be made and written: something is there in a block, and nothing after it."""
    if self.in_bucket:
      url = self.child(self._mark_name)
      with storage.writing(self.name, "--workdir=", "see that the bucket exists and that its account may write there"):
        remote.reachable(self.name, lambda: storage.write_file(url, b"dry run"))
        yield
        remote.reachable(self.name, lambda: storage.remove(url))
      return
    folder = self.nearest
    with storage.writing(self.name, "--workdir=", "choose a folder that can be written"):
      made = pathlib.Path(tempfile.mkdtemp(prefix=f"{self._mark_name}-", dir=folder))
      try:
        (made / "file").write_bytes(b"dry run")
        yield
      finally:
        shutil.rmtree(made, ignore_errors=True)

  def check_shared(self, process: int) -> None:
    """Raises ValueError unless the mark of the first process is seen here."""
    if not self.in_bucket and not any(self.nearest.glob(f"{self._mark_name}-*")):
      raise ValueError(
        f"--workdir={self.name} is not shared: process {process} does not see the files that process 0 wrote there;"
        " choose a folder that all hosts mount"
      )

  @property
  def _mark_name(self) -> str:
    return f".saip_dry_run_{hashlib.sha256(self.name.encode()).hexdigest()[:12]}"

  @property
  def nearest(self) -> pathlib.Path:
    """The local folder, or the nearest path above it that exists."""
    return next(folder for folder in (self.path, *self.path.parents) if folder.exists())

  @property
  def checkpoint_bytes(self) -> int:
    """Bytes of the checkpoints that it holds."""
    files = (self.path / CHECKPOINTS).rglob("*") if not self.in_bucket else ()
    return sum(file.stat().st_size for file in files if file.is_file())

  @property
  def free_bytes(self) -> int | None:
    """Bytes of room on its disk; None in a bucket."""
    return None if self.in_bucket else shutil.disk_usage(self.nearest).free
