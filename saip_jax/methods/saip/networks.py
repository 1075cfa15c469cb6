"""SAIP's networks: which of them look at which views, and how far."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from saip_jax.backbones.features import Backbone, Features, PaddedSizes, Views
from saip_jax.backbones.patches import patchify
from saip_jax.heads.mae_decoder import MaeDecoder
from saip_jax.heads.prototype import PrototypeHead, prototype_cosines
from saip_jax.heads.search import SearchDecoder
from saip_jax.losses import reconstruction
from saip_jax.methods.saip.config import SaipConfig
from saip_jax.methods.saip.views import SaipDraws, SaipViews, next_of_batch
from saip_jax.methods.teacher import encode
from saip_jax.views.geometry import rescale_antialiased, rescale_nearest, rescale_padded, scaled_size
from saip_jax.views.scenes import smallest_scene


@struct.dataclass
class SaipOutputs:
  """What the networks say, before the losses; None where an objective is left out.

  Attributes:
    logits: (B, V, K) student prototype logits of [anchor, augmented, local crops, region].
    teacher_logits: (B, 2, K) of [anchor, augmented].
    maps: student attention maps of the global views, two arrays (B * 2, heads, L, L).
    teacher_maps: the teacher's.
    cls: (B, 2, D) student image features of the global views.
    reconstruction: (B, L, P) predicted patches.
    target: (B, L, P) patches of the enlarged augmented view, normalized.
    inst_logits: (B, h, w) search for the region.
    roi_logits: (B, h, w) search for the last local crop.
    scene: (B, 1 + h * w, D) the teacher's features of the scene.
    statistics: running statistics of "student" and "teacher" after the step, for backbones that have some.
  """

  logits: jax.Array | None = None
  teacher_logits: jax.Array | None = None
  maps: tuple[jax.Array, jax.Array] | None = None
  teacher_maps: tuple[jax.Array, jax.Array] | None = None
  cls: jax.Array | None = None
  reconstruction: jax.Array | None = None
  target: jax.Array | None = None
  inst_logits: jax.Array | None = None
  roi_logits: jax.Array | None = None
  scene: jax.Array | None = None
  statistics: dict[str, Any] = struct.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Expert:
  """A frozen encoder that teaches.

  Attributes:
    module: the encoder.
    variables: what it is applied with, numpy arrays.
  """

  module: Backbone
  variables: Any = dataclasses.field(compare=False)


def _per_sample(x: jax.Array, batch: int) -> jax.Array:
  """(B * V, ...) -> (B, V, ...)."""
  return x.reshape(batch, -1, *x.shape[1:])


@dataclasses.dataclass(frozen=True)
class SaipNetworks:
  """Encoder and heads of SAIP as functions of their parameters.

  Attributes:
    config: SAIP's settings.
    backbone: the encoder.
    expert: the frozen encoder that `config.expert` names.
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
    if config.csm.weight and config.csm.attention_weight and not self.backbone.has_attention:
      raise ValueError(
        "this backbone has no attention maps of whole views to match: set config.method.csm.attention_weight=0"
      )
    if config.csr.weight and not self.backbone.maskable:
      raise ValueError("this backbone takes no masked input: set config.method.csr.weight=0")

  @property
  def crop_hw(self) -> tuple[int, int]:
    """Size of local crops and of the region, pixels."""
    height, width = self.backbone.image_hw
    return height // 2, width // 2

  def _scaled(self, hw: tuple[int, int], factor: float) -> tuple[int, int]:
    multiple = self.backbone.stride if self.config.resolved.crop_sizes == "whole" else 1
    return scaled_size(hw[0], factor, multiple), scaled_size(hw[1], factor, multiple)

  @property
  def rescaled_sizes(self) -> tuple[tuple[int, int], ...]:
    """Sizes in pixels that the last local crop and the region are rescaled to."""
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
    c = self.config.csm
    return PrototypeHead(c.prototypes, c.hidden, c.bottleneck, self.backbone.dtype)

  @property
  def csr(self) -> MaeDecoder:
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
    )

  @property
  def css(self) -> SearchDecoder:
    c, b = self.config.css, self.backbone
    return SearchDecoder(c.width, c.depth, c.heads, b.dtype, b.unroll, b.remat)

  def init(self, key: jax.Array) -> tuple[dict, Any]:
    """Returns the parameters of the encoder and of the heads that are used, and running statistics or None."""
    config, keys, params = self.config, jax.random.split(key, 4), {}
    (h, w), hidden = self.csr_grid, jnp.zeros((1, 2, self.backbone.hidden_width))
    backbone = self.backbone.init(keys[0], jnp.zeros((1, *self.backbone.image_hw, 3)), ("cls", "hidden"))
    params["backbone"] = backbone["params"]
    if config.csm.weight:
      params["csm"] = self.csm.init(keys[1], jnp.zeros((1, 1, self.backbone.feature_width)))["params"]
    if config.csr.weight:
      order = jnp.zeros((1, h * w), jnp.int32)
      params["csr"] = self.csr.init(keys[2], hidden, order, (h, w), hidden[:, :1])["params"]
    if config.css.weight:
      searched = self.expert.module if self.expert else self.backbone
      scene = jnp.zeros((1, 2, 2, searched.hidden_width))
      search_all = lambda module, query, scene: module([query], module.prepare(scene))
      params["css"] = self.css.init(keys[3], hidden, scene, method=search_all)["params"]
    return params, backbone.get("batch_stats")

  def enlarged(self, views: SaipViews) -> jax.Array:
    """Returns the augmented view (B, H, W, 3) at the size at which it is masked and reconstructed."""
    antialias = self.config.resolved.resize == "antialiased"
    return (rescale_antialiased if antialias else rescale_nearest)(views.globals[:, 1], self.csr_hw)

  def forward(self, params, method_state, views: SaipViews, draws: SaipDraws) -> SaipOutputs:
    """Runs student and teacher over all views, each part no further than it is read."""
    config, behavior = self.config, self.config.resolved
    csm, csr, css = (bool(part.weight) for part in (config.csm, config.csr, config.css))
    attention = csm and bool(config.csm.attention_weight)
    batch = len(views.globals)
    split = lambda x: _per_sample(x, batch)
    reads = lambda **names: [name for name, wanted in names.items() if wanted]

    # Student: global views, plain local crops, the two rescaled crops, and some patches of the enlarged augmented view.
    student = {}
    shown = views.globals if csm else views.globals[:, :1]
    student["globals"] = Views(shown, reads(cls=csm, hidden=csr or css, attention=attention))
    if csm:
      student["locals"] = Views(views.crops[:, :-2], ["cls"])
    if csm or css:
      crops, rescale = views.crops[:, -2:], draws.rescale
      if not csm:  # the region is matched, the local crop searched for
        crops, rescale = crops[:, :1], rescale[:, :1]
      padded = PaddedSizes(self.rescaled_sizes, rescale.reshape(-1))
      rescaled = rescale_padded(
        crops.reshape(-1, *crops.shape[2:]), padded.index, padded.choices, behavior.resize == "antialiased"
      )
      student["scaled"] = Views(split(rescaled), reads(cls=csm, hidden=css), padded=padded)
    if csr:
      enlarged = self.enlarged(views)
      student["masked"] = Views(enlarged[:, None], ["hidden"], keep_ids=draws.keep_ids)
    statistics = method_state.get("statistics", {})
    features, after = encode(self.backbone, params["backbone"], statistics.get("student"), list(student.values()))
    seen = dict(zip(student, features))
    anchor = split(seen["globals"].hidden)[:, 0] if csr or css else None  # (B, 1 + N, D)
    out = SaipOutputs(statistics={"student": after} if after else {})
    if csm:
      cls = split(seen["globals"].cls)
      every = jnp.concatenate([cls, split(seen["locals"].cls), split(seen["scaled"].cls)], axis=1)
      out = out.replace(
        cls=cls, logits=self.csm.apply({"params": params["csm"]}, every), maps=seen["globals"].attention
      )
    if csr:
      context = anchor[:, :1] if behavior.csr_context == "cls" else anchor
      painted = self.csr.apply(
        {"params": params["csr"]}, seen["masked"].hidden, draws.restore_ids, self.csr_grid, context
      )
      target = reconstruction.normalize_patches(patchify(enlarged, self.backbone.stride))
      out = out.replace(reconstruction=painted, target=target)
    if not (csm or css):
      return out

    # Teacher: global views, and the scene as far as the tapped layer.
    teach = reads(cls=csm, attention=attention)
    wanted = [Views(views.globals, teach)] if csm else []
    wanted += [Views(views.scene[:, None], ["hidden"])] if css else []
    taught, after = self._teach(method_state, wanted)
    if csm:
      targets = taught[0]
      out = out.replace(
        teacher_logits=self._teacher_logits(method_state, split(targets.cls)), teacher_maps=targets.attention
      )
    if after:
      out = out.replace(statistics=out.statistics | {"teacher": after})
    if not css:
      return out

    # Student: where in the scene are the anchor and the last local crop?
    scene, scaled = taught[-1], seen["scaled"]
    query, mask = split(scaled.hidden)[:, 0], split(scaled.hidden_mask)[:, 0]
    if behavior.scene_second == "other":
      query, mask = next_of_batch(query), next_of_batch(mask)
    variables = {"params": params["css"]}
    scene_map = scene.hidden[:, 1:].reshape(batch, *scene.hidden_grid, -1)  # (B, h, w, D)
    reference = self.css.apply(variables, scene_map, method=SearchDecoder.prepare)
    inst_logits, roi_logits = self.css.apply(variables, (anchor, query), reference, (None, mask))
    return out.replace(inst_logits=inst_logits, roi_logits=roi_logits, scene=scene.hidden)

  def _teach(self, method_state, wanted: list[Views]) -> tuple[list[Features], Any]:
    """Returns the features of whoever teaches, without gradients, and its running statistics where they move."""
    if self.expert:
      variables = jax.lax.stop_gradient(method_state["expert"])
      module = self.expert.module
      return jax.lax.stop_gradient(module.apply(variables, wanted, method=type(module).encode)), None
    statistics = method_state.get("statistics", {}).get("teacher")
    return encode(self.backbone, jax.lax.stop_gradient(method_state["teacher"]["backbone"]), statistics, wanted)

  def _teacher_logits(self, method_state, cls: jax.Array) -> jax.Array:
    """(B, 2, D) -> (B, 2, K)."""
    if self.expert:
      return prototype_cosines(cls, method_state["directions"])
    return self.csm.apply({"params": jax.lax.stop_gradient(method_state["teacher"]["csm"])}, cls)
