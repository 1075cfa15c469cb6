"""Several kinds of views on their way through the blocks of a ViT."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from saip_jax.backbones.features import Views


@dataclasses.dataclass(frozen=True)
class Kinds:
  """The tokens of several kinds of views on their way through the blocks.

  Attributes:
    places: index of each kind among the arguments of `ViT.encode`.
    views: the kinds of views.
    key_masks: of each kind None or (B * V, P + N) bool, False where a key is padding.
    parts: tokens of each kind, (B * V, P + N, D).
  """

  places: tuple[int, ...]
  views: tuple[Views, ...]
  key_masks: tuple[jax.Array | None, ...]
  parts: tuple[jax.Array, ...]

  def only(self, kinds: Sequence[int]) -> "Kinds":
    """Returns some of the kinds."""
    return Kinds(*(tuple(values[kind] for kind in kinds) for values in vars(self).values()))


def on_canvas(per_choice: list[jax.Array]) -> jax.Array:
  """Pads (h, w, D) arrays with zeros to the size of the largest: (choices, h_max * w_max, D)."""
  h, w = (max(a.shape[axis] for a in per_choice) for axis in (0, 1))
  padded = [jnp.pad(a, ((0, h - a.shape[0]), (0, w - a.shape[1]), (0, 0))) for a in per_choice]
  return jnp.stack(padded).reshape(len(padded), h * w, -1)
