"""Where encoded images come from: one small interface, and the table of its implementations."""

import pathlib
from collections.abc import Callable
from typing import Protocol

from input_pipeline.folder import FolderSource
from input_pipeline.people.dataset import open_people


class ImageSource(Protocol):
  """Encoded images by position.

  The one interface between a data set and the pipeline: a new kind of data needs these four members and nothing
  else. A source is pickled into every decoding process, so its state must be small (paths, not names or bytes).
  """

  identity: dict
  """JSON-able {source, name, length, digest}, the same wherever the data lies; part of a run's fingerprint."""

  def __len__(self) -> int:
    """The number of images; at least one."""
    ...

  def read(self, i: int) -> bytes:
    """The encoded bytes of image `i`; raises OSError where they cannot be read."""
    ...

  def name(self, i: int) -> str:
    """What a person would call image `i`, for messages."""
    ...


def _open_folder(path: str | None, cache_dir: str, people_count: int) -> FolderSource:
  del people_count
  if path is None:
    raise ValueError("data.source=folder needs data.path, the folder of images, e.g. --config.data.path=DIR")
  return FolderSource(path, cache_dir)


def _open_people(path: str | None, cache_dir: str, people_count: int):
  del cache_dir
  return open_people(path, people_count)


SOURCES: dict[str, Callable[[str | None, str, int], ImageSource]] = {
    "folder": _open_folder,
    "people": _open_people,
}


def open_source(source: str, path: str | pathlib.Path | None, cache_dir: str | pathlib.Path,
                people_count: int) -> ImageSource:
  """Opens the data set that a configuration names.

  Args:
    source: a key of `SOURCES` (`data.source`).
    path: where the data lies (`data.path`); None: the source's own default, if it has one.
    cache_dir: a folder of the run for what the source wants to remember; never inside the data.
    people_count: size of the default set of built-in people, all splits together, used where `path` is None.

  Returns:
    The opened source.

  Raises:
    ValueError: unknown source, or data that is missing or unusable; one line that names the setting.
  """
  if source not in SOURCES:
    raise ValueError(f"data.source={source!r} is unknown; choose one of: {', '.join(sorted(SOURCES))}")
  return SOURCES[source](None if path is None else str(path), str(cache_dir), people_count)
