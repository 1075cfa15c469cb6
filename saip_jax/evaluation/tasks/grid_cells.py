"""Training data of linear layers on the cells of a grid, and conversion between cells and pixels."""

from collections.abc import Callable, Sequence

import numpy as np

from input_pipeline.body import flip_pairs
from saip_jax.evaluation.encoders import EncodedImages, Encoder, encode_source
from saip_jax.evaluation.metrics.segmentation import unflip
from saip_jax.evaluation.splits import LabeledImages, groups

_MOST = 60_000  # cells


def sample_cells(
  encoder: Encoder, images: LabeledImages, targets: Callable[[int, tuple[int, int]], np.ndarray], damaged: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the cells of all images with their targets; of more than 60,000, evenly spaced ones.

  Args:
    encoder: the encoder.
    images: the training part.
    targets: (image, (h, w)) -> (h, w, T), nan in cells to skip.
    damaged: see `encode_source`.

  Returns:
    (n, E) cells, (n, T) targets, and (n,) groups, see `splits.groups`.
  """
  of_person, found, every = groups(images), [], None
  for part in encode_source(encoder, images.source, damaged):
    grid = part.cells.shape[1:3]
    every = every or -(-len(images) * grid[0] * grid[1] // _MOST)
    wanted = np.stack([targets(int(row), grid) for row in part.rows])
    count = len(part.rows) * grid[0] * grid[1]
    chosen = np.arange(int(part.rows[0]) % every, count, every)
    wanted = wanted.reshape(count, -1)[chosen]
    used = ~np.isnan(wanted).any(1)
    persons = np.repeat(of_person[part.rows], grid[0] * grid[1])[chosen]
    found.append((part.cells.reshape(count, -1)[chosen][used], wanted[used], persons[used]))
  if not sum(len(cells) for cells, _, _ in found):
    raise ValueError(
      f"no cell of the {len(images)} images of {images.source.identity['name']!r} has a label: expected at least one"
    )
  return tuple(map(np.concatenate, zip(*found)))


def average_flipped(read: Callable[[np.ndarray], np.ndarray], part: EncodedImages, names: Sequence[str]) -> np.ndarray:
  """Returns maps of images, (n, H, W, C); with a flip test, averaged with those of their mirror images.

  Args:
    read: cells (n, h, w, E) -> maps (n, H, W, C).
    part: the encoded images.
    names: (C,) names of the maps; those that differ only in left and right are swapped in the mirror image.
  """
  maps = read(part.cells)
  return maps if part.mirrored is None else (maps + unflip(read(part.mirrored), flip_pairs(names))) / 2


def average_over_cells(plane: np.ndarray, grid_hw: tuple[int, int]) -> np.ndarray:
  """Returns (h, w, C) float32 means of a plane (H, W, C) over each cell; pixels on its edge count by their fraction."""

  def shares(pixels: int, cells: int) -> np.ndarray:
    edges, own = np.arange(cells + 1) * pixels / cells, np.arange(pixels)
    inside = np.minimum(edges[1:, None], own + 1) - np.maximum(edges[:-1, None], own)
    return np.clip(inside, 0, 1) * cells / pixels

  return _products(plane, shares(plane.shape[0], grid_hw[0]), shares(plane.shape[1], grid_hw[1]))


def resize_bilinear(maps: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
  """Returns (H, W, C) maps (h, w, C) resized bilinearly, with aligned outer edges."""
  rows, columns = (_weights((np.arange(pixels) + 0.5) / pixels, n) for pixels, n in zip(hw, maps.shape))
  return _products(maps, rows, columns)


def cells_at(cells: np.ndarray, places: np.ndarray) -> np.ndarray:
  """Returns (n, E) cells (h, w, E) interpolated as by `resize_bilinear` at places (n, 2), fractions x, y."""
  rows, columns = _weights(places[:, 1], cells.shape[0]), _weights(places[:, 0], cells.shape[1])
  return np.einsum("nh,nw,hwe->ne", rows, columns, cells, optimize=True)


def _weights(places: np.ndarray, cells: int) -> np.ndarray:
  """Returns (n, cells) interpolation weights of the cells at places (n,) along a side, from 0 to 1."""
  at = np.clip(places * cells - 0.5, 0, cells - 1)
  return np.maximum(1 - np.abs(at[:, None] - np.arange(cells)), 0)


def _products(plane: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
  """Returns (h, w, C) float32, the plane (H, W, C) multiplied by matrices (h, H) and (w, W)."""
  height, width, channels = plane.shape
  short = rows.astype(np.float32) @ plane.reshape(height, -1).astype(np.float32)
  return columns.astype(np.float32) @ short.reshape(len(rows), width, channels)
