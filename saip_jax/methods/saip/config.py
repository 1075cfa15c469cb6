"""The settings of SAIP, and where they may deviate from the released code."""

import dataclasses
from typing import Literal

from input_pipeline.checks import require
from saip_jax.methods.hap.config import HapMasksConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Behavior:
  """Each place where a run can deviate from the released code. None: as in the fidelity.

  The instance is the anchor at half size, the RoI (region of interest) the last local crop; CSS searches for both.

  Attributes (released; improved):
    positions: "flat1d" resizes the table of positions as one line, so that columns drift; "grid2d" as a grid.
    tokens: "uniform" starts positions and mask tokens at U[0, 1) and decays them and the class token; "normal" starts
      them at N(0, 0.02) and decays none.
    ema: "constant" applies `teacher_momentum` at every micro-step; "cosine" raises it to 1 over the run and moves the
      teacher once per update.
    csr_mask: "carried" draws the mask on the grid of a global view and carries it to the enlarged one, where about 1.5
      seen patches are scored and as many hidden ones are not; "exact" draws it there.
    csr_context: "cls" gives the decoder the anchor's class token alone, in the place of the first patch; "tokens" lets
      every block attend to all tokens of the anchor, as in the paper's figure.
    resize: "nearest" picks pixels for the instance, the rescaled crops and the enlarged view; "antialiased" filters.
    crop_sizes: "cut" drops the right and lower pixels of rescaled crops that fill no patch; "whole" rounds their sides
      to whole patches.
    scale_draw: "step" draws one pair of scales per micro-step; "sample" one for each image.
    scene_order: "fixed" places the RoI left of the instance; "random" in any order.
    scene_second: person of the RoI: "same", the one of the image; "other", the one of the next image of the batch, so
      that the search must distinguish persons.
    scene_persons: smallest and largest number of persons in a scene; 1: the instance alone, and the RoI is searched for
      in vain; 3: also a distractor from another image.
    balance: "centering" of the teacher's outputs; "sinkhorn", three Sinkhorn-Knopp iterations over the batch.
    statistics: running statistics of the teacher, for backbones with batch norm: "own", from its own batches; "ema", a
      moving average of the student's, as for parameters; "copied", the student's.
  """

  positions: Literal["flat1d", "grid2d"] | None = None
  tokens: Literal["uniform", "normal"] | None = None
  ema: Literal["constant", "cosine"] | None = None
  csr_mask: Literal["carried", "exact"] | None = None
  csr_context: Literal["cls", "tokens"] | None = None
  resize: Literal["nearest", "antialiased"] | None = None
  crop_sizes: Literal["cut", "whole"] | None = None
  scale_draw: Literal["step", "sample"] | None = None
  scene_order: Literal["fixed", "random"] | None = None
  scene_second: Literal["same", "other"] | None = None
  scene_persons: tuple[int, int] | None = None
  balance: Literal["centering", "sinkhorn"] | None = None
  statistics: Literal["own", "ema", "copied"] | None = None

  def __post_init__(self):
    low, high = self.scene_persons or (2, 2)
    require(
      1 <= low <= high <= 3,
      f"config.method.behavior.scene_persons is {self.scene_persons}: smallest and largest number within 1 to 3",
    )


FIDELITIES = {
  "official": Behavior(
    positions="flat1d",
    tokens="uniform",
    ema="constant",
    csr_mask="carried",
    csr_context="cls",
    resize="nearest",
    crop_sizes="cut",
    scale_draw="step",
    scene_order="fixed",
    scene_second="same",
    scene_persons=(2, 2),
    balance="centering",
    statistics="own",
  ),
  "improved": Behavior(
    positions="grid2d",
    tokens="normal",
    ema="cosine",
    csr_mask="exact",
    csr_context="tokens",
    resize="antialiased",
    crop_sizes="whole",
    scale_draw="sample",
    scene_order="random",
    scene_second="other",
    scene_persons=(1, 3),
    balance="centering",
    statistics="ema",
  ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchingConfig:
  """Cross-scale matching (CSM).

  Attributes:
    weight: factor of its losses; 0 leaves the objective out, head and views included.
    attention_weight: factor of the term of the attention maps within it; 0 leaves it out.
    prototypes: outputs of the head.
    hidden: width of the head.
    bottleneck: width of its unit-length code.
    temp_student: temperature of student logits.
    temp_teacher: temperature of teacher logits.
    center_momentum: momentum of the center at every micro-step.
  """

  weight: float = 1.0
  attention_weight: float = 1.0
  prototypes: int
  hidden: int
  bottleneck: int
  temp_student: float
  temp_teacher: float
  center_momentum: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
  """Cross-scale reconstruction (CSR).

  Attributes:
    weight: factor of its loss; 0 leaves the objective out.
    scale: scale of the masked view that is reconstructed.
    mask_ratio: hidden fraction of its patches.
    masks: patches that are hidden first, as in HAP; None: all are equally likely.
    width: width of the decoder.
    depth: blocks of the decoder.
    heads: attention heads of the decoder.
  """

  weight: float = 1.0
  scale: float
  mask_ratio: float
  masks: HapMasksConfig | None = None
  width: int
  depth: int
  heads: int

  def __post_init__(self):
    require(
      self.masks is None or not self.masks.cap_bug,
      "config.method.csr.masks.cap_bug is True: only the method hap replicates this bug, set it to False",
    )
    require(
      0 < self.mask_ratio < 1, f"config.method.csr.mask_ratio is {self.mask_ratio}: expected within 0 to 1, exclusive"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
  """Cross-scale search (CSS).

  Attributes:
    weight: factor of its losses; 0 leaves the objective out, the scene included.
    scene_size: side of the reference scene, pixels.
    scene_area: range of the area fraction of the scene crop.
    scene_aspect: width / height range of the scene crop.
    paste_opacity: weight of a pasted person against the background.
    width: width of the decoder.
    depth: self-attention blocks of the decoder.
    heads: attention heads of the decoder.
  """

  weight: float = 1.0
  scene_size: int
  scene_area: tuple[float, float]
  scene_aspect: tuple[float, float]
  paste_opacity: float
  width: int
  depth: int
  heads: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaipConfig:
  """SAIP's own settings; recipes give every number.

  Attributes:
    name: "saip".
    fidelity: a key of `FIDELITIES`: "official" has every behavior of the released code that affects the result.
    behavior: single behaviors that differ from the fidelity's.
    local_crops: random local crops per image; the last is the RoI, which is pasted into the scene and searched for.
    crop_aspect: width / height range of person crops.
    global_area: range of the area fraction of the two global crops.
    local_area: range of the area fraction of local crops.
    rescale_factors: scales that the RoI and the instance are resized to.
    teacher_momentum: momentum of the teacher.
    expert: weights of a frozen encoder that is the teacher instead of the moving average, anything `saip import` reads
      or makes: CSS searches in its features, CSM matches its image features over fixed random prototypes.
    csm: cross-scale matching.
    csr: cross-scale reconstruction.
    css: cross-scale search.
  """

  name: str
  fidelity: Literal["official", "improved"]
  behavior: Behavior = Behavior()
  local_crops: int
  crop_aspect: tuple[float, float]
  global_area: tuple[float, float]
  local_area: tuple[float, float]
  rescale_factors: tuple[float, ...]
  teacher_momentum: float
  expert: str | None = None
  csm: MatchingConfig
  csr: ReconstructionConfig
  css: SearchConfig

  def __post_init__(self):
    require(
      self.local_crops >= 2,
      f"config.method.local_crops is {self.local_crops}: expected 2 or more, the last one is searched for",
    )
    weights = {name: getattr(self, name).weight for name in ("csm", "csr", "css")}
    require(
      min(weights.values()) >= 0 and max(weights.values()) > 0,
      f"config.method.csm.weight, csr.weight and css.weight are {', '.join(map(str, weights.values()))}: none may be"
      " negative and one must be positive",
    )
    require(
      self.expert is None or self.csm.attention_weight == 0 or self.csm.weight == 0,
      "config.method.expert provides no attention maps to match: set config.method.csm.attention_weight=0",
    )

  @property
  def resolved(self) -> Behavior:
    """All behaviors: those of `behavior`, the others from the fidelity."""
    own = {name: value for name, value in vars(self.behavior).items() if value is not None}
    return dataclasses.replace(FIDELITIES[self.fidelity], **own)
