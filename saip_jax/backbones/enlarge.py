"""Upsampling of a map to the resolution of a finer one."""

import jax
import jax.numpy as jnp

from saip_jax.backbones.extent import Extent

ENLARGE_RULES = ("nearest", "bilinear")
"""How a map is enlarged: by repeating each cell or by interpolation."""


def enlarge_like(
  x: jax.Array, like: jax.Array, rule: str, extent: Extent | None = None, like_extent: Extent | None = None
) -> jax.Array:
  """Enlarges a map to the size of a finer one.

  Args:
    x: (B, h, w, C).
    like: (B, H, W, D), 2**n times as fine; its sides may be shorter than 2**n times those of x, where a stride rounded
      up.
    rule: "nearest" repeats the cell of x that covers each cell, as timm's HRNet; "bilinear" interpolates between the
      centers of cells, as PyTorch's `interpolate` with align_corners=False.
    extent: the real part of x; bilinear interpolation reads no cell beyond it.
    like_extent: the real part of `like`.

  Returns:
    (B, H, W, C); values beyond the real part are arbitrary.
  """
  if rule == "nearest":
    factor = 1
    while any(coarse * factor < fine for coarse, fine in zip(x.shape[1:3], like.shape[1:3])):
      factor *= 2
    return jnp.repeat(jnp.repeat(x, factor, axis=1), factor, axis=2)[:, : like.shape[1], : like.shape[2]]
  if extent is None:
    return jax.image.resize(x, (*like.shape[:3], x.shape[-1]), "bilinear")
  rows, columns = (_weights(x.shape[a], like.shape[a], extent.hw[:, a - 1], like_extent.hw[:, a - 1]) for a in (1, 2))
  return jnp.einsum("bHh,bWw,bhwc->bHWc", rows.astype(x.dtype), columns.astype(x.dtype), x)


def _weights(cells: int, like_cells: int, real: jax.Array, like_real: jax.Array) -> jax.Array:
  """Returns the bilinear weights (B, like_cells, cells) of one axis, given the real lengths (B,) of both maps."""
  scale = (real / like_real)[:, None]
  places = jnp.clip((jnp.arange(like_cells) + 0.5) * scale - 0.5, 0, real[:, None] - 1)  # (B, like_cells)
  return jnp.maximum(0, 1 - jnp.abs(places[..., None] - jnp.arange(cells)))
