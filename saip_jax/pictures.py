"""Pictures of what a method does: rows of captioned images in one PNG, and the drawing that their cells share."""

import dataclasses
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from saip_jax.backbones.patches import patchify, unpatchify
from saip_jax.views.photometric import denormalize

_ROW_INCHES, _GAP_INCHES, _CAPTION_INCHES, _DPI = 1.7, 0.08, 0.2, 110
_TINTS = np.array(
  [
    (0.95, 0.77, 0.06),
    (0.20, 0.60, 0.86),
    (0.61, 0.35, 0.71),
    (0.18, 0.80, 0.44),
    (0.90, 0.49, 0.13),
    (0.91, 0.30, 0.24),
  ],
  np.float32,
)


@dataclasses.dataclass(frozen=True)
class Panel:
  """A picture made of pictures.

  Attributes:
    rows: rows of (caption, image) cells; an image is (H, W, 3), float in 0 to 1 or uint8. An empty caption draws no
      text. All images of a row are drawn equally high.
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


def picture(image) -> np.ndarray:
  """Returns a normalized image (H, W, 3) as float32 in 0 to 1."""
  return np.clip(np.asarray(denormalize(image), np.float32), 0, 1)


def decoded(batch, i: int, name: str = "image") -> np.ndarray:
  """Returns the decoded image of sample i of a batch without the padding of its canvas.

  Args:
    batch: fields of a batch.
    i: row.
    name: field of the image; its size is the field `name`_hw.
  """
  h, w = np.asarray(batch[f"{name}_hw"])[i]
  return np.asarray(batch[name])[i, :h, :w]


def gray(values: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
  """Returns a grid (h, w) of values in 0 to 1 as a gray image of `hw` pixels."""
  cells = np.kron(values, np.ones((hw[0] // values.shape[0], hw[1] // values.shape[1])))
  return np.repeat(cells[..., None], 3, axis=-1).astype(np.float32)


def heat(image: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Returns an image with a grid of values in 0 to 1 laid over it: dark blue for 0, bright red for 1."""
  shares = gray(values, image.shape[:2])
  color = shares * np.array([1.0, 0.15, 0.05]) + (1 - shares) * np.array([0.0, 0.05, 0.35])
  return (0.45 * image + 0.55 * color).astype(np.float32)


def tint(image: np.ndarray, covers: np.ndarray) -> np.ndarray:
  """Returns an image with grids of cells tinted, each in its own color; overlaps are tinted in the mean of the colors.

  Args:
    image: (H, W, 3) in 0 to 1.
    covers: (n, h, w) bool, up to six grids.
  """
  covers = np.stack([gray(cover.astype(np.float32), image.shape[:2])[..., 0] for cover in covers])  # (n, H, W)
  number = covers.sum(0)[..., None]
  color = np.tensordot(covers, _TINTS[: len(covers)], (0, 0)) / np.maximum(number, 1)
  return np.where(number > 0, 0.5 * image + 0.5 * color, 0.5 * image).astype(np.float32)


def paint(images: jax.Array, prediction: jax.Array, seen: jax.Array, patch: int) -> dict[str, jax.Array]:
  """Returns predicted patches as images, beside their targets.

  Networks predict patches of mean 0 and deviation 1; each is scaled and shifted to those of its target.

  Args:
    images: (B, H, W, 3) normalized, the targets.
    prediction: (B, L, P) predicted patches.
    seen: (B, L) bool, the patches that the encoder saw.
    patch: side of a patch in pixels.

  Returns:
    "target"; "seen", black elsewhere; "painted", the prediction; "together", seen patches as they are and the others
    as predicted. Each is (B, H, W, 3).
  """
  grid = images.shape[1] // patch, images.shape[2] // patch
  pixels, seen = patchify(images, patch), seen[..., None]  # (B, L, P)
  mean, std = jnp.mean(pixels, -1, keepdims=True), jnp.std(pixels, -1, ddof=1, keepdims=True)
  painted = prediction.astype(jnp.float32) * std + mean
  parts = {
    "target": pixels,
    "seen": jnp.where(seen, pixels, 0.0),
    "painted": painted,
    "together": jnp.where(seen, pixels, painted),
  }
  return {name: unpatchify(patches, grid, patch) for name, patches in parts.items()}
