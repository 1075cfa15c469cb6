"""Cross-view completion: hidden patches of an image are painted from the others and from a second image."""

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
from saip_jax.methods.teacher import encode


@struct.dataclass
class PairViews:
  """Views of pairs.

  Attributes:
    images: (B, H, W, 3) normalized, of the first images.
    partners: (B, H, W, 3) of the second ones.
    kind: (B,) int32, what relates the two.
  """

  images: jax.Array
  partners: jax.Array
  kind: jax.Array


@dataclasses.dataclass(frozen=True)
class PairAutoencoder(MaskedAutoencoder):
  """An encoder that sees some patches of an image and all of a second one, and a decoder that paints the rest.

  The class tokens of the encoder go along into the decoder, as in MAE; CroCo has none.

  With a backbone that turns queries and keys, the decoder turns them too, and has no other positions.

  Attributes:
    second_image: the decoder looks at the second image; else at nothing.
  """

  second_image: bool = True

  @property
  def kept(self) -> int:
    """M, as many as are left when int(mask_ratio * L) are hidden, which is CroCo's rule."""
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
    """Draws for each key (B,) the patches that are hidden, see `hide_patches`; those seen are in raster order.

    Args:
      keys: of the samples.
      preference: (B, L).
    """
    hide = lambda key, preference: hide_patches(key, self.patches, self.patches - self.kept, preference)
    return MaskDraws(*jax.vmap(hide)(keys, preference))

  def _decoder_inputs(self, encoder: Any, views: PairViews, draws: MaskDraws) -> tuple[Features, tuple]:
    """Returns the features of what is seen of the first images, and the arguments of the decoder."""
    reads = ["cls", "tokens"]
    kinds = [Views(views.images[:, None], reads, keep_ids=draws.keep_ids)]
    if self.second_image:
      kinds.append(Views(views.partners[:, None], reads))
    features, _ = encode(self.backbone, encoder, None, kinds)
    first, *second = (jnp.concatenate([f.cls[:, None], f.tokens], axis=1) for f in features)  # (B, 1 + M, D), ...
    return features[0], (first, draws.restore_ids, self.grid, *second)

  def forward(self, encoder: Any, decoder: Any, views: PairViews, draws: MaskDraws) -> MaskedOutputs:
    """Paints the first images.

    Args:
      encoder: parameters of the backbone.
      decoder: those of the decoder.
      views: of the backbone's size.
      draws: what is seen of the first images.
    """
    first, inputs = self._decoder_inputs(encoder, views, draws)
    prediction = self.decoder.apply({"params": decoder}, *inputs)
    target = reconstruction.normalize_patches(patchify(views.images, self.patch))
    return MaskedOutputs(first.cls, prediction, target)

  def cross_map(self, encoder: Any, decoder: Any, views: PairViews, draws: MaskDraws) -> jax.Array:
    """Returns how much each patch of the first images looks at each of the second ones, see `MaeDecoder.cross_map`."""
    _, inputs = self._decoder_inputs(encoder, views, draws)
    return self.decoder.apply({"params": decoder}, *inputs, method=MaeDecoder.cross_map)

  def losses(self, outputs: MaskedOutputs, draws: MaskDraws, kind: jax.Array, kinds: int) -> jax.Array:
    """Returns the mean squared error of the hidden patches of each kind of pairs, (kinds,)."""
    return reconstruction.masked_mse_by_kind(outputs.prediction, outputs.target, 1.0 - draws.seen, kind, kinds)
