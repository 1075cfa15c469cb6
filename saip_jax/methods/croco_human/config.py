"""The settings of CroCo-Human."""

import dataclasses
from typing import Literal

from saip_jax.methods.mae.autoencoder import MaskedConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrocoMasksConfig:
  """Masks of the first image.

  Attributes:
    mode: "uniform": every patch is equally likely to be hidden; "foreground": patches of the person are more likely,
      which needs silhouettes. Images without a silhouette are masked uniformly.
    preference: for "foreground": added to the uniform number of a patch that the person covers; the largest numbers
      are hidden, so that from 1 on the person is hidden first.
  """

  mode: Literal["uniform", "foreground"] = "uniform"
  preference: float = 1.0

  def __post_init__(self):
    if self.preference < 0:
      raise ValueError(f"config.method.masks.preference is {self.preference}: it must be 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrocoHumanConfig:
  """CroCo-Human's own settings; recipes give every number.

  Attributes:
    name: "croco_human".
    crop_area: range of the area fraction of the crops.
    crop_aspect: range of their width / height.
    jitter: largest change of brightness, contrast and saturation of each image; 0.4 draws factors from 0.6 to 1.4.
    positions: positions of the patches, in encoder and decoder: "cosine", fixed; "learned"; "rope", rotary, only for
      the backbones vit_*_rope.
    second_image: the decoder attends to the second image; False: it does not, which is MAE on the same images.
    mae: hidden fraction, and the decoder.
    masks: masks of the first image.
  """

  name: str
  crop_area: tuple[float, float]
  crop_aspect: tuple[float, float]
  jitter: tuple[float, float, float]
  positions: Literal["cosine", "learned", "rope"]
  second_image: bool = True
  mae: MaskedConfig
  masks: CrocoMasksConfig

  def __post_init__(self):
    if not all(0 <= strength <= 1 for strength in self.jitter):
      raise ValueError(f"config.method.jitter is {self.jitter}: expected three numbers in 0 to 1")
