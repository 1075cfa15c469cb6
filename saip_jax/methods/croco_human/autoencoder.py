"""Cross-view completion: hidden patches of an image are predicted from the others and from a second image."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from saip_jax.backbones.features import Features, Views
from saip_jax.backbones.patches import patchify
from saip_jax.heads.mae_decoder import MaeDecoder
from saip_jax.losses import reconstruction
from saip_jax.masking.foreground import hide_patches
from saip_jax.methods.mae.autoencoder import MaskDraws, MaskedAutoencoder, MaskedOutputs
from saip_jax.methods.modules import encode_views


@struct.dataclass
class PairViews:
  """Normalized views of pairs, and the masks of the first images.

  Attributes:
    images: (B, H, W, 3), of the first images.
    partners: (B, H, W, 3), of the second images.
    kind: (B,) int32, kind of the pair.
    masks: which patches of the first images are seen.
  """

  images: jax.Array
  partners: jax.Array
  kind: jax.Array
  masks: MaskDraws


@dataclasses.dataclass(frozen=True)
class PairAutoencoder(MaskedAutoencoder):
  """An encoder that sees some patches of an image and all of a second one, and a decoder that predicts the others.

  The decoder gets the class tokens of the encoder too, as in MAE; CroCo has none. With a backbone of rotary positions
  the decoder has rotary positions too, and no others.

  Attributes:
    second_image: the decoder attends to the second image; False: to the first one only.
  """

  second_image: bool = True

  @property
  def seen_patches(self) -> int:
    """M = L - int(mask_ratio * L), CroCo's rule."""
    return self.patches - int(self.settings.mask_ratio * self.patches)

  @property
  def decoder(self) -> MaeDecoder:
    return super().decoder.clone(context="image" if self.second_image else "none", rope=self.backbone.rope)

  def init(self, key: jax.Array) -> Any:
    """Returns the parameters of the decoder."""
    first = jnp.zeros((1, 2, self.backbone.feature_width))
    second = jnp.zeros((1, 1 + self.patches, self.backbone.feature_width)) if self.second_image else None
    return self.decoder.init(key, first, jnp.zeros((1, self.patches), jnp.int32), self.grid, second)["params"]

  def draw(self, keys: jax.Array, preference: jax.Array) -> MaskDraws:
    """Draws for each key (B,) the patches that are hidden, see `hide_patches`; the seen ones are in raster order.

    Args:
      keys: (B,) one key per sample.
      preference: (B, L) added to the uniform number of each patch; the largest numbers are hidden.
    """
    hide = lambda key, preference: hide_patches(key, self.patches, self.patches - self.seen_patches, preference)
    return MaskDraws(*jax.vmap(hide)(keys, preference))

  def _decoder_inputs(self, encoder: Any, views: PairViews) -> tuple[Features, tuple]:
    """Returns the features of the seen patches of the first images, and the arguments of the decoder."""
    reads = ["cls", "tokens"]
    kinds = [Views(views.images[:, None], reads, keep_ids=views.masks.keep_ids)]
    if self.second_image:
      kinds.append(Views(views.partners[:, None], reads))
    features, _ = encode_views(self.backbone, encoder, None, kinds)
    first, *second = (jnp.concatenate([f.cls[:, None], f.tokens], axis=1) for f in features)  # (B, 1 + M, D), ...
    return features[0], (first, views.masks.restore_ids, self.grid, *second)

  def forward(self, encoder: Any, decoder: Any, views: PairViews) -> MaskedOutputs:
    """Reconstructs the first images.

    Args:
      encoder: parameters of the backbone.
      decoder: parameters of the decoder.
      views: of the backbone's size.
    """
    first, inputs = self._decoder_inputs(encoder, views)
    prediction = self.decoder.apply({"params": decoder}, *inputs)
    target = reconstruction.normalize_patches(patchify(views.images, self.patch))
    return MaskedOutputs(first.cls, prediction, target)

  def cross_map(self, encoder: Any, decoder: Any, views: PairViews) -> jax.Array:
    """Returns the attention of first patches to second patches, see `MaeDecoder.cross_map`."""
    _, inputs = self._decoder_inputs(encoder, views)
    return self.decoder.apply({"params": decoder}, *inputs, method=MaeDecoder.cross_map)

  def losses(self, outputs: MaskedOutputs, views: PairViews, kinds: int) -> jax.Array:
    """Returns the mean squared error of the hidden patches for each kind of pair, (kinds,)."""
    hidden = 1.0 - views.masks.seen
    return reconstruction.masked_mse_by_kind(outputs.prediction, outputs.target, hidden, views.kind, kinds)
