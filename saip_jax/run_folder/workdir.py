"""The folder of a run that trains on this machine's disks."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from saip_jax.run_folder.files import CHECKPOINTS, CONFIG
from saip_jax.run_folder.integrity import steps_in


class RunFolder:
  """The folder of a run, for the process that trains there.

  Attributes:
    path: the local folder of its files; for a run in a bucket without its checkpoints.
    name: the folder as the user named it.
    checkpoints: the folder that Orbax writes to.
    data_cache: the folder for data that this process renders or indexes.
    in_bucket: whether the folder is in a bucket.
    uploads: whether checkpoints must be uploaded.
    read_only: whether nothing may be written there.
  """

  in_bucket = False
  uploads = False
  read_only = False

  def __init__(self, path):
    self.path = pathlib.Path(path)
    self.name = str(path)
    self.checkpoints = self.path.absolute() / CHECKPOINTS
    self.data_cache = self.path

  @classmethod
  def of(cls, workdir) -> "RunFolder":
    """Returns the folder itself, or that of a local path."""
    return workdir if isinstance(workdir, RunFolder) else cls(workdir)

  def child(self, *names: str) -> str:
    """Returns a path in the folder as the user would name it."""
    return "/".join((self.name, *names))

  def begin(self, config: Mapping[str, Any]) -> None:
    """Makes the local folder what the run was when it stopped; to be called by every process, the first one first."""

  def publish(self) -> None:
    """Returns when all files of this process, but for the checkpoints, are where the user wants them."""

  def saved_steps(self) -> list[int]:
    """Returns the steps of the checkpoints that are where the user wants them, oldest first; raises OSError."""
    return steps_in(self.checkpoints)

  def upload_checkpoint(self, step: int, keep_last: int, keep_every: int | None) -> None:
    """Uploads a checkpoint that Orbax has written, if the folder `uploads`, and removes those that are not kept."""

  def end(self) -> None:
    """Gives the folder back to other runs."""


def refuse_other_files(place, names: Collection[str], left: Collection[str]) -> None:
  """Raises ValueError if a folder holds something else than a run.

  Args:
    place: the folder, for the message.
    names: of its files.
    left: names that a start which ended early may have left.
  """
  if CONFIG not in names and set(names) - set(left):
    raise ValueError(f"--workdir={place} holds files but no config.json of a run: choose an empty or new folder")
