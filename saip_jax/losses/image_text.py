"""Pictures and captions that belong together, as far as it is known who is shown."""

import jax
import jax.numpy as jnp

from saip_jax.losses.infonce import NEVER, cosines, weighted_mean


def image_text_contrast(
  images: jax.Array, texts: jax.Array, identity: jax.Array, known: jax.Array, temperature: float
) -> jax.Array:
  """Cross-entropy between who belongs together and the softmax of cosines, from pictures to captions and back.

  A picture and a caption belong together if they are of one person, each with the same share; for persons of whom a
  batch has one picture it is InfoNCE.

  Args:
    images: (B, D) unit vectors.
    texts: (B, D) likewise.
    identity: (B,) int, numbers from 1; 0: unknown, somebody else each time.
    known: (B,) bool, the samples that have a caption; the others take no part.
    temperature: of the softmax.

  Returns:
    float32 scalar, the sum of both directions.

  Source: UniCL (Yang et al. 2022, arXiv 2204.03610), equations 3 and 4. IRRA's SDM takes the divergence the other way
  around.
  """
  same = (identity[:, None] == identity) & (identity > 0) | jnp.eye(len(identity), dtype=bool)
  same = same & known[:, None] & known
  logits = jnp.where(known[:, None] & known, cosines(images, texts) / temperature, NEVER)
  total = 0.0
  for axis in (0, 1):
    logs = jax.nn.log_softmax(logits, axis=axis)
    own = jnp.sum(jnp.where(same, logs, 0.0), axis=axis) / jnp.maximum(jnp.sum(same, axis=axis), 1)
    total -= weighted_mean(own, known)
  return total
