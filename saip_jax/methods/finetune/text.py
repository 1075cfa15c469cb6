"""Text-to-image retrieval: images and the captions of their persons are embedded together."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from input_pipeline.fields.captions import LENGTH, MOST_CAPTIONS, WORDS
from saip_jax.backbones.features import Backbone
from saip_jax.heads.image_text import ImageTextHead
from saip_jax.losses.classification import cross_entropy
from saip_jax.losses.image_text import image_text_contrast
from saip_jax.methods.finetune.task import LabelShapes, SupervisedTask
from saip_jax.methods.finetune.views import Placement

_TEMPERATURE = 0.02  # IRRA's


class TextTask(SupervisedTask):
  """Contrast of images and captions, and cross-entropy of the identity of both, with one classifier.

  IRRA (Jiang and Ye 2023), the method of the published results, starts from CLIP's text encoder and also predicts
  masked words; here a small transformer learns words from scratch, so that nothing is downloaded.
  """

  label, reads = "identity", "cls"

  def label_shapes(self, classes: int, canvas_hw: tuple[int, int]) -> LabelShapes:
    return {"identity": ((), jnp.int32), "captions": ((MOST_CAPTIONS, LENGTH), jnp.int32)}

  def head(self, classes: int, backbone: Backbone) -> ImageTextHead:
    return ImageTextHead(classes, WORDS, LENGTH, dtype=backbone.dtype)

  def targets(self, sample: dict[str, jax.Array], place: Placement, mirrored: Sequence[int]) -> Any:
    """Returns the number of the identity, from 1, 0 for unknown, and the words of the captions."""
    return sample["identity"], sample["captions"]

  def training_inputs(self, targets: Any) -> tuple[jax.Array]:
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
