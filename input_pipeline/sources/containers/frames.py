"""Frames of videos, and of several cameras at once, as files in folders."""

import collections
import os
import re

import numpy as np

from input_pipeline.source import ImageSource, bounded
from input_pipeline.sources.containers.folder import FolderSource

# What a frame is called: what stands before its number, and the number, 00017 or frame_00017 or cam01_00017.
_FRAME = re.compile(r"(?P<before>.*?)[-_. ]*(?P<number>\d{1,15})")


class FrameSource(ImageSource):
  """Every file below a folder whose name ends in the number of a frame, in the order of their names and numbers.

  Facts of an image: `frame`, its number; `group`, the folder that holds the recording; `camera`, for kind multiview:

    video      a folder with images is a video.
    multiview  a folder whose names begin in different ways (cam01_00017.jpg, cam02_00017.jpg) is a recording, and the
               beginnings are its cameras; a folder whose names begin alike (00017.jpg) is a camera of the recording
               that the folder above it is. Frames of one number were taken at one instant.

  Other images (00017_mask.png, background.jpg) are left out.

  Args:
    kind: video or multiview.
    files: the images of the folder.
    setting: the name of the setting that gave the folder, for messages.

  Raises:
    ValueError: no name ends in a number, or, for multiview, no instant was seen by two cameras.
  """

  def __init__(self, kind: str, files: FolderSource, setting: str):
    self._files, self._kind = files, kind
    left_out, beginnings, frames = list(files.left_out), collections.defaultdict(set), []
    for i in range(len(files)):
      folder, before, number = _parsed(files.name(i))
      if number is None:
        left_out.append((files.name(i), "its name does not end in the number of a frame"))
      else:
        beginnings[folder].add(before)
        frames.append((folder, before, number, i))
    self._recordings = {folder for folder, names in beginnings.items() if len(names) > 1}
    frames.sort()
    self._indices = np.array([i for *_, i in frames], np.int64)
    self.left_out = bounded(left_out)
    self.identity = files.identity | {"source": kind, "length": len(self)}
    if not frames:
      raise ValueError(
        f"{setting}: no image of {files.identity['name']!r} is called after the number of its frame; "
        f"expected names as 00017.jpg or frame_00017.jpg, e.g. {files.name(0)!r} is none"
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
    folder, before, number = _parsed(self.name(i))
    facts = {"frame": number, "group": folder}
    if self._kind == "multiview":
      camera = (
        {"camera": before}
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
      f"{setting}: no two images of {self.identity['name']!r} are of one instant, e.g. {self.name(0)!r}; expected "
      "CAMERA/00017.jpg or CAMERA_00017.jpg with the same number from every camera, or data.source=video"
    )

  def __getstate__(self) -> dict:
    return self.__dict__ | {"left_out": ()}


def open_video(path: str, split: str | None, cache_dir: str, setting: str) -> FrameSource:
  """Folders of frames; see `FrameSource`."""
  return FrameSource("video", FolderSource(path, cache_dir, setting), setting)


def open_multiview(path: str, split: str | None, cache_dir: str, setting: str) -> FrameSource:
  """Frames of several cameras; see `FrameSource`."""
  return FrameSource("multiview", FolderSource(path, cache_dir, setting), setting)


def _parsed(name: str) -> tuple[str, str, int | None]:
  """Folder of a frame, what its name begins with, and its number; None for a name that ends in none."""
  folder, base = os.path.split(os.path.splitext(name)[0])
  match = _FRAME.fullmatch(base)
  return (folder, match["before"], int(match["number"])) if match else (folder, base, None)
