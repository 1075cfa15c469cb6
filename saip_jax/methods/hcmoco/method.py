"""HCMoCo: contrastive learning across RGB, depth and skeleton at sample, cell and joint level.

Source: Hong et al. 2022, arXiv 2203.13815. The first of two stages contrasts whole samples only; the second has all
losses and starts, by `init_from`, from the first run, its memory banks included. Samples without depth, or without a
visible joint, are contrasted in the modalities that they have. Bugs of the released code are fixed, see
`HcmocoConfig.as_published`.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sized
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from saip_jax.backbones.semgcn import JOINT_PARENTS, SemGCN
from saip_jax.backbones.statistics import join_statistics
from saip_jax.heads.projection import MapProjection
from saip_jax.losses import matching
from saip_jax.losses.dense import dense_contrast
from saip_jax.losses.infonce import bank_contrast, batch_contrast, moved_bank, unit
from saip_jax.losses.joints import joint_contrast, node_contrast
from saip_jax.methods.base import Aux, Method, ParamGroup, loss_metrics
from saip_jax.methods.hcmoco.config import HcmocoConfig
from saip_jax.methods.hcmoco.panels import draw_rows
from saip_jax.methods.hcmoco.views import HcmocoViews, hcmoco_views
from saip_jax.methods.modules import load_modules, replace_modules
from saip_jax.pictures import Panel

MODALITY_ENCODERS = {"rgb": "backbone", "depth": "depth_backbone", "skeleton": "skeleton"}
"""Modality -> name of its encoder among the parameters."""


@struct.dataclass
class HcmocoOutputs:
  """Outputs of the encoders for a batch.

  Attributes:
    samples: modality -> (B, D) unit vectors of whole samples.
    maps: "rgb" and "depth" -> (B, h, w, D) unit vectors; None where no loss reads them.
    nodes: (B, J, D) unit vectors of the joints of the skeleton.
    features: modality -> outputs of its encoder: maps of several strides, (B, h_i, w_i, C_i), or one map (B, 1, J, D)
      of nodes.
    statistics: encoder -> running statistics after the batch.
  """

  samples: dict[str, jax.Array]
  maps: dict[str, jax.Array] | None
  nodes: jax.Array
  features: dict[str, tuple[jax.Array, ...]]
  statistics: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Hcmoco(Method):
  """The method, see `Method`; `backbone` is the encoder of RGB, and the one of depth has the same architecture."""

  Config = HcmocoConfig

  config: HcmocoConfig

  @classmethod
  def check_data(cls, settings: HcmocoConfig, data: Sized) -> None:
    """Raises ValueError unless the memory banks have a row for each image of the data set."""
    images = len(data)
    if settings.negatives == "bank" and settings.bank.size != images:
      raise ValueError(
        f"config.method.bank.size is {settings.bank.size}, the data set has {images} images: set it to {images}, or "
        "config.method.negatives=batch, which needs no banks"
      )

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of the finest map."""
    stride = self.backbone.map_strides[0]
    return tuple(side // stride for side in self.backbone.image_hw)

  @property
  def skeleton(self) -> SemGCN:
    return SemGCN(self.config.width, self.config.skeleton_blocks, self.backbone.dtype)

  @property
  def projection(self) -> MapProjection:
    """The linear layer on the maps of an encoder; the nodes of a skeleton are one map of one row."""
    return MapProjection(self.config.width, self.backbone.dtype)

  @property
  def has_maps(self) -> bool:
    """True if a loss reads dense maps; they have their own projections then."""
    weights = self.config.weights
    return bool(weights.dense or weights.nodes or weights.joints)

  def batch_spec(self, global_batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """See `Method.batch_spec`; depth is in millimeters, 0 where unknown, keypoints are COCO's 17."""
    spec = lambda dtype, *shape: jax.ShapeDtypeStruct((global_batch, *shape), dtype)
    return super().batch_spec(global_batch) | {
      "depth": spec(jnp.uint16, *self.canvas_hw),
      "has_depth": spec(jnp.bool_),
      "keypoints": spec(jnp.float32, 17, 3),
    }

  def init(self, key: jax.Array):
    """Returns (params, method_state): "statistics" of encoders with batch norm, and "banks" of random directions."""
    keys = iter(jax.random.split(key, 11))
    images, joints = jnp.zeros((1, *self.backbone.image_hw, 3)), jnp.zeros((1, len(JOINT_PARENTS), 2))
    reads = ("cls", "tokens", "hidden", "maps")  # all outputs of an encoder, used here or not
    encoders = {
      "backbone": self.backbone.init(next(keys), images, reads),
      "depth_backbone": self.backbone.init(next(keys), images, reads),
      "skeleton": self.skeleton.init(next(keys), joints),
    }
    widths = self.backbone.map_widths
    maps = {"rgb": widths, "depth": widths, "skeleton": (self.config.width,)}

    def project(modality):
      shapes = tuple(jnp.zeros((1, 1, 1, width)) for width in maps[modality])
      return self.projection.init(next(keys), shapes, method="pooled")["params"]

    params = {name: variables["params"] for name, variables in encoders.items()}
    params["sample"] = {modality: project(modality) for modality in MODALITY_ENCODERS}
    if self.has_maps:
      params["dense"] = {modality: project(modality) for modality in ("rgb", "depth")}
    method_state = {"statistics": {name: v["batch_stats"] for name, v in encoders.items() if "batch_stats" in v}}
    if self.config.negatives == "bank":
      shape = self.config.bank.size, self.config.width
      method_state["banks"] = {modality: unit(jax.random.normal(next(keys), shape)) for modality in MODALITY_ENCODERS}
    return params, method_state

  def load_params(self, params, method_state, student: dict, teacher: dict | None):
    """Starts from another run, its banks included, or from one encoder, which is copied for RGB and depth."""
    del teacher
    student = dict(student)
    if "backbone" in student:
      student.setdefault("depth_backbone", student["backbone"])
    banks = student.pop("banks", None)
    params, method_state = load_modules(params, method_state, student)
    if banks is not None:
      method_state = replace_modules(method_state, {"banks": banks})
    return params, method_state

  def views(self, batch, key: jax.Array) -> HcmocoViews:
    return hcmoco_views(batch, key, self.config, self.backbone.image_hw, self.grid)

  def encode(self, params, statistics, views: HcmocoViews) -> HcmocoOutputs:
    """Encodes all three modalities; a missing one is encoded as zeros, and left out of the losses."""
    after = {}

    def run(name, module, *inputs):
      out, changed = module.apply(_variables(params, statistics, name), *inputs, mutable=["batch_stats"])
      after.update({name: changed["batch_stats"]} if name in statistics else {})
      return out

    maps = {
      modality: run(MODALITY_ENCODERS[modality], self.backbone, getattr(views, modality), ("maps",)).maps
      for modality in ("rgb", "depth")
    }
    nodes = run("skeleton", self.skeleton, views.skeleton)
    features = maps | {"skeleton": (nodes[:, None],)}
    samples = {
      modality: self._project(params["sample"], modality, inputs, "pooled") for modality, inputs in features.items()
    }
    return HcmocoOutputs(samples, self._dense(params, maps) if self.has_maps else None, unit(nodes), features, after)

  def dense_maps(self, params, method_state, images: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns modality -> (B, h, w, D) unit vectors, encoded with running statistics as in evaluation.

    The first stage has no dense projection: the one of whole samples is applied to each cell instead.

    Args:
      params: from `init`.
      method_state: from `init`.
      images: "rgb" and "depth" -> (B, H, W, 3), either or both, as in `HcmocoViews`.
    """
    variables = functools.partial(_variables, params, method_state["statistics"])
    maps = {
      name: self.backbone.apply(variables(MODALITY_ENCODERS[name]), x, ("maps",)).maps for name, x in images.items()
    }
    return self._dense(params, maps)

  def _dense(self, params, maps: dict[str, tuple[jax.Array, ...]]) -> dict[str, jax.Array]:
    heads = params["dense" if self.has_maps else "sample"]
    return {modality: self._project(heads, modality, inputs, "dense") for modality, inputs in maps.items()}

  def _project(self, heads, modality: str, maps: tuple[jax.Array, ...], method: str) -> jax.Array:
    return unit(self.projection.apply({"params": heads[modality]}, maps, method=method))

  def objectives(self, params, method_state, views: HcmocoViews, step: jax.Array) -> tuple[jax.Array, Aux]:
    del step  # nothing is scheduled
    return self.contrast(self.encode(params, method_state["statistics"], views), method_state, views)

  def contrast(self, out: HcmocoOutputs, method_state, views: HcmocoViews) -> tuple[jax.Array, Aux]:
    """Returns the loss of the outputs of the encoders, see `objectives`."""
    terms = {
      "sample": lambda: sum(self.sample_terms(out, method_state, views).values()),
      "dense": lambda: sum(self.dense_terms(out, views)),
      "nodes": lambda: sum(self.node_terms(out, views)),
      "joints": lambda: self.joint_loss(out, views),
    }
    weights = {name: weight for name, weight in dataclasses.asdict(self.config.weights).items() if weight}
    losses = {name: terms[name]() for name in weights}
    total = sum(weight * losses[name] for name, weight in weights.items())
    metrics = loss_metrics(losses, total) | {
      "monitor/feature_spread": matching.spread(out.samples["rgb"]),
      "monitor/depth_known": jnp.mean(views.known["depth"].astype(jnp.float32)),
      "monitor/joints": jnp.mean(jnp.sum(views.visible, axis=1).astype(jnp.float32)),
    }
    for_update = {"statistics": out.statistics}
    if self.config.negatives == "bank":
      known = views.known
      if self.config.as_published:
        known = jax.tree.map(jnp.ones_like, known)
      for_update["visit"] = {"index": views.index, "features": out.samples, "known": known}
    return total, Aux(metrics, for_update, out)

  def sample_terms(self, out: HcmocoOutputs, method_state, views: HcmocoViews) -> dict[tuple[str, str], jax.Array]:
    """Returns the contrast of whole samples for each of the six ordered pairs of modalities."""
    temperature, terms = self.config.temperature, {}
    for query, key in itertools.permutations(MODALITY_ENCODERS, 2):
      known, queries = views.known[query] & views.known[key], out.samples[query]
      if self.config.negatives == "bank":
        bank = method_state["banks"][key]
        terms[query, key] = bank_contrast(queries, bank, views.index, views.drawn, temperature, known)
      else:
        terms[query, key] = batch_contrast(queries, out.samples[key], temperature, known)
    return terms

  def dense_terms(self, out: HcmocoOutputs, views: HcmocoViews) -> tuple[jax.Array, jax.Array]:
    """Returns the dense contrast from RGB to depth, and from depth to RGB."""
    columns = self.grid[1]
    places = jnp.stack([views.places // columns, views.places % columns], axis=-1)
    rgb, depth = (_at_cells(out.maps[modality], views.places) for modality in ("rgb", "depth"))
    return dense_contrast(rgb, depth, places, self.config.temperature, views.known["depth"])

  def _at_joints(self, out: HcmocoOutputs, views: HcmocoViews) -> tuple[jax.Array, jax.Array]:
    """Returns the RGB and depth maps at the joints, (B, 2, J, D), and which of them are known, (B, 2, J)."""
    rows, columns = self.grid
    height, width = self.backbone.image_hw
    x, y = jnp.moveaxis(views.joints_xy * jnp.array([columns / width, rows / height]), -1, 0)
    cells = jnp.clip(y.astype(jnp.int32), 0, rows - 1) * columns + jnp.clip(x.astype(jnp.int32), 0, columns - 1)
    features = jnp.stack([_at_cells(out.maps[modality], cells) for modality in ("rgb", "depth")], axis=1)
    known = jnp.stack([views.known["rgb"], views.known["depth"]], axis=1)
    return features, known[..., None] & views.visible[:, None]

  def node_terms(self, out: HcmocoOutputs, views: HcmocoViews) -> tuple[jax.Array, jax.Array]:
    """Returns the contrast with the nodes of the skeleton for the maps of RGB, and for the maps of depth."""
    features, visible = self._at_joints(out, views)
    return tuple(node_contrast(features[:, m], out.nodes, visible[:, m], self.config.temperature) for m in range(2))

  def joint_loss(self, out: HcmocoOutputs, views: HcmocoViews) -> jax.Array:
    known = jnp.stack([views.known["rgb"], views.known["depth"]], axis=1) if self.config.as_published else None
    return joint_contrast(*self._at_joints(out, views), self.config.temperature, known)

  def after_update(self, method_state, params, for_update, step: jax.Array):
    """Moves running statistics and banks at every micro-step."""
    del params, step
    method_state = method_state | {"statistics": method_state["statistics"] | for_update["statistics"]}
    if "banks" in method_state:
      index, features, known = (for_update["visit"][name] for name in ("index", "features", "known"))
      move = lambda modality, bank: moved_bank(
        bank, index, jax.lax.stop_gradient(features[modality]), known[modality], self.config.bank.momentum
      )
      method_state = method_state | {
        "banks": {modality: move(modality, bank) for modality, bank in method_state["banks"].items()}
      }
    return method_state

  def param_groups(self) -> list[tuple[str, ParamGroup]]:
    """As published, everything decays."""
    return [("", ParamGroup())]

  def export_params(self, params, method_state, which: str):
    """See `Method.export_params`: "student" is the encoder of RGB, "depth" the one of depth."""
    choices = {"student": "backbone", "depth": "depth_backbone"}
    if which not in choices:
      raise ValueError(f"which={which!r}: HCMoCo has no such encoder; choose one of {', '.join(choices)}")
    return join_statistics(params[choices[which]], method_state["statistics"].get(choices[which]))

  def panels(self, params, method_state, batch, key: jax.Array) -> dict[str, Panel]:
    views, maps = jax.device_get(_views_and_maps(self, params, method_state, batch, key))
    return {"modalities": Panel(draw_rows(batch, views, maps))}


@functools.partial(jax.jit, static_argnums=0)
def _views_and_maps(method: Hcmoco, params, method_state, batch, key: jax.Array):
  views = method.views(batch, key)
  return views, method.dense_maps(params, method_state, {"rgb": views.rgb, "depth": views.depth})


def _variables(params, statistics, name: str) -> dict:
  """Returns the variables of one encoder."""
  return {"params": params[name]} | ({"batch_stats": statistics[name]} if name in statistics else {})


def _at_cells(maps: jax.Array, cells: jax.Array) -> jax.Array:
  """Returns (B, S, D), maps (B, h, w, D) at cells (B, S) in raster order."""
  rows = maps.reshape(len(maps), -1, maps.shape[-1])
  return jnp.take_along_axis(rows, cells[..., None], axis=1)
