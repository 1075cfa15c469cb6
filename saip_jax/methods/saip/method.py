"""SAIP: cross-scale matching (CSM), reconstruction (CSR) and search (CSS) with one encoder; alignment with an expert.

Source: arXiv 2503.08201 and its released code (fidelity "official"); `saip.behavior.Behavior` lists what can differ. An
objective of weight 0 costs nothing: its head and the views that it alone uses do not exist.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from input_pipeline.schema import to_dict
from saip_jax.losses import matching, reconstruction, search
from saip_jax.losses.distillation import comparable_maps
from saip_jax.masking.parts import part_patches
from saip_jax.methods.base import Aux, Method, ParamGroup, loss_metrics, sample_keys
from saip_jax.methods.groups import usual_groups
from saip_jax.methods.saip.alignment import alignment_terms, batch_moments, current_moments, move_moments, new_moments
from saip_jax.methods.saip.config import SaipConfig
from saip_jax.methods.saip.expert import Expert, open_expert
from saip_jax.methods.saip.networks import SaipNetworks
from saip_jax.methods.saip.panels import make_panels
from saip_jax.methods.saip.views import SaipViews, make_draws, make_views
from saip_jax.methods.teacher import cosine_momentum, move_statistics, move_teacher, start_teacher


class _Term(NamedTuple):
  """One term of the objective."""

  name: str
  weight: float
  value: jax.Array


@dataclasses.dataclass(frozen=True)
class Saip(Method):
  """The method, see `Method`.

  Attributes:
    scene_canvas_hw: size of decoded scenes, pixels.
    total_steps: updates of the run.
    accumulate: micro-steps per update.
    expert: the frozen encoder of `config.expert`; None: nothing uses one.
  """

  Config = SaipConfig

  config: SaipConfig
  scene_canvas_hw: tuple[int, int]
  total_steps: int
  accumulate: int = 1
  expert: Expert | None = None

  def __post_init__(self):
    _ = self.networks  # raises for sizes and backbones that do not fit the settings

  @classmethod
  def build(cls, config, **backbone_options) -> "Saip":
    backbone = cls.build_encoder(config, **backbone_options)
    canvases = config.data.canvas_hw, config.data.scene_canvas_hw
    expert = open_expert(config.method, backbone)
    return cls(config.method, backbone, *canvases, config.total_steps, config.accumulate, expert)

  @classmethod
  def vit_options(cls, settings: SaipConfig) -> dict[str, str]:
    return {"pos_interpolation": settings.resolved.positions, "tokens": settings.resolved.tokens}

  @property
  def networks(self) -> SaipNetworks:
    return SaipNetworks(self.config, self.backbone, self.expert)

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """See `Method.batch_spec`; keypoints are COCO's 17, x, y in pixels of the canvas and visibility, 0 for unknown."""
    spec = lambda dtype, *shape: jax.ShapeDtypeStruct((global_batch, *shape), dtype)
    fields = super().batch_spec(global_batch)
    if self._hides_parts:
      fields["keypoints"] = spec(jnp.float32, 17, 3)
    if not self.config.css.weight:  # the host decodes no scenes without search
      return fields
    return fields | {"scene": spec(jnp.uint8, *self.scene_canvas_hw, 3), "scene_hw": spec(jnp.int32, 2)}

  def init(self, key: jax.Array):
    """Returns (params, method_state); the teacher starts as a copy of the student, the center at zero."""
    params, statistics = self.networks.init(key)
    config, method_state = self.config, {}
    if "csm" in params:
      method_state["center"] = jnp.zeros((config.csm.prototypes,))
    if config.teacher == "expert" and "csm" in params:
      method_state["expert_head"] = jax.tree.map(jnp.copy, params["csm"])
    if config.align.weight and config.align.targets == "standardized":
      method_state["expert_moments"] = new_moments(self.expert.module.feature_width)
    has_teacher = config.teacher == "ema" and bool(params.keys() & {"csm", "css"})
    return params, method_state | start_teacher(params, statistics, has_teacher)

  @property
  def frozen(self) -> dict[str, Any]:
    """The expert's variables."""
    return {"expert": self.expert.variables} if self.expert else {}

  def fixed_settings(self) -> dict[str, Any]:
    """The expert is identified by its weights, wherever they lie."""
    settings = to_dict(self.config)
    for name in ("near_area", "color_scale"):  # as in runs made before they existed
      if settings[name] == getattr(SaipConfig, name):
        del settings[name]
    del settings["expert_sha256"]
    if self.expert:
      return settings | {"expert": self.expert.sha256}
    for name in ("teacher", "align", "expert_hw", "expert_mean", "expert_std"):  # as in runs made before they existed
      del settings[name]
    return settings

  def views(self, batch, key: jax.Array) -> SaipViews:
    step_key, sample_key = jax.random.split(key)
    keys = sample_keys(sample_key, batch["index"])
    view_keys, mask_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    views = make_views(batch, view_keys, self.config, self.backbone.image_hw, self.backbone.stride)
    networks, parts = self.networks, None
    if self._hides_parts:
      size, patch, least = networks.csr_grid, self.backbone.stride, self.config.csr.masks.min_score
      enlarged = views.keypoints.at[..., :2].multiply(np.divide(networks.csr_hw, self.backbone.image_hw)[::-1])
      parts = jax.vmap(lambda keypoints: part_patches(keypoints, size, patch, least))(enlarged)
    return views.replace(draws=make_draws(mask_keys, step_key, self.config, networks.grid, networks.csr_grid, parts))

  @property
  def _hides_parts(self) -> bool:
    """CSR hides parts of the body first, which needs keypoints."""
    csr = self.config.csr
    return bool(csr.weight and csr.masks and csr.masks.most_parts)

  def objectives(self, params, method_state, views: SaipViews, step: jax.Array) -> tuple[jax.Array, Aux]:
    del step  # nothing in the loss is scheduled
    config, terms, monitors = self.config, [], {}
    out = self.networks.forward(params, method_state, views)
    for_update = {"statistics": out.statistics}
    if config.csm.weight:
      targets = self._matching_targets(out.teacher_logits, method_state)
      loss = matching.matching_loss(out.logits, targets, config.csm.temp_student)
      terms.append(_Term("csm_rep", config.csm.weight, loss))
      if config.csm.attention_weight:
        weight = config.csm.weight * config.csm.attention_weight
        maps = comparable_maps(out.maps, out.teacher_maps)
        terms.append(_Term("csm_att", weight, matching.attention_loss(*maps)))
      for_update["center"] = jnp.mean(out.teacher_logits.astype(jnp.float32), axis=(0, 1))
      monitors = {
        "monitor/teacher_entropy": matching.entropy(targets),
        "monitor/center_norm": jnp.linalg.norm(method_state["center"]),
        "monitor/feature_spread": matching.spread(out.cls[:, 0]),
      }
    if config.csr.weight:
      loss = reconstruction.masked_mse(out.reconstruction, out.target, views.draws.scored)
      terms.append(_Term("csr", config.csr.weight, loss))
    if config.css.weight:
      terms.append(_Term("css_inst", config.css.weight, search.search_loss(out.inst_logits, views.inst_mask)))
      terms.append(_Term("css_roi", config.css.weight, search.search_loss(out.roi_logits, views.roi_mask)))
    if config.align.weight:
      moments = None
      if "expert_moments" in method_state:
        for_update["expert_moments"] = batch_moments(out.aligned)
        moments = current_moments(method_state["expert_moments"], for_update["expert_moments"])
      for name, (weight, loss) in alignment_terms(config.align, out.aligned, moments).items():
        terms.append(_Term(name, weight, loss))
    total = sum(term.weight * term.value for term in terms)
    metrics = monitors | loss_metrics({term.name: term.value for term in terms}, total)
    return total, Aux(metrics, for_update, out)

  def _matching_targets(self, teacher_logits: jax.Array, method_state) -> jax.Array:
    """(B, 2, K) logits of the teacher -> its probabilities."""
    config = self.config
    if config.resolved.balance == "sinkhorn":
      return matching.sinkhorn_probabilities(teacher_logits, config.csm.temp_teacher)
    return matching.teacher_probabilities(teacher_logits, method_state["center"], config.csm.temp_teacher)

  def after_update(self, method_state, params, for_update, step: jax.Array):
    """Moves teacher, center, running statistics and the expert's moments; `for_update` is from `objectives`."""
    config, after = self.config, dict(method_state)
    momentum = self._teacher_momentum(step)
    if "teacher" in method_state:
      after["teacher"] = move_teacher(method_state["teacher"], params, momentum)
    if "expert_head" in method_state:
      after["expert_head"] = move_teacher({"csm": method_state["expert_head"]}, params, momentum)["csm"]
    if "expert_moments" in method_state:
      after["expert_moments"] = move_moments(method_state["expert_moments"], for_update["expert_moments"])
    if "center" in method_state:
      after["center"] = optax.incremental_update(
        for_update["center"], method_state["center"], 1.0 - config.csm.center_momentum
      )
    if "statistics" in method_state:
      rule = config.resolved.statistics
      after["statistics"] = move_statistics(rule, method_state["statistics"], for_update["statistics"], momentum)
    return after

  def _teacher_momentum(self, step: jax.Array) -> jax.Array | float:
    """Returns the momentum of the teacher at a micro-step."""
    momentum = self.config.teacher_momentum
    if self.config.resolved.ema == "constant":
      return momentum
    return cosine_momentum(momentum, step, self.total_steps, self.accumulate)

  def param_groups(self) -> list[tuple[str, ParamGroup]]:
    """Tokens and positions decay with "uniform" tokens, as published."""
    return usual_groups(decay_tokens=self.config.resolved.tokens == "uniform")

  def panels(self, params, method_state, batch, key: jax.Array):
    return make_panels(self, params, method_state, batch, key)
