"""Text-to-image retrieval: pictures and the captions of their persons come to lie together."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from input_pipeline.fields.captions import LENGTH, MOST_CAPTIONS, WORDS
from saip_jax.backbones.features import Backbone
from saip_jax.heads.image_text import ImageTextHead
from saip_jax.losses.classification import cross_entropy
from saip_jax.losses.image_text import image_text_contrast
from saip_jax.methods.finetune.task import Shapes, SupervisedTask
from saip_jax.methods.finetune.views import Placement

_TEMPERATURE = 0.02  # IRRA's


class Text(SupervisedTask):
  """Contrast of pictures and captions, and cross-entropy of who is shown and described, by one classifier.

  IRRA (Jiang and Ye 2023), which published results are of, starts from CLIP's text encoder and also learns to fill in
  words; here a small transformer learns words from nothing, so that nothing is downloaded.
  """

  label, reads = "identity", "cls"

  def labels(self, classes: int, canvas_hw: tuple[int, int]) -> Shapes:
    return {"identity": ((), jnp.int32), "captions": ((MOST_CAPTIONS, LENGTH), jnp.int32)}

  def head(self, classes: int, backbone: Backbone) -> ImageTextHead:
    return ImageTextHead(classes, WORDS, LENGTH, dtype=backbone.dtype)

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns the number of the person, from 1, 0 for unknown, and the words of the captions."""
    return sample["identity"], sample["captions"]

  def told(self, targets: Any) -> tuple[jax.Array]:
    return (targets[1],)

  def losses(self, inputs: jax.Array, outputs: Any, targets: Any) -> dict[str, jax.Array]:
    (both, logits), (identity, captions) = outputs, targets
    described = (captions > 0).any(-1)  # (B, K)
    contrast = lambda k: image_text_contrast(both[:, 0], both[:, 1 + k], identity, described[:, k], _TEMPERATURE)
    there = jnp.concatenate([jnp.ones_like(described[:, :1]), described], axis=1) & (identity > 0)[:, None]
    labels = jnp.broadcast_to(identity[:, None] - 1, there.shape)
    return {
      "contrast": sum(contrast(k) for k in range(MOST_CAPTIONS)),
      "identity": cross_entropy(logits, labels, there),
    }
