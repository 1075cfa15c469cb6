"""SAIP: cross-scale matching (CSM), reconstruction (CSR) and search (CSS) with one encoder.

Source: arXiv 2503.08201 and the behavior of its released code (fidelity "official"); `saip_config.Behavior` lists
what can differ. An objective of weight 0 costs nothing: neither its head nor the views that it alone reads exist.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from saip_jax.backbones.features import Backbone
from saip_jax.losses import matching, reconstruction, search
from saip_jax.masking.parts import part_patches
from saip_jax.methods import teacher as teacher_of
from saip_jax.methods.base import Aux, ParamGroup
from saip_jax.methods.groups import usual_groups
from saip_jax.methods.saip.config import SaipConfig
from saip_jax.methods.saip.networks import SaipNetworks
from saip_jax.methods.saip.panels import make_panels
from saip_jax.methods.saip.views import SaipDraws, SaipViews, make_draws, make_views
from saip_jax.methods.samples import image_spec, sample_keys


@dataclasses.dataclass(frozen=True)
class Saip:
  """The method: see `saip_jax.methods.base.Method` for the protocol.

  Attributes:
    networks: the encoder and the heads; they hold SAIP's settings.
    canvas_hw: size of decoded images, pixels.
    scene_canvas_hw: size of decoded scenes, pixels.
    total_steps: updates of the run.
    accumulate: micro-steps per update.
  """

  networks: SaipNetworks
  canvas_hw: tuple[int, int]
  scene_canvas_hw: tuple[int, int]
  total_steps: int
  accumulate: int = 1

  @property
  def config(self) -> SaipConfig:
    return self.networks.config

  @property
  def backbone(self) -> Backbone:
    return self.networks.backbone

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    spec = lambda dtype, *shape: jax.ShapeDtypeStruct((global_batch, *shape), dtype)
    images = image_spec(global_batch, self.canvas_hw)
    if self._hides_parts:
      images["keypoints"] = spec(jnp.float32, 17, 3)
    if not self.config.css.weight:  # nobody searches: the host decodes no scenes
      return images
    return images | {"scene": spec(jnp.uint8, *self.scene_canvas_hw, 3), "scene_hw": spec(jnp.int32, 2)}

  def init(self, key: jax.Array):
    """Returns (params, method_state); the teacher starts as a copy of the student, the center at zero."""
    params, statistics = self.networks.init(key)
    config, expert, method_state = self.config, self.networks.expert, {}
    if "csm" in params:
      method_state["center"] = jnp.zeros((config.csm.prototypes,))
    if expert:
      method_state["expert"] = jax.tree.map(jnp.asarray, expert.variables)
      if "csm" in params:  # its features against random directions: there is no head that it has learned
        shape = expert.module.feature_width, config.csm.prototypes
        method_state["directions"] = jax.random.normal(jax.random.fold_in(key, 1), shape)
    taught = not expert and bool(params.keys() & {"csm", "css"})
    return params, method_state | teacher_of.start(params, statistics, taught)

  def load_params(self, params, method_state, student: dict, teacher: dict | None):
    """Starts from other weights; the center stays at zero, it fills within some twenty updates."""
    return teacher_of.load_params(params, method_state, student, teacher)

  def objectives(self, params, method_state, views: SaipViews, draws: SaipDraws):
    """Returns (loss, (Aux, SaipOutputs)) on given views and draws; the metrics hold each term unweighted."""
    config = self.config
    out = self.networks.forward(params, method_state, views, draws)
    losses, weights, metrics, for_update = {}, {}, {}, {"statistics": out.statistics}
    if config.csm.weight:
      if config.resolved.balance == "sinkhorn":
        teacher = matching.sinkhorn_probabilities(out.teacher_logits, config.csm.temp_teacher)
      else:
        teacher = matching.teacher_probabilities(out.teacher_logits, method_state["center"], config.csm.temp_teacher)
      losses["csm_rep"] = matching.matching_loss(out.logits, teacher, config.csm.temp_student)
      weights["csm_rep"] = config.csm.weight
      if config.csm.attention_weight:
        losses["csm_att"] = matching.attention_loss(out.maps, out.teacher_maps)
        weights["csm_att"] = config.csm.weight * config.csm.attention_weight
      for_update["center"] = jnp.mean(out.teacher_logits.astype(jnp.float32), axis=(0, 1))
      metrics |= {
        "monitor/teacher_entropy": matching.entropy(teacher),
        "monitor/center_norm": jnp.linalg.norm(method_state["center"]),
        "monitor/feature_spread": matching.spread(out.cls[:, 0]),
      }
    if config.csr.weight:
      losses["csr"] = reconstruction.masked_mse(out.reconstruction, out.target, draws.scored)
      weights["csr"] = config.csr.weight
    if config.css.weight:
      losses["css_inst"] = search.search_loss(out.inst_logits, views.inst_mask)
      losses["css_roi"] = search.search_loss(out.roi_logits, views.roi_mask)
      weights["css_inst"] = weights["css_roi"] = config.css.weight
    total = sum(weights[name] * value for name, value in losses.items())
    metrics |= {f"loss/{name}": value for name, value in losses.items()} | {"loss/total": total}
    return total, (Aux(metrics, for_update), out)

  def views_and_draws(self, batch, key: jax.Array) -> tuple[SaipViews, SaipDraws]:
    """Makes views and draws from (key of the micro-step, sample index)."""
    step_key, sample_key = jax.random.split(key)
    keys = sample_keys(sample_key, batch["index"])
    view_keys, mask_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    views = make_views(batch, view_keys, self.config, self.backbone.image_hw, self.backbone.stride)
    networks, parts = self.networks, None
    if self._hides_parts:
      size, patch, least = networks.csr_grid, self.backbone.stride, self.config.csr.masks.min_score
      enlarged = views.keypoints.at[..., :2].multiply(np.divide(networks.csr_hw, self.backbone.image_hw)[::-1])
      parts = jax.vmap(lambda keypoints: part_patches(keypoints, size, patch, least))(enlarged)
    return views, make_draws(mask_keys, step_key, self.config, networks.grid, networks.csr_grid, parts)

  @property
  def _hides_parts(self) -> bool:
    """Keypoints are read: parts of the body are hidden first in CSR."""
    csr = self.config.csr
    return bool(csr.weight and csr.masks and csr.masks.most_parts)

  def loss(self, params, method_state, batch, key: jax.Array, step: jax.Array):
    del step  # nothing in the loss is scheduled
    total, (aux, _) = self.objectives(params, method_state, *self.views_and_draws(batch, key))
    return total, aux

  def after_update(self, method_state, params, for_update, step: jax.Array):
    """Moves the teacher (all modules), the center and the running statistics; `for_update` is of `objectives`."""
    config, after = self.config, dict(method_state)
    kept = self._teacher_kept(step)
    if "teacher" in method_state:
      after["teacher"] = teacher_of.follow(method_state["teacher"], params, kept)
    if "center" in method_state:
      after["center"] = optax.incremental_update(
        for_update["center"], method_state["center"], 1.0 - config.csm.center_momentum
      )
    if "statistics" in method_state:
      rule = config.resolved.statistics
      after["statistics"] = teacher_of.move_statistics(rule, method_state["statistics"], for_update["statistics"], kept)
    return after

  def _teacher_kept(self, step: jax.Array) -> jax.Array | float:
    """Returns the share of the teacher that is kept after a micro-step."""
    momentum = self.config.teacher_momentum
    if self.config.resolved.ema == "constant":
      return momentum
    return teacher_of.cosine_momentum(momentum, step, self.total_steps, self.accumulate)

  def param_groups(self) -> list[tuple[str, ParamGroup]]:
    """Tokens and positions are decayed as published, or not."""
    return usual_groups(decay_tokens=self.config.resolved.tokens == "uniform")

  def export_params(self, params, method_state, which: str):
    return teacher_of.export_params(params, method_state, which)

  def panels(self, params, method_state, batch, key: jax.Array):
    return make_panels(self, params, method_state, batch, key)
