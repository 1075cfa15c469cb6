"""Pictures of what a method does: rows of captioned images in one PNG."""

import dataclasses
import os
import pathlib

import numpy as np

_ROW_INCHES, _GAP_INCHES, _CAPTION_INCHES, _DPI = 1.7, 0.08, 0.2, 110


@dataclasses.dataclass(frozen=True)
class Panel:
  """A picture made of pictures.

  Attributes:
    rows: rows of (caption, image) cells; an image is (H, W, 3), float in 0 to 1 or uint8. An empty caption leaves
      no text. All images of a row are drawn equally high.
  """

  rows: list[list[tuple[str, np.ndarray]]]


def save_panel(path, panel: Panel) -> None:
  """Writes the panel as PNG; the file appears whole or not at all.

  Args:
    path: target file, whose folder is made.
    panel: at least one row with one cell.

  Raises:
    ValueError: an empty panel, or an image of another shape.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg  # seconds to import, and needed only here
  from matplotlib.figure import Figure

  if not panel.rows or not all(panel.rows):
    raise ValueError("a panel needs at least one row, and every row at least one image")
  rows = [[(caption, _image(image)) for caption, image in row] for row in panel.rows]
  widths = [[_ROW_INCHES * image.shape[1] / image.shape[0] for _, image in row] for row in rows]
  heights = [_ROW_INCHES + _CAPTION_INCHES * any(caption for caption, _ in row) for row in rows]
  total_w = max(sum(row) + _GAP_INCHES * (len(row) + 1) for row in widths)
  total_h = sum(heights) + _GAP_INCHES * (len(rows) + 1)

  # one size for all captions, such that each stays over its own image
  fits = [125 * w / len(c) for row, ws in zip(rows, widths) for (c, _), w in zip(row, ws) if c]
  font_size = float(np.clip(min(fits, default=7.5), 5, 7.5))

  figure = Figure(figsize=(total_w, total_h), dpi=_DPI, facecolor="white")
  FigureCanvasAgg(figure)
  top = total_h
  for row, row_widths, row_height in zip(rows, widths, heights):
    top -= _GAP_INCHES + row_height
    left = _GAP_INCHES
    for (caption, image), width in zip(row, row_widths):
      axes = figure.add_axes((left / total_w, top / total_h, width / total_w, _ROW_INCHES / total_h))
      axes.imshow(image, aspect="auto", vmin=0, vmax=1)
      axes.set_axis_off()
      axes.set_title(caption, fontsize=font_size, pad=2.5, color="#333333")
      left += width + _GAP_INCHES

  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f".{path.name}.partial")
  figure.savefig(partial, format="png")
  os.replace(partial, path)


def _image(image) -> np.ndarray:
  image = np.asarray(image)
  if image.ndim != 3 or image.shape[-1] != 3:
    raise ValueError(f"a panel image has shape {image.shape}, expected (H, W, 3)")
  return image if image.dtype == np.uint8 else np.clip(image.astype(np.float32), 0, 1)
