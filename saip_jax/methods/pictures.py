"""Pictures that the panels of several methods are made of."""

import jax
import jax.numpy as jnp
import numpy as np

from saip_jax.backbones.patches import patchify, unpatchify
from saip_jax.views.photometric import denormalize


def picture(image) -> np.ndarray:
  """Returns a normalized image (H, W, 3) as float32 in 0 to 1."""
  return np.clip(np.asarray(denormalize(image), np.float32), 0, 1)


def decoded(batch, i: int, name: str = "image") -> np.ndarray:
  """Returns the decoded image of sample i of a batch, without what pads its canvas; `name` is its field."""
  h, w = np.asarray(batch[f"{name}_hw"])[i]
  return np.asarray(batch[name])[i, :h, :w]


def gray(values: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
  """Enlarges a grid of 0..1 to pixels as a gray image."""
  cells = np.kron(values, np.ones((hw[0] // values.shape[0], hw[1] // values.shape[1])))
  return np.repeat(cells[..., None], 3, axis=-1).astype(np.float32)


def paint(images: jax.Array, prediction: jax.Array, seen: jax.Array, patch: int) -> dict[str, jax.Array]:
  """Returns what was predicted of normalized patches as images, beside what was to be predicted.

  The networks predict patches with mean 0 and deviation 1: each gets its own back.

  Args:
    images: (B, H, W, 3) normalized, the truth.
    prediction: (B, L, P) of its patches.
    seen: (B, L) bool, patches that the encoder saw.
    patch: their side in pixels.

  Returns:
    "target", "seen", "painted" and "together" (what was seen as it is, the rest as painted), each (B, H, W, 3).
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
