"""One step of the published HCMoCo, with maps enlarged as published and as timm does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from saip_jax.backbones.enlarge import ENLARGE_RULES
from saip_jax.backbones.hrnet import HRNet
from saip_jax.backbones.semgcn import JOINT_PARENTS
from saip_jax.backbones.statistics import join_statistics, split_statistics
from saip_jax.interop import hrnet
from saip_jax.interop.tables import CONV_1X1_LAYOUT, Layout, Row, batch_norm_rows, from_torch, linear_rows, to_torch
from saip_jax.interop.vit import inside
from saip_jax.methods.hcmoco.config import HcmocoBank, HcmocoConfig, HcmocoWeights
from saip_jax.methods.hcmoco.method import Hcmoco
from saip_jax.methods.hcmoco.views import HcmocoViews
from saip_jax.replay.recording import Recording

_EDGES = Layout(lambda a: a[0], lambda a, _: a[None])
_NUMBERS = {"rgb": "1", "depth": "2", "skeleton": "3"}  # of the modalities, in published names


def _graph_conv(torch: str, path: str) -> list[Row]:
  return [
    Row(f"{torch}.W", f"{path}/kernel"),
    Row(f"{torch}.bias", f"{path}/bias"),
    Row(f"{torch}.e", f"{path}/edges", _EDGES),
  ]


def hcmoco_table(meta: dict) -> list[Row]:
  """Returns the published names of all networks of the recorded sizes."""
  encoder, skeleton = hrnet.hrnet_rows(meta["depths"][0]), "encoder3.gconv"
  layers = {f"{skeleton}_input.0": "skeleton/first"}
  for i in range(meta["skeleton_blocks"]):
    layers |= {f"{skeleton}_layers.{i}.gconv{n}": f"skeleton/blocks_{i}_{n}" for n in (1, 2)}
  return [
    *inside(encoder, "encoder1.", "backbone/"),
    *inside(encoder, "encoder2.", "depth_backbone/"),
    *(
      row
      for torch, path in layers.items()
      for row in (*_graph_conv(f"{torch}.gconv", f"{path}_conv"), *batch_norm_rows(f"{torch}.bn", f"{path}_norm"))
    ),
    *_graph_conv(f"{skeleton}_output", "skeleton/last_conv"),
    *(row for modality, number in _NUMBERS.items() for row in linear_rows(f"head{number}.0", f"sample/{modality}")),
    *linear_rows("encoder1_linear", "dense/rgb", CONV_1X1_LAYOUT),
    *linear_rows("encoder2_linear", "dense/depth", CONV_1X1_LAYOUT),
  ]


def _method(meta: dict, enlarging: str, as_published: bool) -> Hcmoco:
  side = meta["image"]
  config = HcmocoConfig(
    name="hcmoco",
    crop_area=(1, 1),
    crop_aspect=(1, 1),
    width=meta["width"],
    skeleton_blocks=meta["skeleton_blocks"],
    temperature=meta["temperature"],
    negatives="bank",
    bank=HcmocoBank(size=meta["bank_size"], draws=meta["negatives"], momentum=meta["bank_momentum"]),
    places=meta["places"],
    weights=HcmocoWeights(sample=1, dense=1, nodes=1, joints=1),
    as_published=as_published,
  )
  sizes = {name: tuple(meta[name]) for name in ("dims", "depths")}
  return Hcmoco(config, HRNet(image_hw=(side, side), units=meta["units"], enlarging=enlarging, **sizes), (0, 0))


def _views(recording: Recording) -> HcmocoViews:
  rgbd = recording["in/rgbd"].transpose(0, 2, 3, 1)
  everything = np.ones(len(rgbd), bool)
  return HcmocoViews(
    rgb=rgbd[..., :3],
    depth=rgbd[..., 3:],
    skeleton=recording["in/skeleton"],
    known={"rgb": everything, "depth": recording["in/has_depth"].astype(bool), "skeleton": everything},
    joints_xy=recording["in/joints_row_col"][..., ::-1].astype(np.float32),
    visible=recording["in/joints_visible"].astype(bool),
    places=recording["rand/places"],
    index=recording["in/index"],
    drawn=recording["rand/negatives_shared"],
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(method: Hcmoco, published: Hcmoco, params, method_state, views: HcmocoViews, drawn: dict[str, jax.Array]):
  """Returns the results of both methods with the same encoders.

  Args:
    method: the method with shared negatives, which leaves out what is missing.
    published: the method as in the released code.
    params: recorded weights.
    method_state: recorded statistics and banks.
    views: recorded inputs.
    drawn: rows of the banks, "shared" by all samples or drawn for "each".

  Returns:
    The outputs, the metrics of each method, the gradients of each, stacked, the dense maps before they are scaled, the
    terms of the losses by their published names, and `method_state` after the published update.
  """

  def totals(params):
    out = method.encode(params, method_state["statistics"], views)
    both = [m.contrast(out, method_state, views) for m in (method, published)]
    return jnp.stack([total for total, _ in both]), (out, tuple(aux for _, aux in both))

  _, backward, (out, auxes) = jax.vjp(totals, params, has_aux=True)
  (gradients,) = jax.vmap(backward)(jnp.eye(2))
  dense = {
    name: method.projection.apply({"params": head}, out.features[name], method="dense")
    for name, head in params["dense"].items()
  }
  terms = {
    f"sample_{draw}_{_NUMBERS[query]}{_NUMBERS[key]}": value
    for draw, rows in drawn.items()
    for (query, key), value in method.sample_terms(out, method_state, views.replace(drawn=rows)).items()
  }
  terms |= dict(zip(("dense_rgb_to_depth", "dense_depth_to_rgb"), method.dense_terms(out, views)))
  terms |= dict(zip(("nodes_rgb", "nodes_depth"), method.node_terms(out, views)))
  moved = published.after_update(method_state, params, auxes[1].for_update, 0)
  return out, [aux.metrics for aux in auxes], gradients, dense, terms, moved


def replay_hcmoco(recording: Recording) -> None:
  """Runs the recorded steps and adds a check for each of their numbers."""
  meta, views = recording.meta, _views(recording)
  if meta["joints"] != len(JOINT_PARENTS):
    raise ValueError(f"it has {meta['joints']} joints: expected the {len(JOINT_PARENTS)} of {', '.join(JOINT_PARENTS)}")
  table = hcmoco_table(meta)
  split = {
    name: split_statistics(tree)
    for name, tree in from_torch(recording.below("weights/"), table, hrnet.HRNET_NAMES.buffers).items()
  }
  params = {name: parts["params"] for name, parts in split.items()}
  method_state = {
    "statistics": {name: parts["batch_stats"] for name, parts in split.items() if "batch_stats" in parts},
    "banks": {modality: recording[f"in/bank{number}"] for modality, number in _NUMBERS.items()},
  }
  params, method_state, views = jax.tree.map(jnp.asarray, (params, method_state, views))
  for rule in ENLARGE_RULES:
    _compare(recording, rule, table, params, method_state, views)


def _compare(recording: Recording, rule: str, table: list[Row], params, method_state, views: HcmocoViews) -> None:
  """Compares the numbers recorded with one rule of enlarging."""
  method, published = (_method(recording.meta, rule, as_published=flag) for flag in (False, True))
  with jax.default_matmul_precision("highest"):
    drawn = {name: recording[f"rand/negatives_{name}"] for name in ("shared", "each")}
    out, metrics, gradients, dense, terms, moved = _run(method, published, params, method_state, views, drawn)
  for i, rule_of_joints in enumerate(("visible_only", "as_published")):
    terms |= {f"{name}_{rule_of_joints}": metrics[i][f"loss/{name}"] for name in ("joints", "total")}
  for name, ours in (terms | {"sample": metrics[0]["loss/sample"]}).items():
    recording.loss(f"{rule}/loss/{name}", ours)

  channels_first = lambda cells: np.moveaxis(cells, -1, 1)
  recording.output("out/nodes", out.features["skeleton"][0][:, 0])
  for i, cells in enumerate(out.features["rgb"]):
    recording.output(f"{rule}/out/rgb_map{i}", channels_first(cells))
  for modality, cells in dense.items():
    recording.output(f"{rule}/out/dense_{modality}", channels_first(cells[:, ::2, ::2]))
  for modality, ours in out.samples.items():
    recording.output(f"{rule}/out/sample_{modality}", ours)

  for modality, number in _NUMBERS.items():
    recording.output(f"{rule}/out/bank{number}_after", moved["banks"][modality][views.index])
  write = lambda tree, statistics: to_torch(
    {name: join_statistics(part, statistics.get(name)) for name, part in tree.items()}, table, patch=1
  )
  after = write(params, moved["statistics"])
  for name in recording.below(f"{rule}/statistics_after/"):
    recording.output(f"{rule}/statistics_after/{name}", after[name])
  zeros = jax.tree.map(np.zeros_like, method_state["statistics"])  # statistics have no gradients
  visible_only, as_published = (write(jax.tree.map(lambda g: g[i], gradients), zeros) for i in range(2))
  recording.gradients(f"{rule}/", visible_only)
  recording.norms(f"{rule}/grad_norm_as_published/", as_published)
