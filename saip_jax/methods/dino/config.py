"""The settings of DINO."""

import dataclasses
from typing import Literal

from saip_jax.methods.mae.autoencoder import MaskedConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DinoMaskedConfig(MaskedConfig):
  """Masked reconstruction beside DINO.

  Attributes:
    weight: factor of its loss; 0 leaves it out, decoder and masks included.
  """

  weight: float = 0.0

  def __post_init__(self):
    super().__post_init__()
    if self.weight < 0:
      raise ValueError(f"config.method.mae.weight is {self.weight}: it must be 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DinoConfig:
  """DINO's own settings; recipes give every number.

  Attributes:
    name: "dino".
    local_crops: local crops per image, half as large as the two global ones.
    crop_aspect: width / height range of all crops.
    global_area: range of the area fraction of global crops.
    local_area: range of the area fraction of local crops.
    prototypes: outputs of the head.
    hidden: width of the head.
    bottleneck: width of its unit-length code.
    temp_student: temperature of student logits.
    temp_teacher_start: temperature of teacher logits at the first update.
    temp_teacher: temperature of teacher logits after the warm-up.
    temp_teacher_warmup: share of the updates in which it rises from one to the other; 0: `temp_teacher` throughout.
    temp_teacher_stairs: 0: it rises in a line; else in that many stairs of equal length, the last one at
      `temp_teacher`. As published, each epoch of the warm-up is a stair.
    center_momentum: momentum of the center at every micro-step.
    teacher_momentum: momentum of the teacher at the first update; it rises to 1 along half a cosine.
    prototypes_frozen: share of the updates before the prototypes start to learn.
    norm_last_layer: prototypes have unit length; False: a learned one.
    weights: initial kernels of a ViT and of the head: "normal", N(0, 0.02), as published; "xavier", Xavier-uniform,
      two to four times larger, from which short runs learn more.
    positions: how the learned positions of a ViT are resized for local crops: "grid2d", to their grid; "as_published",
      sampled up to a tenth of a cell beside it, see `pos_embed.interpolate_positions`.
    mae: masked reconstruction beside the matching.
  """

  name: str
  local_crops: int
  crop_aspect: tuple[float, float]
  global_area: tuple[float, float]
  local_area: tuple[float, float]
  prototypes: int
  hidden: int
  bottleneck: int
  temp_student: float
  temp_teacher_start: float
  temp_teacher: float
  temp_teacher_warmup: float
  center_momentum: float
  teacher_momentum: float
  prototypes_frozen: float
  mae: DinoMaskedConfig
  norm_last_layer: bool = True
  temp_teacher_stairs: int = 0
  weights: Literal["normal", "xavier"] = "normal"
  positions: Literal["grid2d", "as_published"] = "grid2d"

  def __post_init__(self):
    if self.local_crops < 0:
      raise ValueError(f"config.method.local_crops is {self.local_crops}: it must be 0 or more")
    if self.temp_teacher_stairs < 0 or self.temp_teacher_stairs == 1:
      raise ValueError(
        f"config.method.temp_teacher_stairs is {self.temp_teacher_stairs}: it must be 2 or more, or 0 for a line"
      )
    for name in ("temp_student", "temp_teacher_start", "temp_teacher"):
      if getattr(self, name) <= 0:
        raise ValueError(f"config.method.{name} is {getattr(self, name)}: it must be positive")
    for name in ("temp_teacher_warmup", "prototypes_frozen", "center_momentum", "teacher_momentum"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f"config.method.{name} is {getattr(self, name)}: it must lie in 0 to 1")
