"""The settings of HAP."""

import dataclasses
from typing import Literal

from saip_jax.masking.parts import PART_BONES
from saip_jax.methods.mae.autoencoder import MaskedConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class HapMasksConfig:
  """What is hidden first.

  Attributes:
    blocks: hide patches in blocks; False: anywhere.
    most_parts: 0 to this many of the six parts of the body are hidden before anything else; 0 needs no keypoints.
    part_fraction: range of the share of a part's patches that is hidden: (1.0, 1.0) in the paper, (0.0, 0.3) in the
      released code.
    min_score: keypoints with a visibility or score above it are known: 0.0 takes all that are given, 1.5 those of
      annotated sets that are not occluded.
    cap_bug: hide parts in the first few images of a micro-batch only, a bug of the released code.
  """

  blocks: bool = True
  most_parts: int = len(PART_BONES)
  part_fraction: tuple[float, float] = (1.0, 1.0)
  min_score: float = 0.0
  cap_bug: bool = False

  def __post_init__(self):
    low, high = self.part_fraction
    if not 0 <= self.most_parts <= len(PART_BONES):
      raise ValueError(f"masks.most_parts is {self.most_parts}: expected 0 to {len(PART_BONES)}")
    if not 0 <= low <= high <= 1:
      raise ValueError(f"masks.part_fraction is {self.part_fraction}: expected two shares in 0 to 1, the lower first")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HapAlignConfig:
  """Alignment of the image features of the two masks.

  Attributes:
    weight: factor of its loss.
    temperature: temperature of the cosines.
  """

  weight: float
  temperature: float

  def __post_init__(self):
    at = "config.method.align"
    if self.weight < 0:
      raise ValueError(f"{at}.weight is {self.weight}: it must be 0 or more")
    if self.temperature <= 0:
      raise ValueError(f"{at}.temperature is {self.temperature}: it must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HapConfig:
  """HAP's own settings; recipes give every number.

  Attributes:
    name: "hap".
    crop_area: range of the area fraction of the crop.
    crop_aspect: range of its width / height.
    mae: hidden fraction, and the decoder.
    masks: what is hidden first.
    align: alignment of the two masks.
    positions: positions of the patches, in encoder and decoder: "learned", or "cosine", fixed. As published they are
      fixed, in the encoder to those of its initial weights.
  """

  name: str
  crop_area: tuple[float, float]
  crop_aspect: tuple[float, float]
  mae: MaskedConfig
  masks: HapMasksConfig
  align: HapAlignConfig
  positions: Literal["learned", "cosine"] = "learned"
