"""Label planes: a label for every pixel, read from the formats that data sets use.

A reference is JSON-able and one of: {"png": path below the root}, whose values (or palette indices) are the labels;
{"mat": path below the root, "variable": name}; {"layers": [[label, mask], ...]}, where masks are references of
masks.py, smaller ones are drawn over larger ones, and pixels without a mask are 0.
"""

import io

import numpy as np
from PIL import Image

from input_pipeline import storage
from input_pipeline.records import IGNORE_LABEL
from input_pipeline.sources.annotated.masks import read_mask
from input_pipeline.sources.annotated.matlab import load_matlab


def read_labels(reference: dict, root: str, hw: tuple[int, int]) -> np.ndarray:
  """Reads the label plane of an image.

  Args:
    reference: see the module.
    root: folder or URL of the data set.
    hw: (height, width) of the image.

  Returns:
    (H, W) uint8.

  Raises:
    OSError: the labels cannot be read, have another size, or are not integers from 0 to 255.
  """
  if "layers" in reference:
    return _layered(reference["layers"], root, hw)
  file = f"{root}/{reference.get('png') or reference['mat']}"
  labels = _png(file) if "png" in reference else _matlab(file, reference["variable"])
  if labels.shape != tuple(hw):
    raise OSError(f"{file} has labels of shape {labels.shape}; its image has {hw[1]} x {hw[0]} pixels")
  if labels.min() < 0 or labels.max() > 255:
    raise OSError(f"{file} has labels from {labels.min()} to {labels.max()}; expected 0 to 255")
  return labels.astype(np.uint8)


def check_classes(parts: np.ndarray, classes: int, name: str) -> None:
  """Raises OSError if a plane of parts (H, W) has a label that is neither a class nor `IGNORE_LABEL`."""
  unknown = parts[(parts >= classes) & (parts != IGNORE_LABEL)]
  if unknown.size:
    raise OSError(
      f"{name}: {unknown.size:,} pixels have the label {unknown[0]}; the data set has {classes} classes, "
      f"0 to {classes - 1}, and {IGNORE_LABEL} for ignored pixels"
    )


def number_persons(instances: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
  """Renumbers the persons of a plane (H, W) from 1 without gaps.

  Returns:
    The new plane, (H, W) uint8, and [x, y, width, height] of each person.
  """
  numbers, renumbered = np.unique(instances, return_inverse=True)
  renumbered = renumbered.reshape(instances.shape).astype(np.uint8) + np.uint8(numbers[0] > 0)
  boxes = []
  for number in range(1, renumbered.max(initial=0) + 1):
    ys, xs = (np.flatnonzero((renumbered == number).any(axis)) for axis in (1, 0))
    boxes.append([int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)])
  return renumbered, boxes


def _png(file: str) -> np.ndarray:
  data = storage.read_file(file)
  try:
    with Image.open(io.BytesIO(data), formats=("PNG", "BMP")) as image:
      labels = np.asarray(image) * np.uint8(1)  # of one bit too
  except Image.UnidentifiedImageError:
    raise OSError(f"{file} is {'not a PNG or BMP' if data else 'empty'}: expected labels; get it again") from None
  except Exception as error:  # Pillow raises nearly every type on bad bytes
    raise OSError(f"{file} cannot be read: {error}") from error
  if labels.ndim != 2:
    raise OSError(f"{file} has {labels.shape[-1]} color channels; expected one number per pixel")
  return labels


def _matlab(file: str, variable: str) -> np.ndarray:
  try:
    labels = np.asarray(load_matlab(file, "labels")[variable])
  except (KeyError, ValueError) as error:
    raise OSError(f"{file} has no readable labels: {error}") from error
  if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.number) or not (labels == np.rint(labels)).all():
    raise OSError(f"{file}: {variable!r} holds {labels.dtype} of shape {labels.shape}; expected one integer per pixel")
  return labels


def _layered(layers: list, root: str, hw: tuple[int, int]) -> np.ndarray:
  labels = np.zeros(hw, np.uint8)
  masks = [(label, read_mask(mask, root, hw)) for label, mask in layers]
  for label, mask in sorted(masks, key=lambda layer: -int(layer[1].sum())):
    labels[mask] = label
  return labels
