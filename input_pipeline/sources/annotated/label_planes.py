"""Labels of every pixel, from whatever a data set keeps of them.

A reference is JSON-able, one of: {"png": path below the root}, whose numbers (also those of a palette) are the labels;
{"mat": path below the root, "variable": name}; {"layers": [[label, mask], ...]}, masks being references of
annotations/masks.py, of which smaller ones lie over larger ones, 0 where none is.
"""

import io

import numpy as np
from PIL import Image

from input_pipeline import storage
from input_pipeline.records import UNCOUNTED
from input_pipeline.sources.annotated.masks import read_mask
from input_pipeline.sources.annotated.matlab import load_matlab


def read_labels(reference: dict, root: str, hw: tuple[int, int]) -> np.ndarray:
  """The labels of an image.

  Args:
    reference: see above.
    root: of the data set.
    hw: size of the image.

  Returns:
    (H, W) uint8.

  Raises:
    OSError: they cannot be read, are of another size, or are no whole numbers from 0 to 255.
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
  """Raises OSError where a plane of parts (H, W) has a label that is neither one of the classes nor `UNCOUNTED`."""
  unknown = parts[(parts >= classes) & (parts != UNCOUNTED)]
  if unknown.size:
    raise OSError(
      f"{name}: {unknown.size:,} pixels have the label {unknown[0]}; the data set has {classes} classes, "
      f"0 to {classes - 1}, and {UNCOUNTED} for what is not counted"
    )


def boxes_of(instances: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
  """Numbers the persons of a plane (H, W) from 1 without gaps; the new plane, and [x, y, width, height] of each."""
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
    raise OSError(f"{file} is {'no PNG or BMP' if data else 'empty'}: expected labels; get it again") from None
  except Exception as error:  # Pillow raises nearly every type on bad bytes
    raise OSError(f"{file} cannot be read: {error}") from error
  if labels.ndim != 2:
    raise OSError(f"{file} has {labels.shape[-1]} color channels; expected one number for each pixel")
  return labels


def _matlab(file: str, variable: str) -> np.ndarray:
  try:
    labels = np.asarray(load_matlab(file, "labels")[variable])
  except (KeyError, ValueError) as error:
    raise OSError(f"{file} has no labels that can be read: {error}") from error
  if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.number) or not (labels == np.rint(labels)).all():
    raise OSError(
      f"{file}: {variable!r} holds {labels.dtype} of shape {labels.shape}; expected one whole number for each pixel"
    )
  return labels


def _layered(layers: list, root: str, hw: tuple[int, int]) -> np.ndarray:
  labels = np.zeros(hw, np.uint8)
  masks = [(label, read_mask(mask, root, hw)) for label, mask in layers]
  for label, mask in sorted(masks, key=lambda layer: -int(layer[1].sum())):
    labels[mask] = label
  return labels
