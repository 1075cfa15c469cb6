"""The settings of SAIP."""

import dataclasses

FIDELITIES = ("official",)


@dataclasses.dataclass(frozen=True)
class SaipConfig:
  """SAIP's own settings; recipes state every number.

  Attributes:
    name: "saip".
    fidelity: "official": every behaviour of the released code that shapes the result.
    local_crops: random local crops per image; the last is the one pasted and searched for.
    crop_aspect: width / height range of person crops.
    global_area: range of the area fraction of the two global crops.
    local_area: range of the area fraction of local crops.
    scene_size: side of the reference scene, pixels.
    scene_area: range of the area fraction of the scene crop.
    scene_aspect: width / height range of the scene crop.
    paste_opacity: weight of a pasted person against the background.
    rescale_factors: scales that the last local crop and the region are resized to, one draw each per micro-step.
    csr_scale: scale of the masked view that is reconstructed.
    mask_ratio: hidden fraction of its patches.
    prototypes: outputs of the matching head.
    head_hidden: width of the matching head.
    head_bottleneck: width of its unit-length code.
    csr_width: width of the reconstruction decoder.
    csr_depth: its blocks.
    csr_heads: its attention heads.
    css_width: width of the search decoder.
    css_depth: its self-attention blocks.
    css_heads: its attention heads.
    temp_student: temperature of student logits.
    temp_teacher: temperature of teacher logits.
    ema_momentum: share of the teacher kept at every micro-step.
    center_momentum: share of the centre kept at every micro-step.
  """

  name: str
  fidelity: str
  local_crops: int
  crop_aspect: tuple[float, float]
  global_area: tuple[float, float]
  local_area: tuple[float, float]
  scene_size: int
  scene_area: tuple[float, float]
  scene_aspect: tuple[float, float]
  paste_opacity: float
  rescale_factors: tuple[float, ...]
  csr_scale: float
  mask_ratio: float
  prototypes: int
  head_hidden: int
  head_bottleneck: int
  csr_width: int
  csr_depth: int
  csr_heads: int
  css_width: int
  css_depth: int
  css_heads: int
  temp_student: float
  temp_teacher: float
  ema_momentum: float
  center_momentum: float

  def __post_init__(self):
    if self.fidelity not in FIDELITIES:
      raise ValueError(f"method.fidelity {self.fidelity!r} is unknown; choose one of {', '.join(FIDELITIES)}")
    if self.local_crops < 2:
      raise ValueError(f"method.local_crops is {self.local_crops}: two at least, as the last one is searched for")
    if not 0 < self.mask_ratio < 1:
      raise ValueError(f"method.mask_ratio is {self.mask_ratio}, expected a fraction between 0 and 1")
