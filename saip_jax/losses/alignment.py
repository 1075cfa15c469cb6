"""HAP: contrastive alignment of two views of each image."""

import jax

from saip_jax.losses.infonce import batch_contrast, unit


def alignment_loss(first: jax.Array, second: jax.Array, temperature: float) -> jax.Array:
  """Symmetric alignment loss: the sum of `contrast` in both directions.

  Args:
    first: (B, D) float features of one view of each image.
    second: (B, D) float features of the other view.
    temperature: T.

  Returns:
    float32 scalar; 4 T ln B if all features are equal.

  Source: HAP (Yuan et al. 2023, arXiv 2310.20695), structure-invariant alignment, as in the released code.
  """
  return contrast(first, second, temperature) + contrast(second, first, temperature)


def contrast(queries: jax.Array, keys: jax.Array, temperature: float) -> jax.Array:
  """In-batch InfoNCE of cosines, scaled by 2 T.

  Args:
    queries: (B, D) float; only they receive a gradient.
    keys: (B, D) float; key i is the positive of query i.
    temperature: T, divides the cosines.

  Returns:
    float32 scalar, mean over queries.

  Source: MoCo v3 (Chen et al. 2021, arXiv 2104.02057), algorithm 1, without its heads.
  """
  return 2 * temperature * batch_contrast(unit(queries), unit(jax.lax.stop_gradient(keys)), temperature)
