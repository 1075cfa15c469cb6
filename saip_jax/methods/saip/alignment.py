"""The alignment of SAIP's student with a frozen expert: what is compared, and the terms of the loss."""

import jax
import jax.numpy as jnp
from flax import struct

from saip_jax.losses.distillation import (
  Maps,
  comparable_maps,
  feature_distance,
  image_distance,
  moments_of,
  relation_loss,
  standardize,
)
from saip_jax.losses.matching import attention_loss
from saip_jax.methods.saip.config import AlignConfig

_MOMENTUM = 0.99  # of the moments of the expert's channels, at every micro-step


@struct.dataclass
class Aligned:
  """The same features of the student, after the adapter, and of the expert; None where no term reads them.

  Attributes:
    cls: (B, V, E) image features of [anchor, augmented, crops].
    expert_cls: (B, 2, E) of [anchor, augmented].
    tokens: (B * 2, N, E) patch tokens of the global views.
    expert_tokens: (B * 2, N, E) of the expert, on the student's grid.
    maps: attention maps of the global views, two arrays (B * 2, heads, L, L).
    expert_maps: the same of the expert, with its heads.
    scene: (B, M, E) patch tokens of the scene.
    expert_scene: (B, M, E) of the expert, on the student's grid.
  """

  cls: jax.Array
  expert_cls: jax.Array
  tokens: jax.Array | None = None
  expert_tokens: jax.Array | None = None
  maps: Maps | None = None
  expert_maps: Maps | None = None
  scene: jax.Array | None = None
  expert_scene: jax.Array | None = None


def new_moments(width: int) -> dict:
  """Returns the moments of the expert's channels before the first step, which takes those of its batch."""
  start = lambda: {"mean": jnp.zeros((width,)), "variance": jnp.ones((width,))}
  return {"cls": start(), "tokens": start(), "seen": jnp.zeros((), bool)}


def batch_moments(aligned: Aligned) -> dict:
  """Returns the moments of a batch, for `move_moments`."""
  moments = {"cls": moments_of(aligned.expert_cls)}
  moments["tokens"] = moments_of(aligned.expert_tokens) if aligned.expert_tokens is not None else moments["cls"]
  return moments


def current_moments(moments: dict, batch: dict) -> dict:
  """Returns the moments to standardize a batch with: the moving ones, in the first step those of the batch."""
  return jax.tree.map(
    lambda old, new: jnp.where(moments["seen"], old, new), {name: moments[name] for name in batch}, batch
  )


def move_moments(moments: dict, batch: dict) -> dict:
  """Returns the moments after a batch; the first batch sets them."""
  rate = jnp.where(moments["seen"], 1 - _MOMENTUM, 1.0)
  moved = jax.tree.map(lambda old, new: old + rate * (new - old), {name: moments[name] for name in batch}, batch)
  return moved | {"seen": jnp.ones((), bool)}


@jax.named_scope("align")
def alignment_terms(config: AlignConfig, aligned: Aligned, moments: dict | None) -> dict[str, tuple[float, jax.Array]]:
  """Returns name -> (weight, loss) of the terms whose weight is positive.

  Args:
    config: the settings of the alignment.
    aligned: the features.
    moments: of the expert's channels, for standardized targets; None for raw ones.
  """
  targets = lambda features, name: features if moments is None else standardize(features, moments[name])
  terms = {}
  if config.image_weight:
    distance = image_distance(aligned.cls, targets(aligned.expert_cls, "cls"), config.distance, config.pairs)
    terms["align_image"] = config.image_weight, distance
  if config.patch_weight:
    distance = feature_distance(aligned.tokens, targets(aligned.expert_tokens, "tokens"), config.distance)
    terms["align_patch"] = config.patch_weight, distance
  if config.compares("attention"):
    maps = comparable_maps(aligned.maps, aligned.expert_maps)
    terms["align_relation"] = config.relation_weight, attention_loss(*maps)
  if config.compares("tokens"):
    kinds = [(aligned.tokens, aligned.expert_tokens)]
    if aligned.scene is not None:
      kinds.append((aligned.scene, aligned.expert_scene))
    losses = [relation_loss(student, targets(expert, "tokens"), config.temperature) for student, expert in kinds]
    terms["align_relation"] = config.relation_weight, sum(losses) / len(losses)
  return {name: (config.weight * weight, loss) for name, (weight, loss) in terms.items()}
