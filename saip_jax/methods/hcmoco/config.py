"""The settings of HCMoCo."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class HcmocoWeights:
  """Factors of the losses; a loss of weight 0 is not computed.

  Attributes:
    sample: contrast of whole samples between modalities, the only loss of the first stage.
    dense: contrast of the RGB and depth maps, cell by cell.
    nodes: contrast of the maps at the joints with the nodes of the skeleton.
    joints: contrast of the maps at the joints between samples and modalities.
  """

  sample: float
  dense: float
  nodes: float
  joints: float

  def __post_init__(self):
    weights = dataclasses.asdict(self)
    for name, weight in weights.items():
      if weight < 0:
        raise ValueError(f"config.method.weights.{name} is {weight}: it must be 0 or more")
    if not any(weights.values()):
      raise ValueError("config.method.weights are all 0: at least one must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HcmocoBank:
  """Memory banks: for each modality, a feature of every image of the data set.

  Attributes:
    size: images of the data set.
    draws: negatives, drawn at each micro-step.
    momentum: momentum of a feature when its image is in a batch again.
  """

  size: int
  draws: int
  momentum: float

  def __post_init__(self):
    at = "config.method.bank"
    for name in ("size", "draws"):
      if getattr(self, name) < 1:
        raise ValueError(f"{at}.{name} is {getattr(self, name)}: it must be positive")
    if not 0 <= self.momentum < 1:
      raise ValueError(f"{at}.momentum is {self.momentum}: it must lie in 0 to 1, 1 excluded")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HcmocoConfig:
  """HCMoCo's own settings; recipes give every number.

  Attributes:
    name: "hcmoco".
    crop_area: range of the area fraction of the crop.
    crop_aspect: range of its width / height.
    width: width of the features that are compared, and of the skeleton encoder.
    skeleton_blocks: residual blocks of the skeleton encoder.
    temperature: temperature of all losses.
    negatives: negatives of a whole sample: "bank", earlier features of any images; "batch", the other samples of its
      micro-batch.
    bank: the memory banks; only for negatives "bank".
    places: cells drawn on the person of each image for the dense contrast.
    weights: weights of the losses.
    as_published: negatives of the bank are drawn for each sample, its own row included; rows of samples without a
      modality move too; joints are contrasted as in the released code, see `losses.joints.joint_contrast`. False:
      missing modalities and invisible joints are left out, and all samples share one draw.
  """

  name: str
  crop_area: tuple[float, float]
  crop_aspect: tuple[float, float]
  width: int
  skeleton_blocks: int
  temperature: float
  negatives: Literal["bank", "batch"]
  bank: HcmocoBank
  places: int
  weights: HcmocoWeights
  as_published: bool = False

  def __post_init__(self):
    for name in ("width", "skeleton_blocks", "temperature", "places"):
      if getattr(self, name) <= 0:
        raise ValueError(f"config.method.{name} is {getattr(self, name)}: it must be positive")
