"""The settings of HCMoCo."""

import dataclasses
from collections.abc import Sized
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class HcmocoWeights:
  """Factors of the losses; a loss of weight 0 is not computed.

  Attributes:
    sample: contrast of whole samples between modalities: the first stage is this alone.
    dense: contrast of the RGB and depth maps, place by place.
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
    draws: negatives, drawn anew at each micro-step.
    momentum: share of a feature that is kept when its image comes again.
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
  """HCMoCo's own settings; recipes state every number.

  Attributes:
    name: "hcmoco".
    crop_area: range of the area fraction of the crop.
    crop_aspect: range of its width / height.
    width: of the features that are compared, and of the skeleton encoder.
    skeleton_blocks: residual blocks of the skeleton encoder.
    temperature: of all losses.
    negatives: what a whole sample is compared with: "bank", earlier features of any images; "batch", the others of its
      micro-batch.
    bank: the memory banks; only with negatives "bank".
    places: drawn from the person of each picture for the dense contrast.
    weights: of the losses.
    as_published: negatives of the bank are drawn for each sample, its own row possible; rows of samples without a
      modality move too; joints are contrasted as the released code does, see `losses.joints.joint_contrast`. False:
      what is missing or invisible takes no part, and one draw serves all samples.
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

  def check_data(self, data: Sized) -> None:
    """Raises ValueError unless the memory banks have a row for each image of the data set."""
    images = len(data)
    if self.negatives == "bank" and self.bank.size != images:
      raise ValueError(
        f"config.method.bank.size is {self.bank.size}, the data set has {images} images: set it to {images}, or "
        "config.method.negatives=batch, which needs no banks"
      )
