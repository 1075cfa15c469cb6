"""The settings of SAIP."""

import dataclasses
from typing import Literal

from input_pipeline.checks import require
from saip_jax.methods.hap.config import HapMasksConfig
from saip_jax.methods.saip.behavior import FIDELITIES, Behavior


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
class AlignConfig:
  """Alignment with a frozen expert: terms beside CSM, CSR and CSS.

  The image features of all global views and crops are compared with the expert's of the global views, the patch tokens
  of the global views with its own. An adapter, which is not exported, maps the student's features to its width.

  Attributes:
    weight: factor of all terms; 0 leaves the alignment out, adapter included.
    image_weight: factor of the distance of image features.
    patch_weight: factor of the distance of patch tokens.
    relation_weight: factor of the divergence of relations.
    adapter: "mlp", "linear", or "block": an MLP and a transformer block with the expert's heads, see `heads.adapter`.
    targets: the expert's features as they are, "raw", or each channel "standardized" by moving moments, so that a few
      large channels do not dominate.
    distance: "mse", "huber" or "cosine", see `losses.distillation`.
    pairs: "cross" compares the image features of different views only; "all" also those of the same view.
    relation: "attention", KL of the attention maps of the last block, those of the adapter's block if it has one;
      "tokens", KL of the relations of tokens, also in the scene if there is one; "none".
    temperature: of the relations of tokens.
  """

  weight: float = 0.0
  image_weight: float = 1.0
  patch_weight: float = 0.1
  relation_weight: float = 0.1
  adapter: Literal["mlp", "linear", "block"] = "mlp"
  targets: Literal["raw", "standardized"] = "raw"
  distance: Literal["mse", "huber", "cosine"] = "mse"
  pairs: Literal["cross", "all"] = "cross"
  relation: Literal["attention", "tokens", "none"] = "attention"
  temperature: float = 0.1

  def __post_init__(self):
    for name in ("weight", "image_weight", "patch_weight", "relation_weight"):
      value = getattr(self, name)
      require(value >= 0, f"config.method.align.{name} is {value}: expected 0 or more")
    weights = self.image_weight + self.patch_weight + self.relation_weight * (self.relation != "none")
    require(
      not self.weight or weights > 0,
      "config.method.align has a weight but no term: one of image_weight, patch_weight and relation_weight must be"
      " positive, or align.weight 0",
    )
    require(self.temperature > 0, f"config.method.align.temperature is {self.temperature}: expected a positive number")

  def compares(self, relation: str) -> bool:
    """Returns whether these relations are compared."""
    return bool(self.weight and self.relation_weight and self.relation == relation)


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
    near_area: the same for the second half of them; None: as `local_area`.
    color_scale: factor of the published probabilities of color jitter, gray and solarize, from 0 to 1; 0 keeps the
      colors, which tell persons apart.
    rescale_factors: scales that the RoI and the instance are resized to.
    teacher_momentum: momentum of the teacher.
    teacher: who teaches CSM and CSS: "ema", a moving average of the student; or "expert": CSM then compares prototypes
      in the space of the expert's image features, which the adapter of `align` maps the student's to, and CSS searches
      in the expert's final tokens.
    expert: weights of a frozen encoder, anything that `saip import` reads or makes; for `align` and for `teacher`.
    expert_sha256: SHA-256 that its file must have; None accepts any. A run continues with the same weights only.
    expert_hw: (height, width) in pixels at which the expert sees a global view, the scene in proportion; None: the size
      of the view, or, where the expert's patches do not divide it, the size at which the expert has the view's grid.
    expert_mean: mean of each channel that the expert's input was normalized with, RGB, for pixels from 0 to 1; None: as
      stated with its weights.
    expert_std: standard deviation of each channel, likewise.
    csm: cross-scale matching.
    csr: cross-scale reconstruction.
    css: cross-scale search.
    align: alignment with the expert.
  """

  name: str
  fidelity: Literal["official", "improved"]
  behavior: Behavior = Behavior()
  local_crops: int
  crop_aspect: tuple[float, float]
  global_area: tuple[float, float]
  local_area: tuple[float, float]
  near_area: tuple[float, float] | None = None
  color_scale: float = 1.0
  rescale_factors: tuple[float, ...]
  teacher_momentum: float
  teacher: Literal["ema", "expert"] = "ema"
  expert: str | None = None
  expert_sha256: str | None = None
  expert_hw: tuple[int, int] | None = None
  expert_mean: tuple[float, float, float] | None = None
  expert_std: tuple[float, float, float] | None = None
  csm: MatchingConfig
  csr: ReconstructionConfig
  css: SearchConfig
  align: AlignConfig = AlignConfig()

  def __post_init__(self):
    require(
      self.local_crops >= 2,
      f"config.method.local_crops is {self.local_crops}: expected 2 or more, the last one is searched for",
    )
    require(
      0 <= self.color_scale <= 1, f"config.method.color_scale is {self.color_scale}: expected a number within 0 to 1"
    )
    weights = {name: getattr(self, name).weight for name in ("csm", "csr", "css", "align")}
    require(
      min(weights.values()) >= 0 and max(weights.values()) > 0,
      "config.method.csm.weight, csr.weight, css.weight and align.weight are"
      f" {', '.join(map(str, weights.values()))}: none may be negative and one must be positive",
    )
    require(
      self.teacher == "ema" or self.csm.weight > 0 or self.css.weight > 0,
      "config.method.teacher is 'expert', but without csm and css there is nothing to teach: set it to 'ema'",
    )
    require(
      (self.expert_mean is None) == (self.expert_std is None),
      "config.method.expert_mean and expert_std belong together: set both or none",
    )
    if self.expert is None:
      given = [name for name in ("sha256", "hw", "mean", "std") if getattr(self, f"expert_{name}") is not None]
      require(not given, f"config.method.expert_{given[0] if given else ''} is set, but config.method.expert is not")
    else:
      require(
        self.uses_expert,
        f"config.method.expert is {self.expert!r}, but nothing uses it: set config.method.align.weight or"
        " config.method.teacher='expert'",
      )

  @property
  def uses_expert(self) -> bool:
    """Whether an expert is needed."""
    return bool(self.align.weight) or self.teacher == "expert"

  @property
  def adapts(self) -> bool:
    """Whether there is an adapter to the expert's features."""
    return bool(self.align.weight) or self.teacher == "expert" and bool(self.csm.weight)

  @property
  def matches_attention(self) -> bool:
    """Whether CSM compares attention maps with those of the teacher."""
    return bool(self.csm.weight and self.csm.attention_weight)

  @property
  def reads_expert_maps(self) -> bool:
    """Whether attention maps of the expert are compared."""
    return self.align.compares("attention") or self.teacher == "expert" and self.matches_attention

  @property
  def reads_expert_scene(self) -> bool:
    """Whether the expert encodes the scene."""
    return bool(self.css.weight) and (self.teacher == "expert" or self.align.compares("tokens"))

  @property
  def resolved(self) -> Behavior:
    """All behaviors: those of `behavior`, the others from the fidelity."""
    own = {name: value for name, value in vars(self.behavior).items() if value is not None}
    return dataclasses.replace(FIDELITIES[self.fidelity], **own)
