"""CropSource: one image per annotated person, cut out of its photo."""

import hashlib
import json
import math
import os
from collections.abc import Sequence

import cv2
import numpy as np

from input_pipeline import storage
from input_pipeline.decode import DamagedImage, decode_photo
from input_pipeline.records import keypoints_lost, moved_person
from input_pipeline.source import ImageSource
from input_pipeline.sources.annotated.masks import read_mask
from input_pipeline.sources.index import Index

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


class CropSource(ImageSource):
  """One crop for each annotated person of a data set.

  A crop is the person's box, grown by the margin, clipped to the photo and rounded outward to whole pixels. It is
  encoded as JPEG of quality 95 without chroma subsampling: the same bytes every time, so that training from photos
  equals training from a prepared set (`saip prepare`). Facts and mask are in the crop's own pixels. The photo's
  persons without a crop are passed on with the facts that keypoint AP needs.

  Coordinates are in the photo's stored pixels or in the upright photo (its orientation applied), whichever has the
  size that the annotation gives; in stored pixels if it gives none, as pycocotools shows them.

  Args:
    index: rows of `crops.open_crops`.
    identity: {source, name}; length and digest are added.
    margin: growth of a box on every side, as a fraction of its larger side.
  """

  def __init__(self, index: Index, identity: dict, margin: float):
    self._index, self._root, self._margin = index, index.header["photo_root"], margin
    self.left_out = [tuple(item) for item in index.header["left_out"]]
    self.legend, self.categories = index.header["legend"], index.header["categories"]
    self.read_from = list(index.header["files"])
    digest = hashlib.sha256(f"{index.header['digest']} {margin!r}".encode()).hexdigest()[:16]
    self.identity = identity | {"length": len(self), "digest": digest}

  def __len__(self) -> int:
    return len(self._index)

  def name(self, i: int) -> str:
    return os.fsdecode(self._index.text("name", i))

  def read(self, i: int) -> bytes:
    """Returns the crop of person `i` as JPEG; raises OSError if its photo cannot be read or decoded, or has changed."""
    try:
      photo = decode_photo(storage.read_file(f"{self._root}/{self._photo(i)}"), bool(self._index.columns["upright"][i]))
    except DamagedImage as error:
      raise OSError(f"{self._photo(i)}: {error}") from error
    height, width = self._photo_hw(i)
    if photo.shape[:2] != (height, width):
      raise OSError(
        f"{self._photo(i)} has {photo.shape[1]} x {photo.shape[0]} pixels; it had {width} x {height} when "
        "the data set was indexed"
      )
    left, top, right, bottom = self.crop_box(i)
    encoded, data = cv2.imencode(".jpg", photo[top:bottom, left:right, ::-1], _JPEG)
    if not encoded:
      raise OSError(f"{self.name(i)}: a crop of {right - left} x {bottom - top} pixels is too large for a JPEG")
    return data.tobytes()

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    """Returns the facts of person `i`, and instances.png if the person has a mask.

    The facts: `people`, the one person in the crop's pixels; the photo's facts; `photo`, its name; `crop`, the crop's
    [x, y, width, height] in the photo; `outside`, the person's keypoints outside the crop; `not_cut_out`, the photo's
    persons without a crop.
    """
    left, top, right, bottom = self.crop_box(i)
    facts = json.loads(self._index.text("facts", i))
    in_photo = facts.pop("person")
    person = moved_person(in_photo, shift_xy=(-left, -top), size=(right - left, bottom - top))
    outside = keypoints_lost(in_photo, person)
    reference, files = self._index.text("mask", i), {}
    if reference:
      mask = read_mask(json.loads(reference), self._root, self._photo_hw(i))[top:bottom, left:right]
      files["instances.png"] = cv2.imencode(".png", mask.astype(np.uint8))[1].tobytes()
    place = {
      "photo": os.fsencode(self._photo(i)).decode("utf-8", "backslashreplace"),
      "crop": [left, top, right - left, bottom - top],
    }
    return facts | place | ({"outside": outside} if outside else {}) | {"people": [person]}, files

  def crop_box(self, i: int) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of crop `i` in pixels of its photo."""
    return grown_box(self._index.columns["box"][i].tolist(), self._photo_hw(i), self._margin)

  def _photo(self, i: int) -> str:
    return os.fsdecode(self._index.text("photo", i))

  def _photo_hw(self, i: int) -> tuple[int, int]:
    return tuple(self._index.columns["photo_hw"][i].tolist())


def grown_box(box: Sequence[float], hw: tuple[int, int], margin: float) -> tuple[int, int, int, int]:
  """Returns a box grown by `margin` of its larger side, clipped to the photo and rounded outward to whole pixels."""
  x1, y1, x2, y2 = box
  step = margin * max(x2 - x1, y2 - y1)
  return (
    max(0, math.floor(x1 - step)),
    max(0, math.floor(y1 - step)),
    min(hw[1], math.ceil(x2 + step)),
    min(hw[0], math.ceil(y2 + step)),
  )
