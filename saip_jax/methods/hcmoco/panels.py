"""Panels of HCMoCo: crop, depth, joints, and the dense maps in colors common to both modalities."""

import numpy as np

from saip_jax.methods.hcmoco.views import HcmocoViews
from saip_jax.pictures import decoded, picture

_DOT = 24  # a joint is drawn as a square with 1 / _DOT of the height of the picture


def draw_rows(batch, views: HcmocoViews, maps: dict[str, np.ndarray]) -> list[list[tuple[str, np.ndarray]]]:
  """Returns the rows of a panel.

  Args:
    batch: the batch.
    views: its views, numpy arrays.
    maps: "rgb" and "depth" -> (B, h, w, D), its dense maps.
  """
  known = np.any(views.depth != 0, axis=-1)  # (B, H, W); a pixel of exactly the mean is rare
  colors = _three_colors(maps["rgb"], maps["depth"], views.known["depth"])
  rows = []
  for i in range(len(views.rgb)):
    crop = picture(views.rgb[i])
    rows.append(
      [
        ("image", decoded(batch, i)),
        ("crop", crop),
        ("joints", _with_joints(crop, views, i)),
        ("depth", _depth_colors(views.depth[i], known[i])),
        *((f"{name} map", _enlarged(colors[name][i], crop.shape[:2])) for name in ("rgb", "depth")),
      ]
    )
  return rows


def _with_joints(image: np.ndarray, views: HcmocoViews, i: int) -> np.ndarray:
  """Returns the image, darker, with its visible joints."""
  image, half = image * 0.6, max(1, image.shape[0] // _DOT // 2)
  for (x, y), visible in zip(views.joints_xy[i].astype(int), views.visible[i]):
    if visible:
      image[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1] = (1.0, 0.85, 0.1)
  return image


def _depth_colors(depth: np.ndarray, known: np.ndarray) -> np.ndarray:
  """Returns depth (H, W, 3) in gray: bright for near, black for unknown."""
  if not known.any():
    return np.zeros_like(depth)
  near, far = depth[known].min(), depth[known].max()
  return np.where(known[..., None], 1 - 0.8 * (depth - near) / max(far - near, 1e-6), 0.0).astype(np.float32)


def _three_colors(rgb: np.ndarray, depth: np.ndarray, has_depth: np.ndarray) -> dict[str, np.ndarray]:
  """Returns both maps (B, h, w, 3) in 0 to 1: their first three principal components, computed on both together."""
  rows = np.concatenate([rgb, depth[has_depth]]).reshape(-1, rgb.shape[-1]).astype(np.float64)
  mean = rows.mean(0)
  axes = np.linalg.eigh(np.cov(rows.T))[1][:, :-4:-1]
  low, high = np.percentile((rows - mean) @ axes, (2, 98), axis=0)
  color = lambda x: np.clip(((x - mean) @ axes - low) / np.maximum(high - low, 1e-9), 0, 1).astype(np.float32)
  return {"rgb": color(rgb), "depth": color(depth) * has_depth[:, None, None, None]}


def _enlarged(cells: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
  """Returns cells (h, w, 3) as pixels."""
  return cells.repeat(hw[0] // cells.shape[0], axis=0).repeat(hw[1] // cells.shape[1], axis=1)
