"""Fine-tuned networks as encoders: the outputs of their heads take the place of features.

So one protocol measures probes of frozen features and fine-tuned heads.
"""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from input_pipeline.fields.captions import word_numbers
from saip_jax.evaluation.encoders import Encoder, encoder_of
from saip_jax.interop.weights import LoadedBackbone, Preprocessing
from saip_jax.methods.finetune.method import Finetune

_SENTENCES = 256  # encoded at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextEncoder(Encoder):
  """An encoder of images and captions; their features are compared by cosine.

  Attributes:
    of_text: captions -> (n, D) float32.
  """

  of_text: Callable[[list[str]], np.ndarray]


def encoder_without_head(method: Finetune, params, method_state, facts: dict) -> Encoder:
  """Returns the encoder of the fine-tuned backbone."""
  prepare = Preprocessing(method.backbone.image_hw)
  return encoder_of(
    LoadedBackbone(method.backbone, method.export_params(params, method_state, "student"), prepare), facts
  )


def encoder_with_head(method: Finetune, params, method_state, facts: dict) -> Encoder:
  """Returns the encoder whose features are the outputs of the head, computed with float32 products."""
  image_hw = tuple(method.backbone.image_hw)
  prepare = Preprocessing(image_hw)

  @jax.jit
  def outputs(params, method_state, images_u8):
    with jax.default_matmul_precision("highest"):
      return method.outputs(params, method_state, prepare(images_u8))

  params, method_state = jax.device_put((params, method_state))

  def apply(images_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = np.asarray(outputs(params, method_state, images_u8))
    return (found, found[:, None, None]) if found.ndim == 2 else (found.mean((1, 2)), found)

  return Encoder(facts | {"image_hw": list(image_hw)}, image_hw, apply)


def encoder_of_text(method: Finetune, params, method_state, facts: dict) -> TextEncoder:
  """Returns the encoder of `encoder_with_head`, and of captions by the same head."""
  images = encoder_with_head(method, params, method_state, facts)

  @jax.jit
  def outputs(params, method_state, sentences):
    with jax.default_matmul_precision("highest"):
      return method.head.apply(method.head_variables(params, method_state), sentences, method="text")

  def of_text(captions: list[str]) -> np.ndarray:
    sentences = np.stack([word_numbers(caption) for caption in captions])
    parts = range(0, len(captions), _SENTENCES)
    return np.concatenate([np.asarray(outputs(params, method_state, sentences[i : i + _SENTENCES])) for i in parts])

  return TextEncoder(facts=images.facts, image_hw=images.image_hw, apply=images.apply, of_text=of_text)
