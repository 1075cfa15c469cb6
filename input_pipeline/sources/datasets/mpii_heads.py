"""MPII's head boxes, from the MATLAB file beside the list of persons."""

import numpy as np

from input_pipeline import storage
from input_pipeline.sources.annotated.matlab import load_matlab


def read_mpii_heads(file: str, count: int, setting: str) -> tuple[str | None, list[list[float] | None]]:
  """Reads the head boxes of the persons in one of MPII's lists.

  The file for mpii_val.json is mpii_gt_val.mat, for valid.json gt_valid.mat; the test set has none.

  Args:
    file: path of the list.
    count: number of persons in the list.
    setting: the option that gave the data set, named in messages.

  Returns:
    The MATLAB file and [x, y, width, height] of each head, from `headboxes_src` (2, 2, persons): corners in pixels
    from 1; None for a head with equal or infinite corners. (None, []) if there is no such file.

  Raises:
    ValueError: the file cannot be read, or has another number of persons.
  """
  folder, _, name = file.rpartition("/")
  part = name.rpartition(".")[0].removeprefix("mpii_")
  beside = next(
    (path for path in (f"{folder}/mpii_gt_{part}.mat", f"{folder}/gt_{part}.mat") if storage.exists(path)), None
  )
  if beside is None:
    return None, []
  corners = np.asarray(load_matlab(beside, setting).get("headboxes_src", ()), np.float64)
  if corners.shape != ((2, 2, count) if count > 1 else (2, 2)):  # load_matlab removes axes of length one
    raise ValueError(
      f"{setting}: {beside} has headboxes_src of shape {corners.shape}; expected (2, 2, {count}) for the {count} "
      f"persons of {name}"
    )
  (x1, y1), (x2, y2) = corners.reshape(2, 2, count)
  boxes = np.stack([x1 - 0.5, y1 - 0.5, x2 - x1, y2 - y1], 1)
  usable = np.isfinite(boxes).all(1) & (boxes[:, 2:] != 0).any(1)
  return beside, [box if good else None for box, good in zip(boxes.tolist(), usable)]
