"""Conversion between images and sequences of flattened patches."""

import jax


def patchify(images: jax.Array, patch: int) -> jax.Array:
  """Cuts images into patches: (B, H, W, C) -> (B, h * w, patch * patch * C), pixels in order row, column, channel.

  Pixels right of and below the last whole patch are dropped, as by a convolution of that stride.
  """
  batch, height, width, channels = images.shape
  h, w = height // patch, width // patch
  cells = images[:, : h * patch, : w * patch].reshape(batch, h, patch, w, patch, channels)
  return cells.transpose(0, 1, 3, 2, 4, 5).reshape(batch, h * w, patch * patch * channels)


def unpatchify(patches: jax.Array, grid_hw: tuple[int, int], patch: int) -> jax.Array:
  """Inverse of `patchify`: (B, h * w, patch * patch * C) -> (B, h * patch, w * patch, C)."""
  (h, w), batch = grid_hw, len(patches)
  cells = patches.reshape(batch, h, w, patch, patch, -1)
  return cells.transpose(0, 1, 3, 2, 4, 5).reshape(batch, h * patch, w * patch, -1)
