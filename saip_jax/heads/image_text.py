"""Joint embedding of images and captions."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.block import Block
from saip_jax.backbones.initial_values import TOKEN_INITS
from saip_jax.backbones.linear import Linear, layer_norm
from saip_jax.backbones.packing import Packing
from saip_jax.backbones.stack import init_stack, run_stack
from saip_jax.losses.infonce import unit


class ImageTextHead(nn.Module):
  """Linear layer on the image feature, small transformer on words, and a shared classifier of identities.

  The embedding of a sentence is a linear map of the mean output of its words.

  Attributes:
    classes: number of identities.
    words: size of the vocabulary, including 0 for no word.
    length: number of words of a sentence.
    width: width of the transformer and of the embedding.
    depth: number of blocks.
    heads: attention heads.
    dtype: computation dtype.
  """

  classes: int
  words: int
  length: int
  width: int = 256
  depth: int = 2
  heads: int = 4
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.word_embed = self.param("word_embed", TOKEN_INITS["normal"], (self.words, self.width))
    self.pos_embed = self.param("pos_embed", TOKEN_INITS["normal"], (1, self.length, self.width))
    self.block = Block(self.width, self.heads, self.dtype, parent=None)
    self.blocks = self.param("blocks", init_stack, self.block, self.depth)
    self.norm = layer_norm(self.dtype)
    self.of_words, self.of_image = Linear(self.width, self.dtype), Linear(self.width, self.dtype)
    self.classifier = nn.Dense(self.classes, use_bias=False)

  def __call__(self, features: jax.Array, sentences: jax.Array | None = None):
    """Embeds images and optionally their captions.

    Args:
      features: (B, D) image features.
      sentences: (B, K, length) int word ids, see `text`; None for images only.

    Returns:
      Without sentences (B, width) float32 unit vectors of the images. With sentences a pair: (B, 1 + K, width) float32
      unit vectors of each image and its sentences, and (B, 1 + K, classes) float32 logits of the identity.
    """
    images = unit(self.of_image(features))
    if self.is_initializing():  # initialize the parameters of the text branch too
      sentences = jnp.zeros((len(features), 1, self.length), jnp.int32)
    if sentences is None:
      return images
    texts = self.text(sentences.reshape(-1, self.length)).reshape(*sentences.shape[:2], -1)
    both = jnp.concatenate([images[:, None], texts], axis=1)
    return both, self.classifier(both * self.width**0.5)

  def text(self, sentences: jax.Array) -> jax.Array:
    """Embeds sentences (N, length) int, word ids padded with 0 -> (N, width) float32 unit vectors."""
    known = sentences > 0
    x = (self.word_embed[sentences] + self.pos_embed).astype(self.dtype)
    x = self.norm(run_stack(self.block, self.blocks, [x], Packing(((1, self.length),)), [known])[0])
    total = jnp.sum(jnp.where(known[..., None], x, 0), axis=1)
    return unit(self.of_words(total / jnp.maximum(jnp.sum(known, axis=1, keepdims=True), 1)))
