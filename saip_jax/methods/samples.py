"""Batches of single images, and the random numbers of their samples."""

import jax
import jax.numpy as jnp


def image_spec(global_batch: int, canvas_hw: tuple[int, int]) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns `Method.batch_spec` of a method that reads one decoded image per sample."""
  spec = lambda dtype, *shape: jax.ShapeDtypeStruct((global_batch, *shape), dtype)
  return {"image": spec(jnp.uint8, *canvas_hw, 3), "image_hw": spec(jnp.int32, 2), "index": spec(jnp.uint32)}


def sample_keys(key: jax.Array, index: jax.Array) -> jax.Array:
  """Returns one key per sample from the key of the micro-step and the samples' indices (B,)."""
  return jax.vmap(jax.random.fold_in, (None, 0))(key, index)
