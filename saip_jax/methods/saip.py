"""SAIP: cross-scale matching (CSM), reconstruction (CSR) and search (CSS) with one encoder.

Source: arXiv 2503.08201 and the behaviour of its released code ("official" fidelity).
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from saip_jax.backbones.patches import patchify
from saip_jax.backbones.features import PaddedSizes, Views
from saip_jax.heads.mae_decoder import MaeDecoder
from saip_jax.heads.prototype import PrototypeHead
from saip_jax.heads.search import SearchDecoder
from saip_jax.losses import matching, reconstruction, search
from saip_jax.masking.anchor import order_by_mask, random_keep_mask, upsample_mask
from saip_jax.methods.base import Aux, ParamGroup, replace_modules
from saip_jax.methods.saip_config import SaipConfig
from saip_jax.methods.saip_panels import make_panels
from saip_jax.methods.saip_views import SaipViews, make_views
from saip_jax.views.geometry import rescale_nearest, rescale_nearest_padded, scaled_size
from saip_jax.views.scenes import smallest_scene


@struct.dataclass
class SaipDraws:
  """Random choices of a step beside the views.

  Attributes:
    anchor_mask: (B, h * w) 1 = visible, on the grid of a global view.
    keep_ids: (B, M) int32 patches of the rescaled view that the encoder sees.
    restore_ids: (B, L) int32 place of each patch in the order visible first.
    rescale: (B, 2) int32 index into `rescale_factors` for the last local crop and the region.
  """

  anchor_mask: jax.Array
  keep_ids: jax.Array
  restore_ids: jax.Array
  rescale: jax.Array


@struct.dataclass
class SaipOutputs:
  """What the networks say, before the losses.

  Attributes:
    logits: (B, V, K) student prototype logits of [anchor, augmented, local crops, region].
    teacher_logits: (B, 2, K) of [anchor, augmented].
    maps: student attention maps of the global views, two arrays (B * 2, heads, L, L).
    teacher_maps: the teacher's.
    reconstruction: (B, L, P) predicted patches.
    target: (B, L, P) patches of the rescaled augmented view, normalised.
    inst_logits: (B, h, w) search for the region.
    roi_logits: (B, h, w) search for the last local crop.
    scene: (B, 1 + h * w, D) the teacher's features of the scene, class token first.
    cls: (B, 2, D) student image features of the global views.
  """

  logits: jax.Array
  teacher_logits: jax.Array
  maps: tuple[jax.Array, jax.Array]
  teacher_maps: tuple[jax.Array, jax.Array]
  reconstruction: jax.Array
  target: jax.Array
  inst_logits: jax.Array
  roi_logits: jax.Array
  scene: jax.Array
  cls: jax.Array


def _merge(views: jax.Array) -> jax.Array:
  """(B, V, ...) -> (B * V, ...): B stays major, so that a sharded batch stays where it is."""
  return views.reshape(-1, *views.shape[2:])


def _scaled(hw: tuple[int, int], factor: float) -> tuple[int, int]:
  return scaled_size(hw[0], factor), scaled_size(hw[1], factor)


@dataclasses.dataclass(frozen=True)
class Saip:
  """The method: see `saip_jax.methods.base.Method` for the protocol.

  Attributes:
    config: SAIP's settings.
    backbone: an encoder with a class token, a tapped layer and attention maps (`backbones.vit.ViT`).
    canvas_hw: size of decoded images, pixels.
    scene_canvas_hw: size of decoded scenes, pixels.
  """

  config: SaipConfig
  backbone: nn.Module
  canvas_hw: tuple[int, int]
  scene_canvas_hw: tuple[int, int]

  def __post_init__(self):
    config, patch = self.config, self.backbone.patch
    height, width = self.crop_hw
    if any(side < patch for side in _scaled(self.crop_hw, min(config.rescale_factors))):
      raise ValueError(
          f"local crops of {height}x{width} times {min(config.rescale_factors)} hold no patch of {patch} pixels: "
          "raise config.model.image_hw or the smallest of config.method.rescale_factors"
      )
    room = max(smallest_scene(self.crop_hw))
    if config.scene_size < room or config.scene_size % patch:
      raise ValueError(
          f"config.method.scene_size is {config.scene_size}: a multiple of {patch} of at least {room} pixels is "
          f"needed to place two persons of {height}x{width}"
      )

  @property
  def crop_hw(self) -> tuple[int, int]:
    """Size of local crops and of the region, pixels."""
    height, width = self.backbone.image_hw
    return height // 2, width // 2

  @property
  def grid(self) -> tuple[int, int]:
    """Patch grid of a global view."""
    return self.backbone.stored_grid

  @property
  def csr_hw(self) -> tuple[int, int]:
    """Size of the enlarged view that is masked and reconstructed, pixels."""
    return _scaled(self.backbone.image_hw, self.config.csr_scale)

  @property
  def csr_grid(self) -> tuple[int, int]:
    """Patch grid of that view."""
    return self.csr_hw[0] // self.backbone.patch, self.csr_hw[1] // self.backbone.patch

  @property
  def csm(self) -> PrototypeHead:
    c = self.config
    return PrototypeHead(c.prototypes, c.head_hidden, c.head_bottleneck, self.backbone.dtype)

  @property
  def csr(self) -> MaeDecoder:
    c, b = self.config, self.backbone
    return MaeDecoder(
        3 * b.patch**2, self.grid, c.csr_width, c.csr_depth, c.csr_heads,
        dtype=b.dtype, unroll=b.unroll, remat=b.remat, pos_interpolation=b.pos_interpolation,
    )

  @property
  def css(self) -> SearchDecoder:
    c, b = self.config, self.backbone
    return SearchDecoder(c.css_width, c.css_depth, c.css_heads, b.dtype, b.unroll, b.remat)

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    spec = lambda dtype, *shape: jax.ShapeDtypeStruct((global_batch, *shape), dtype)
    return {
        "image": spec(jnp.uint8, *self.canvas_hw, 3),
        "image_hw": spec(jnp.int32, 2),
        "scene": spec(jnp.uint8, *self.scene_canvas_hw, 3),
        "scene_hw": spec(jnp.int32, 2),
        "index": spec(jnp.uint32),
    }

  def init(self, key: jax.Array):
    """Returns (params, extra); the teacher starts as a copy of the student, the centre at zero."""
    keys = jax.random.split(key, 4)
    width, (h, w) = self.backbone.width, self.csr_grid
    tokens = jnp.zeros((1, 2, width))
    scene = jnp.zeros((1, 2, 2, width))
    search_all = lambda module, query, scene: module([query], module.prepare(scene))
    params = {
        "backbone": self.backbone.init(keys[0], jnp.zeros((1, *self.backbone.image_hw, 3)), ("cls", "hidden")),
        "csm": self.csm.init(keys[1], tokens[:, 0]),
        "csr": self.csr.init(keys[2], tokens, jnp.zeros((1, h * w), jnp.int32), self.csr_grid, tokens[:, 0]),
        "css": self.css.init(keys[3], tokens, scene, method=search_all),
    }
    params = {name: variables["params"] for name, variables in params.items()}
    extra = {
        "teacher": jax.tree.map(jnp.copy, params),
        "center": jnp.zeros((self.config.prototypes,)),
    }
    return params, extra

  def load_params(self, params, extra, student: dict, teacher: dict | None):
    """Starts from other weights; the centre stays at zero, it fills within some twenty updates."""
    params = replace_modules(params, student)
    return params, extra | {"teacher": replace_modules(params, teacher or {})}

  def draw(self, keys: jax.Array, step_key: jax.Array) -> SaipDraws:
    """Draws masks per sample and, as published, one pair of scales per micro-step."""
    ratio, (h, w) = self.config.mask_ratio, self.grid

    def masks(key):
      mask_key, tie_key = jax.random.split(key)
      mask = random_keep_mask(mask_key, h * w, ratio)
      return mask, *order_by_mask(tie_key, upsample_mask(mask, self.grid, self.csr_grid), ratio)

    rescale = jax.random.randint(step_key, (2,), 0, len(self.config.rescale_factors))
    return SaipDraws(*jax.vmap(masks)(keys), jnp.broadcast_to(rescale, (len(keys), 2)))

  def scored_patches(self, draws: SaipDraws) -> jax.Array:
    """Returns (B, L) float32, 1 where a patch of the enlarged view counts in the reconstruction loss."""
    return 1.0 - upsample_mask(draws.anchor_mask, self.grid, self.csr_grid)

  def forward(self, params, teacher, views: SaipViews, draws: SaipDraws) -> SaipOutputs:
    """Runs student and teacher over all views, each part no further than it is read."""
    config, batch = self.config, len(views.scene)
    encode = lambda p, *of: self.backbone.apply({"params": p["backbone"]}, of, method=type(self.backbone).encode)
    split = lambda x: x.reshape(batch, -1, *x.shape[1:])  # (B * V, ...) -> (B, V, ...)

    # Student: global views, plain local crops, the two rescaled crops, and some patches of the enlarged augmented view.
    patch = self.backbone.patch
    sizes = [_scaled(self.crop_hw, factor) for factor in config.rescale_factors]
    padded = PaddedSizes(tuple(sizes), draws.rescale.reshape(-1))
    rescaled = jax.vmap(rescale_nearest_padded, (0, 0, None))(
        _merge(views.crops[:, -2:]), padded.index, config.rescale_factors
    )
    enlarged = rescale_nearest(views.globals[:, 1], self.csr_hw)
    globals_, locals_, scaled, masked = encode(
        params,
        Views(views.globals, ("cls", "hidden", "attention")),
        Views(views.crops[:, :-2], ("cls",)),
        Views(split(rescaled), ("cls", "hidden"), padded=padded),
        Views(enlarged[:, None], ("hidden",), keep_ids=draws.keep_ids),
    )
    cls = split(globals_.cls)
    logits = self.csm.apply(
        {"params": params["csm"]}, jnp.concatenate([cls, split(locals_.cls), split(scaled.cls)], axis=1)
    )

    # Student: the hidden patches, with the anchor's class token as context.
    anchor = split(globals_.hidden)[:, 0]  # (B, 1 + N, D)
    painted = self.csr.apply(
        {"params": params["csr"]}, masked.hidden, draws.restore_ids, self.csr_grid, anchor[:, 0]
    )

    # Teacher: global views, and the scene as far as the tapped layer.
    teacher = jax.lax.stop_gradient(teacher)
    targets, scene = encode(
        teacher, Views(views.globals, ("cls", "attention")), Views(views.scene[:, None], ("hidden",))
    )
    teacher_logits = self.csm.apply({"params": teacher["csm"]}, split(targets.cls))

    # Student: where in the scene are the anchor and the last local crop?
    css = {"params": params["css"]}
    scene_map = scene.hidden[:, 1:].reshape(batch, *scene.grid, -1)  # (B, h, w, D)
    reference = self.css.apply(css, scene_map, method=SearchDecoder.prepare)
    inst_logits, roi_logits = self.css.apply(
        css, (anchor, split(scaled.hidden)[:, 0]), reference, (None, split(scaled.hidden_mask)[:, 0])
    )
    return SaipOutputs(
        logits=logits,
        teacher_logits=teacher_logits,
        maps=globals_.attention,
        teacher_maps=targets.attention,
        reconstruction=painted,
        target=reconstruction.normalise_patches(patchify(enlarged, patch)),
        inst_logits=inst_logits,
        roi_logits=roi_logits,
        scene=scene.hidden,
        cls=cls,
    )

  def objectives(self, params, extra, views: SaipViews, draws: SaipDraws):
    """Returns (loss, (Aux, SaipOutputs)): the five terms, all of weight one, on given views and draws."""
    config = self.config
    out = self.forward(params, extra["teacher"], views, draws)
    teacher = matching.teacher_probabilities(out.teacher_logits, extra["center"], config.temp_teacher)
    losses = {
        "csm_rep": matching.matching_loss(out.logits, teacher, config.temp_student),
        "csm_att": matching.attention_loss(out.maps, out.teacher_maps),
        "csr": reconstruction.masked_mse(out.reconstruction, out.target, self.scored_patches(draws)),
        "css_inst": search.search_loss(out.inst_logits, views.inst_mask),
        "css_roi": search.search_loss(out.roi_logits, views.roi_mask),
    }
    total = sum(losses.values())
    metrics = {f"loss/{name}": value for name, value in losses.items()} | {
        "loss/total": total,
        "monitor/teacher_entropy": matching.entropy(teacher),
        "monitor/center_norm": jnp.linalg.norm(extra["center"]),
        "monitor/feature_spread": matching.spread(out.cls[:, 0]),
    }
    batch_center = jnp.mean(out.teacher_logits.astype(jnp.float32), axis=(0, 1))
    return total, (Aux(metrics, batch_center), out)

  def views_and_draws(self, batch, key: jax.Array) -> tuple[SaipViews, SaipDraws]:
    """Makes views and draws from (key of the micro-step, sample index)."""
    step_key, sample_key = jax.random.split(key)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(sample_key, batch["index"])
    view_keys, mask_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    views = make_views(batch, view_keys, self.config, self.backbone.image_hw, self.backbone.patch)
    return views, self.draw(mask_keys, step_key)

  def loss(self, params, extra, batch, key: jax.Array, step: jax.Array):
    del step  # nothing in the official recipe is scheduled but the learning rate
    total, (aux, _) = self.objectives(params, extra, *self.views_and_draws(batch, key))
    return total, aux

  def after_update(self, extra, params, cache: jax.Array, step: jax.Array):
    """Moves the teacher (all modules) and the centre; `cache` is the batch mean of teacher logits."""
    del step
    config = self.config
    return {
        "teacher": optax.incremental_update(params, extra["teacher"], 1.0 - config.ema_momentum),
        "center": optax.incremental_update(cache, extra["center"], 1.0 - config.center_momentum),
    }

  def param_groups(self) -> list[tuple[str, ParamGroup]]:
    """No decay on biases and norms; tokens, position tables and prototypes are decayed, as published."""
    return [
        (r"(bias|scale)$", ParamGroup(decay=False)),
        (r"(kernel|cls_token|mask_token|pos_embed|prototypes)$", ParamGroup(decay=True)),
    ]

  def export_params(self, params, extra, which: str):
    if which not in ("student", "teacher"):
      raise ValueError(f"which={which!r} is unknown; choose student or teacher")
    return (params if which == "student" else extra["teacher"])["backbone"]

  def panels(self, params, extra, batch, key: jax.Array):
    return make_panels(self, params, extra, batch, key)
