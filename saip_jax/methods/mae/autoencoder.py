"""Masked reconstruction: some patches of an image are encoded, and the others predicted from them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from saip_jax.backbones.features import Backbone, Views
from saip_jax.backbones.patches import patchify
from saip_jax.heads.mae_decoder import MaeDecoder
from saip_jax.losses import reconstruction
from saip_jax.masking.anchor import order_by_mask
from saip_jax.methods.modules import encode_views


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedConfig:
  """Masked reconstruction.

  Attributes:
    mask_ratio: hidden fraction of the patches.
    width: width of the decoder.
    depth: blocks of the decoder.
    heads: attention heads of the decoder.
  """

  mask_ratio: float
  width: int
  depth: int
  heads: int

  def __post_init__(self):
    if not 0 < self.mask_ratio < 1:
      raise ValueError(f"config.method.mae.mask_ratio is {self.mask_ratio}: expected within 0 to 1, exclusive")


@struct.dataclass
class MaskDraws:
  """Which patches of each image are seen.

  Attributes:
    keep_ids: (B, M) int32 patches that the encoder sees, in random order.
    restore_ids: (B, L) int32 place of each patch in the order visible first.
  """

  keep_ids: jax.Array
  restore_ids: jax.Array

  @property
  def seen(self) -> jax.Array:
    """(B, L) bool."""
    return self.restore_ids < self.keep_ids.shape[1]


@struct.dataclass
class MaskedOutputs:
  """Outputs of masked reconstruction for a batch.

  Attributes:
    cls: (B, D) image feature of the patches that were seen.
    prediction: (B, L, P) predicted patches, normalized.
    target: (B, L, P) float32, patches of the image, normalized.
  """

  cls: jax.Array
  prediction: jax.Array
  target: jax.Array


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoder:
  """An encoder that sees some patches, up to its last layer, and a decoder that predicts the others.

  Patches are the cells of the encoder's last grid: 16 pixels wide for a ViT, 32 for a ConvNet.

  Attributes:
    settings: the settings of masked reconstruction.
    backbone: the encoder.
    positions: kind of the decoder's positions, see `MaeDecoder`.
  """

  settings: MaskedConfig
  backbone: Backbone
  positions: str = "learned"

  def __post_init__(self):
    if not self.backbone.maskable:
      raise ValueError(
        "this backbone takes no masked input, which MAE needs: set config.model.backbone to a ViT or a ConvNeXt"
      )
    height, width = self.backbone.image_hw
    if height % self.patch or width % self.patch:
      raise ValueError(
        f"config.model.image_hw is {height}x{width}: this backbone is masked in patches of {self.patch} pixels, "
        "both sides must be multiples"
      )
    count, ratio = self.patches, self.settings.mask_ratio
    if not 0 < self.seen_patches < count:
      what, change = ("seen", "lower") if self.seen_patches < 1 else ("hidden", "raise")
      raise ValueError(
        f"config.method.mae.mask_ratio is {ratio}: of {count} patches none is {what}; {change} it or raise "
        "config.model.image_hw"
      )

  @property
  def patch(self) -> int:
    """Side of a patch in pixels."""
    return self.backbone.last_stride

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of patches of an image."""
    height, width = self.backbone.image_hw
    return height // self.patch, width // self.patch

  @property
  def patches(self) -> int:
    """L, the number of patches of an image."""
    return self.grid[0] * self.grid[1]

  @property
  def seen_patches(self) -> int:
    """M, the number of patches that the encoder sees."""
    return int(self.patches * (1 - self.settings.mask_ratio))

  @property
  def decoder(self) -> MaeDecoder:
    s, b = self.settings, self.backbone
    return MaeDecoder(
      3 * self.patch**2,
      self.grid,
      s.width,
      s.depth,
      s.heads,
      "none",
      "grid2d",
      "normal",
      b.dtype,
      b.unroll,
      b.remat,
      self.positions,
      attention=b.attention,
    )

  def init(self, key: jax.Array) -> Any:
    """Returns the parameters of the decoder."""
    h, w = self.grid
    encoded, order = jnp.zeros((1, 2, self.backbone.feature_width)), jnp.zeros((1, h * w), jnp.int32)
    return self.decoder.init(key, encoded, order, (h, w))["params"]

  def draw(self, keys: jax.Array) -> MaskDraws:
    """Draws for each key (B,) the `seen_patches` patches that are seen, all equally likely."""
    all_equal = jnp.ones(self.patches)
    order = lambda key: order_by_mask(key, all_equal, self.settings.mask_ratio)
    return MaskDraws(*jax.vmap(order)(keys))

  def forward(self, encoder: Any, decoder: Any, images: jax.Array, masks: MaskDraws) -> MaskedOutputs:
    """Reconstructs images.

    Args:
      encoder: parameters of the backbone.
      decoder: parameters of the decoder.
      images: (B, H, W, 3) normalized, of the backbone's size.
      masks: which of their patches are seen.
    """
    views = Views(images[:, None], ["cls", "tokens"], keep_ids=masks.keep_ids)
    (features,), _ = encode_views(self.backbone, encoder, None, [views])
    encoded = jnp.concatenate([features.cls[:, None], features.tokens], axis=1)  # (B, 1 + M, D)
    prediction = self.decoder.apply({"params": decoder}, encoded, masks.restore_ids, self.grid)
    return MaskedOutputs(features.cls, prediction, reconstruction.normalize_patches(patchify(images, self.patch)))

  def loss(self, outputs: MaskedOutputs, masks: MaskDraws) -> jax.Array:
    """Returns the mean squared error of the hidden patches."""
    return reconstruction.masked_mse(outputs.prediction, outputs.target, 1.0 - masks.seen)
