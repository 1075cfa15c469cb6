"""Masks of persons, read from the formats that annotations use.

A reference is JSON-able and one of: {"polygons": [[x, y, x, y, ...], ...]} in pixels of the photo; {"runs": {"size",
"counts"}}, COCO's run-length encoding, compressed or not; {"png": path below the root, "value": k} or {"png",
"colour": id}: the pixels of a PNG with value k, or with R + 256 G + 65536 B = id.
"""

import cv2
import numpy as np

from input_pipeline import storage
from input_pipeline.checks import is_number
from input_pipeline.sources.annotated.person import numbers

# Pixels; larger coordinates make pycocotools slow and overflow its counters.
_MAX_COORDINATE = 1e5


def coco_mask(segmentation, size: tuple[int, int] | None) -> dict | None:
  """Returns the reference for a COCO `segmentation`; None if it is unusable.

  Args:
    segmentation: polygons or runs, as parsed from JSON.
    size: (width, height) that the photo must have; None if unknown.
  """
  if isinstance(segmentation, list):
    polygons = [
      polygon
      for polygon in map(numbers, segmentation)
      if polygon and len(polygon) >= 6 and max(map(abs, polygon)) < _MAX_COORDINATE
    ]
    return {"polygons": [polygon[: len(polygon) // 2 * 2] for polygon in polygons]} if polygons else None
  if not isinstance(segmentation, dict):
    return None
  hw, counts = numbers(segmentation.get("size"), 2), segmentation.get("counts")
  if hw is None or (size is not None and (hw[1], hw[0]) != tuple(size)):
    return None
  if isinstance(counts, list):
    counts = [int(count) for count in counts] if all(map(is_number, counts)) else None
  return {"runs": {"size": [int(n) for n in hw], "counts": counts}} if isinstance(counts, (list, str)) else None


def read_mask(reference: dict, root: str, hw: tuple[int, int]) -> np.ndarray:
  """Reads the mask of a person.

  Args:
    reference: see the module.
    root: folder or URL of the data set, for masks in files.
    hw: (height, width) of the photo.

  Returns:
    (H, W) bool.

  Raises:
    OSError: the mask cannot be read, or has another size than the photo.
  """
  if "png" in reference:
    mask = _read_png(f"{root}/{reference['png']}", reference)
  else:
    mask = _read_coco(reference, hw)
  if mask.shape != tuple(hw):
    raise OSError(f"the mask has {mask.shape[1]} x {mask.shape[0]} pixels, its photo {hw[1]} x {hw[0]}")
  return mask


def _read_png(path: str, reference: dict) -> np.ndarray:
  data = np.frombuffer(storage.read_file(path), np.uint8)
  colors = "colour" in reference
  flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION if colors else cv2.IMREAD_UNCHANGED
  image = cv2.imdecode(data, flags) if data.size else None
  if image is None or image.ndim != 2 + colors:
    raise OSError(f"{path} is not an image of masks")
  if not colors:
    return image == reference["value"]
  blue, green, red = (image[..., k].astype(np.uint32) for k in range(3))
  return red + 256 * green + 65536 * blue == reference["colour"]


def _read_coco(reference: dict, hw: tuple[int, int]) -> np.ndarray:
  if "polygons" not in reference:
    return _mask_of_runs(reference["runs"], hw)
  try:
    from pycocotools import mask as coco_masks
  except ImportError as error:
    raise OSError("polygons of COCO need pycocotools: pip install pycocotools") from error
  return coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(reference["polygons"], *hw))).astype(bool)


def _mask_of_runs(runs: dict, hw: tuple[int, int]) -> np.ndarray:
  """Decodes run lengths outside, inside, outside, ... in column order; checked, as pycocotools corrupts memory if they
  are wrong."""
  counts = _uncompressed(runs["counts"]) if isinstance(runs["counts"], str) else runs["counts"]
  if tuple(runs["size"]) != tuple(hw) or min(counts, default=-1) < 0 or sum(counts) != hw[0] * hw[1]:
    raise OSError(f"the runs of the mask do not cover {hw[1]} x {hw[0]} pixels")
  return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(hw[::-1]).T


def _uncompressed(text: str) -> list[int]:
  """Decodes COCO's compressed runs: 5 bits per character, lowest first; bit 5 marks that more characters follow; the
  last character holds the sign; from the fourth run on, each is the difference to the run two before."""
  counts, value, shift = [], 0, 0
  for character in text:
    bits = ord(character) - 48
    if not 0 <= bits < 64 or shift > 60:
      raise OSError("the compressed runs of the mask are damaged")
    value |= (bits & 31) << shift
    shift += 5
    if not bits & 32:
      value -= (1 << shift) if bits & 16 else 0
      counts.append(value + (counts[-2] if len(counts) > 2 else 0))
      value = shift = 0
  return counts
