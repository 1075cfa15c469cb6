"""SAIP's networks: encoder and heads, and the views that each of them takes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from saip_jax.backbones.features import Backbone, Features, PaddedSizes, Views
from saip_jax.backbones.patches import patchify
from saip_jax.heads.mae_decoder import MaeDecoder
from saip_jax.heads.prototype import PrototypeHead
from saip_jax.heads.search import SearchDecoder
from saip_jax.losses import reconstruction
from saip_jax.methods.modules import encode_views
from saip_jax.methods.saip.aligner import Aligner
from saip_jax.methods.saip.config import SaipConfig
from saip_jax.methods.saip.expert import Expert
from saip_jax.methods.saip.outputs import SaipOutputs, StudentFeatures
from saip_jax.methods.saip.views import SaipViews, next_of_batch
from saip_jax.views.rescaling import rescale_antialiased, rescale_nearest, rescale_padded, scaled_size
from saip_jax.views.scenes import smallest_scene


def _per_sample(x: jax.Array, batch: int) -> jax.Array:
  """(B * V, ...) -> (B, V, ...)."""
  return x.reshape(batch, -1, *x.shape[1:])


def _wanted(**names: bool) -> list[str]:
  """Returns the names that are True."""
  return [name for name, wanted in names.items() if wanted]


@dataclasses.dataclass(frozen=True)
class SaipNetworks:
  """Encoder and heads of SAIP as functions of their parameters.

  Attributes:
    config: SAIP's settings.
    backbone: the encoder.
    expert: the frozen encoder of `config.expert`; None: nothing uses one.
  """

  config: SaipConfig
  backbone: Backbone
  expert: Expert | None = None

  def __post_init__(self):
    config, stride, (height, width) = self.config, self.backbone.stride, self.crop_hw
    if any(side < stride for sides in self.rescaled_sizes for side in sides):
      raise ValueError(
        f"local crops of {height}x{width} times {min(config.rescale_factors)} hold no patch of {stride} pixels: "
        "raise config.model.image_hw or the smallest of config.method.rescale_factors"
      )
    persons = max(2, config.resolved.scene_persons[1])
    room = max(smallest_scene(self.crop_hw, persons))
    if config.css.weight and (config.css.scene_size < room or config.css.scene_size % stride):
      raise ValueError(
        f"config.method.css.scene_size is {config.css.scene_size}: a multiple of {stride} of at least {room} pixels "
        f"is needed to place {persons} persons of {height}x{width}"
      )
    if config.matches_attention and not self.backbone.has_attention:
      raise ValueError(
        "this backbone has no attention maps of whole views to match: set config.method.csm.attention_weight=0"
      )
    if config.csr.weight and not self.backbone.maskable:
      raise ValueError("this backbone takes no masked input: set config.method.csr.weight=0")

  @property
  def crop_hw(self) -> tuple[int, int]:
    """Size of local crops and of the instance, pixels."""
    height, width = self.backbone.image_hw
    return height // 2, width // 2

  def _scaled(self, hw: tuple[int, int], factor: float) -> tuple[int, int]:
    multiple = self.backbone.stride if self.config.resolved.crop_sizes == "whole" else 1
    return scaled_size(hw[0], factor, multiple), scaled_size(hw[1], factor, multiple)

  @property
  def rescaled_sizes(self) -> tuple[tuple[int, int], ...]:
    """Sizes in pixels that the RoI and the instance are rescaled to."""
    return tuple(self._scaled(self.crop_hw, factor) for factor in self.config.rescale_factors)

  @property
  def grid(self) -> tuple[int, int]:
    """Grid of cells of a global view."""
    return self.backbone.hidden_grid(self.backbone.image_hw)

  @property
  def csr_hw(self) -> tuple[int, int]:
    """Size of the enlarged view that is masked and reconstructed, pixels."""
    return self._scaled(self.backbone.image_hw, self.config.csr.scale)

  @property
  def csr_grid(self) -> tuple[int, int]:
    """Patch grid of that view."""
    return self.backbone.hidden_grid(self.csr_hw)

  @property
  def csm(self) -> PrototypeHead:
    """The head of the matching."""
    c = self.config.csm
    return PrototypeHead(c.prototypes, c.hidden, c.bottleneck, self.backbone.dtype)

  @property
  def csr(self) -> MaeDecoder:
    """The decoder of the reconstruction."""
    c, b, behavior = self.config.csr, self.backbone, self.config.resolved
    context = "token" if behavior.csr_context == "cls" else "memory"
    return MaeDecoder(
      3 * b.stride**2,
      self.grid,
      c.width,
      c.depth,
      c.heads,
      context,
      behavior.positions,
      behavior.tokens,
      b.dtype,
      b.unroll,
      b.remat,
      attention=b.attention,
    )

  @property
  def css(self) -> SearchDecoder:
    """The decoder of the search."""
    c, b = self.config.css, self.backbone
    return SearchDecoder(c.width, c.depth, c.heads, b.dtype, b.unroll, b.remat, b.attention)

  @property
  def taught_by_expert(self) -> bool:
    """Whether the expert teaches CSM and CSS."""
    return self.config.teacher == "expert"

  @property
  def aligner(self) -> Aligner:
    """The networks of the alignment."""
    return Aligner(self.config, self.backbone, self.expert)

  def init(self, key: jax.Array) -> tuple[dict, Any]:
    """Returns the parameters of the encoder and of the heads that are used, and running statistics or None."""
    config, keys, params = self.config, jax.random.split(key, 4), {}
    (h, w), hidden = self.csr_grid, jnp.zeros((1, 2, self.backbone.hidden_width))
    backbone = self.backbone.init(keys[0], jnp.zeros((1, *self.backbone.image_hw, 3)), ("cls", "hidden"))
    params["backbone"] = backbone["params"]
    if config.csm.weight:
      width = self.expert.module.feature_width if self.taught_by_expert else self.backbone.feature_width
      params["csm"] = self.csm.init(keys[1], jnp.zeros((1, 1, width)))["params"]
    if config.csr.weight:
      order = jnp.zeros((1, h * w), jnp.int32)
      params["csr"] = self.csr.init(keys[2], hidden, order, (h, w), hidden[:, :1])["params"]
    if config.css.weight:
      width = self.expert.module.feature_width if self.taught_by_expert else self.backbone.hidden_width
      scene = jnp.zeros((1, 2, 2, width))
      search_all = lambda module, query, scene: module([query], module.prepare(scene))
      params["css"] = self.css.init(keys[3], hidden, scene, method=search_all)["params"]
    if config.adapts:
      params["adapter"] = self.aligner.init(jax.random.fold_in(key, 1))
    return params, backbone.get("batch_stats")

  def enlarged(self, views: SaipViews) -> jax.Array:
    """Returns the augmented view (B, H, W, 3) at the size at which it is masked and reconstructed."""
    antialias = self.config.resolved.resize == "antialiased"
    return (rescale_antialiased if antialias else rescale_nearest)(views.globals[:, 1], self.csr_hw)

  def forward(self, params, method_state, views: SaipViews) -> SaipOutputs:
    """Runs student, teacher and expert over all views, each part only as far as a term of the loss uses it."""
    config, batch = self.config, len(views.globals)
    csm, csr, css = (bool(part.weight) for part in (config.csm, config.csr, config.css))
    student = self._student(params, method_state.get("statistics", {}).get("student"), views)
    anchor = _per_sample(student.globals.hidden, batch)[:, 0] if csr or css else None  # (B, 1 + N, D)
    out = SaipOutputs(statistics={"student": student.statistics} if student.statistics else {})
    expert = self.aligner.see(method_state, views) if self.expert else {}
    if config.adapts:
      out = out.replace(aligned=self.aligner.align(params, student, expert, views))
    if csm:
      out = self._match(out, params, student, batch)
    if csr:
      out = self._reconstruct(out, params, student, anchor, views)
    if not (csm or css):
      return out
    if self.taught_by_expert:
      seen_globals, seen_scene = expert.get("globals"), self.aligner.scene_of(expert, views) if css else None
    else:
      seen_globals, seen_scene, statistics = self._teacher(method_state, views)
      if statistics:
        out = out.replace(statistics=out.statistics | {"teacher": statistics})
    if csm:
      logits = self._teacher_logits(method_state, _per_sample(seen_globals.cls, batch))
      out = out.replace(teacher_logits=logits, teacher_maps=seen_globals.attention)
    return self._search(out.replace(scene=seen_scene), params, student, anchor, views) if css else out

  @jax.named_scope("student")
  def _student(self, params, statistics, views: SaipViews) -> StudentFeatures:
    """Encodes global views, local crops, the rescaled RoI and instance, and seen patches of the enlarged view."""
    config, batch, draws = self.config, len(views.globals), views.draws
    csm, csr, css = (bool(part.weight) for part in (config.csm, config.csr, config.css))
    every_crop, read = csm or config.adapts, self.aligner.reads
    shown = views.globals if every_crop else views.globals[:, :1]
    reads = _wanted(cls=every_crop, hidden=csr or css, attention=self.config.matches_attention)
    kinds, enlarged = {"globals": Views(shown, {*reads, *read("globals")})}, None
    if every_crop:
      kinds["locals"] = Views(views.crops[:, :-2], {"cls", *read("crops")})
    if every_crop or css:
      crops, rescale = views.crops[:, -2:], draws.rescale
      if not csm:  # which alone reads the instance
        crops, rescale = crops[:, :1], rescale[:, :1]
      padded = PaddedSizes(self.rescaled_sizes, rescale.reshape(-1))
      antialias = config.resolved.resize == "antialiased"
      rescaled = rescale_padded(crops.reshape(-1, *crops.shape[2:]), padded.index, padded.choices, antialias)
      reads = {*_wanted(cls=every_crop, hidden=css), *read("crops")}
      kinds["rescaled"] = Views(_per_sample(rescaled, batch), reads, padded=padded)
    if csr:
      enlarged = self.enlarged(views)
      kinds["masked"] = Views(enlarged[:, None], ["hidden"], keep_ids=draws.keep_ids)
    if read("scene"):
      kinds["scene"] = Views(views.scene[:, None], read("scene"))
    features, after = encode_views(self.backbone, params["backbone"], statistics, list(kinds.values()))
    return StudentFeatures(**dict(zip(kinds, features)), enlarged=enlarged, statistics=after)

  @jax.named_scope("csm")
  def _match(self, out: SaipOutputs, params, student: StudentFeatures, batch: int) -> SaipOutputs:
    """Adds the student's side of the matching."""
    cls = _per_sample(student.globals.cls, batch)
    crops = [_per_sample(features.cls, batch) for features in (student.locals, student.rescaled)]
    every = out.aligned.cls if self.taught_by_expert else jnp.concatenate([cls, *crops], axis=1)
    logits = self.csm.apply({"params": params["csm"]}, every)
    return out.replace(cls=cls, logits=logits, maps=student.globals.attention)

  @jax.named_scope("csr")
  def _reconstruct(
    self, out: SaipOutputs, params, student: StudentFeatures, anchor: jax.Array, views: SaipViews
  ) -> SaipOutputs:
    """Adds the reconstruction of the enlarged view, with the anchor (B, 1 + N, D) as context."""
    context = anchor[:, :1] if self.config.resolved.csr_context == "cls" else anchor
    variables = {"params": params["csr"]}
    painted = self.csr.apply(variables, student.masked.hidden, views.draws.restore_ids, self.csr_grid, context)
    target = reconstruction.normalize_patches(patchify(student.enlarged, self.backbone.stride))
    return out.replace(reconstruction=painted, target=target)

  @jax.named_scope("teacher")
  def _teacher(self, method_state, views: SaipViews) -> tuple[Features | None, jax.Array | None, Any]:
    """Encodes the global views, and the scene up to the tapped layer, without gradients.

    Returns:
      The features of the global views, None without matching; those of the scene (B, 1 + h * w, D), None without
      search; and the running statistics after the batch, None without batch norm.
    """
    kinds = {}
    if self.config.csm.weight:
      kinds["globals"] = Views(views.globals, _wanted(cls=True, attention=self.config.matches_attention))
    if self.config.css.weight:
      kinds["scene"] = Views(views.scene[:, None], ["hidden"])
    statistics = method_state.get("statistics", {}).get("teacher")
    teacher = jax.lax.stop_gradient(method_state["teacher"]["backbone"])
    features, after = encode_views(self.backbone, teacher, statistics, list(kinds.values()))
    seen = dict(zip(kinds, features))
    return seen.get("globals"), seen["scene"].hidden if "scene" in seen else None, after

  @jax.named_scope("teacher")
  def _teacher_logits(self, method_state, cls: jax.Array) -> jax.Array:
    """(B, 2, D) -> (B, 2, K)."""
    head = method_state["expert_head"] if self.taught_by_expert else method_state["teacher"]["csm"]
    return self.csm.apply({"params": jax.lax.stop_gradient(head)}, cls)

  @jax.named_scope("css")
  def _search(
    self, out: SaipOutputs, params, student: StudentFeatures, anchor: jax.Array, views: SaipViews
  ) -> SaipOutputs:
    """Adds the search in the scene, with the anchor as query for the instance and the rescaled RoI for itself."""
    batch, grid = len(anchor), self.backbone.hidden_grid(views.scene.shape[1:3])
    roi, mask = (_per_sample(x, batch)[:, 0] for x in (student.rescaled.hidden, student.rescaled.hidden_mask))
    if self.config.resolved.scene_second == "other":
      roi, mask = next_of_batch(roi), next_of_batch(mask)
    variables = {"params": params["css"]}
    scene_map = out.scene[:, -grid[0] * grid[1] :].reshape(batch, *grid, -1)  # (B, h, w, E)
    reference = self.css.apply(variables, scene_map, method=SearchDecoder.prepare)
    inst_logits, roi_logits = self.css.apply(variables, (anchor, roi), reference, (None, mask))
    return out.replace(inst_logits=inst_logits, roi_logits=roi_logits)
