"""Frames of videos, and of several synchronized cameras, stored as files in folders."""

import collections
import os
import re

import numpy as np

from input_pipeline.source import ImageSource, bounded
from input_pipeline.sources.containers.folder import FolderSource

# The name of a frame: a prefix and its number, e.g. 00017, frame_00017 or cam01_00017.
_FRAME = re.compile(r"(?P<prefix>.*?)[-_. ]*(?P<number>\d{1,15})")


class FrameSource(ImageSource):
  """All numbered frames below a folder, sorted by folder, prefix and number.

  Facts of an image: `frame`, its number; `group`, the folder of the recording; `camera`, for kind multiview:

    video      each folder with images is a video.
    multiview  a folder with several prefixes (cam01_00017.jpg, cam02_00017.jpg) is a recording, and the prefixes are
               its cameras; a folder with one prefix (00017.jpg) is a camera, and the folder above it is the recording.
               Frames with the same number show the same instant.

  Images without a number at the end of their name (00017_mask.png, background.jpg) are left out.

  Args:
    kind: video or multiview.
    files: the images of the folder.
    setting: the option or setting that gave the folder, named in messages.

  Raises:
    ValueError: no name ends in a number, or, for multiview, no two images show the same instant.
  """

  def __init__(self, kind: str, files: FolderSource, setting: str):
    self._files, self._kind = files, kind
    left_out, prefixes, frames = list(files.left_out), collections.defaultdict(set), []
    for i in range(len(files)):
      folder, prefix, number = _parsed(files.name(i))
      if number is None:
        left_out.append((files.name(i), "its name does not end in the number of a frame"))
      else:
        prefixes[folder].add(prefix)
        frames.append((folder, prefix, number, i))
    self._recordings = {folder for folder, names in prefixes.items() if len(names) > 1}
    frames.sort()
    self._indices = np.array([i for *_, i in frames], np.int64)
    self.left_out = bounded(left_out)
    self.identity = files.identity | {"source": kind, "length": len(self)}
    if not frames:
      raise ValueError(
        f"{setting}: no image of {files.identity['name']!r} has a name that ends in the number of a frame; "
        f"expected names as 00017.jpg or frame_00017.jpg, got e.g. {files.name(0)!r}"
      )
    if kind == "multiview":
      self._check_views(setting)

  def __len__(self) -> int:
    return len(self._indices)

  def read(self, i: int) -> bytes:
    return self._files.read(int(self._indices[i]))

  def name(self, i: int) -> str:
    return self._files.name(int(self._indices[i]))

  def path(self, i: int) -> str:
    """Path or URL of image `i`."""
    return self._files.path(int(self._indices[i]))

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    folder, prefix, number = _parsed(self.name(i))
    facts = {"frame": number, "group": folder}
    if self._kind == "multiview":
      camera = (
        {"camera": prefix}
        if folder in self._recordings
        else {"group": os.path.dirname(folder), "camera": os.path.basename(folder)}
      )
      facts |= camera
    return facts, {}

  def _check_views(self, setting: str) -> None:
    instants = collections.Counter()
    for i in range(len(self)):
      facts, _ = self.annotations(i)
      instants[facts["group"], facts["frame"]] += 1
      if instants[facts["group"], facts["frame"]] > 1:
        return
    raise ValueError(
      f"{setting}: no two images of {self.identity['name']!r} show the same instant, e.g. {self.name(0)!r}; expected "
      "CAMERA/00017.jpg or CAMERA_00017.jpg with the same number from every camera, or data.source=video"
    )

  def __getstate__(self) -> dict:
    return self.__dict__ | {"left_out": ()}


def open_video(path: str, split: str | None, cache_dir: str, setting: str) -> FrameSource:
  """Opens folders of frames; see `FrameSource`."""
  return FrameSource("video", FolderSource(path, cache_dir, setting), setting)


def open_multiview(path: str, split: str | None, cache_dir: str, setting: str) -> FrameSource:
  """Opens frames of several cameras; see `FrameSource`."""
  return FrameSource("multiview", FolderSource(path, cache_dir, setting), setting)


def _parsed(name: str) -> tuple[str, str, int | None]:
  """Returns folder, prefix and number of a frame; the number is None if the name does not end in one."""
  folder, base = os.path.split(os.path.splitext(name)[0])
  match = _FRAME.fullmatch(base)
  return (folder, match["prefix"], int(match["number"])) if match else (folder, base, None)
