"""One step of the published DINO, and its schedules."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from saip_jax.backbones.features import Views
from saip_jax.config import OptimizerConfig
from saip_jax.heads.prototype import PrototypeHead
from saip_jax.interop.tables import LINEAR_LAYOUT, Layout, Row, from_torch, linear_rows, to_torch
from saip_jax.interop.vit import VIT_NAMES, inside
from saip_jax.losses.infonce import unit
from saip_jax.methods.dino.config import DinoConfig, DinoMaskedConfig
from saip_jax.methods.dino.method import Dino, DinoViews
from saip_jax.methods.modules import encode_views
from saip_jax.methods.teacher import cosine_momentum
from saip_jax.replay.masked import recorded_vit
from saip_jax.replay.recording import EXACT, LOSS, Recording, largest_error
from saip_jax.replay.step import run_step
from saip_jax.training.optimizer import make_schedules

_COLUMN = Layout(lambda a: a[:, 0], lambda a, _: a[:, None])
_TABLE = [
  *inside(VIT_NAMES.timm, "backbone.", "backbone/"),
  *linear_rows("head.mlp.0", "head/fc1"),
  *linear_rows("head.mlp.2", "head/fc2"),
  *linear_rows("head.mlp.4", "head/fc3"),
  Row("head.last_layer.weight_v", "head/prototypes", LINEAR_LAYOUT),
]
_GAIN = Row("head.last_layer.weight_g", "head/gain", _COLUMN)


def _method(recording: Recording, positions: str) -> Dino:
  meta, ignored = recording.meta, (1.0, 1.0)
  config = DinoConfig(
    name="dino",
    local_crops=len(recording.numbered("in/local")),
    crop_aspect=ignored,
    global_area=ignored,
    local_area=ignored,
    prototypes=meta["prototypes"],
    hidden=meta["hidden"],
    bottleneck=meta["bottleneck"],
    temp_student=meta["temp_student"],
    temp_teacher_start=meta["temp_teacher"],
    temp_teacher=meta["temp_teacher"],
    temp_teacher_warmup=0.0,
    center_momentum=meta["center_momentum"],
    teacher_momentum=meta["ema"],
    prototypes_frozen=0.0,
    norm_last_layer=meta.get("norm_last_layer", True),
    positions=positions,
    mae=DinoMaskedConfig(weight=0.0, mask_ratio=0.5, width=1, depth=1, heads=1),
  )
  return Dino(config, recorded_vit(meta, **Dino.vit_options(config)), (0, 0), total_steps=1)


@functools.partial(jax.jit, static_argnums=0)
def _outputs(method: Dino, params, views: DinoViews) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the class tokens (V B, D), bottlenecks and logits of all views, in the published order."""
  images = [each for each in (views.globals, views.locals) if each is not None]
  features, _ = encode_views(method.backbone, params["backbone"], None, [Views(each, ["cls"]) for each in images])
  batch = len(views.globals)
  cls = jnp.concatenate([f.cls.reshape(batch, -1, f.cls.shape[-1]).swapaxes(0, 1) for f in features])
  head = {"params": params["head"]}
  results = cls, unit(method.head.apply(head, cls, method=PrototypeHead.code)), method.head.apply(head, cls)
  return tuple(a.reshape(-1, a.shape[-1]) for a in results)


def replay_dino(recording: Recording) -> None:
  """Runs the recorded step and adds a check for each of its numbers."""
  meta = recording.meta
  views = DinoViews(
    recording.images(*recording.numbered("in/global")), recording.images(*recording.numbered("in/local"))
  )
  table = _TABLE if meta.get("norm_last_layer", True) else [*_TABLE, _GAIN]
  recorded = {who: recording.below(f"{who}/") for who in ("student", "teacher")}
  read = lambda weights: from_torch(weights, table, (_GAIN.torch,), patch=meta["patch"])
  published = lambda tree: to_torch(tree, table, meta["patch"])
  params, teacher = (read(weights) for weights in recorded.values())
  method_state = {"teacher": teacher, "center": recording["in/center"][0]}
  first = jnp.zeros((), jnp.int32)

  for prefix, positions in (("", "grid2d"), ("as_published/", "as_published")):
    method = _method(recording, positions)
    if prefix:  # only the numbers that depend on positions are recorded
      with jax.default_matmul_precision("highest"):
        loss, _ = jax.jit(method.objectives)(params, method_state, views, first)
    else:
      step = run_step(method, params, method_state, views, meta)
      loss = step.aux.metrics["loss/dino"]
    recording.loss(f"{prefix}loss/dino", loss)
    for who, tree, seen in (("student", params, views), ("teacher", teacher, views.replace(locals=None))):
      with jax.default_matmul_precision("highest"):
        cls, code, logits = _outputs(method, tree, seen)
      recording.output(f"{prefix}out/{who}_cls", cls)
      recording.output(f"{prefix}out/{who}_logits", logits)
      if who == "student":
        recording.output(f"{prefix}out/head_bottleneck", code)
  recording.output("out/new_center", step.after.method_state["center"][None])
  gradients, after = published(step.gradients), published(step.after.params)
  recording.gradients("", gradients)
  recording.weights("student_after/", after, "grad/", recorded["student"], gradients)
  moved = method.after_update(method_state, read(after | recording.below("student_after/")), step.aux.for_update, first)
  recording.teacher(published(moved["teacher"]))
  if meta.get("norm_last_layer", True):
    for who in ("student", "teacher"):
      recording.output(f"{who}_after/{_GAIN.torch}", np.ones((meta["prototypes"], 1)), EXACT)
  if "schedule" in meta:
    _compare_schedules(recording)


def _compare_schedules(recording: Recording) -> None:
  """Compares the schedules that follow the same rule, see the docstring of configs/dino.py."""
  s = recording.meta["schedule"]
  total, warmup = s["epochs"] * s["updates_per_epoch"], s["warmup_epochs"] * s["updates_per_epoch"]
  optimizer = OptimizerConfig(
    learning_rate=s["lr"],
    min_learning_rate=s["min_lr"],
    warmup_fraction=warmup / total,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=s["wd"],
    final_weight_decay=s["final_wd"],
    grad_clip_norm=None,
  )
  rate, decay = make_schedules(optimizer, total)
  updates = jnp.arange(total)
  ours = {
    "lr": jax.vmap(rate)(updates),
    "weight_decay": jax.vmap(decay)(updates),
    "momentum": jax.vmap(lambda i: cosine_momentum(s["momentum"], i, total, 1))(updates),
  }
  for name, values in ours.items():
    start = warmup if name == "lr" else 0  # the published warm-up reaches the peak one update earlier
    theirs = recording[f"schedule/{name}"]
    recording.add(f"schedule/{name}", largest_error(values[start:], theirs[start:]), LOSS)
  method = _method(recording, "grid2d")
  config = dataclasses.replace(
    method.config,
    temp_teacher_start=s["temp_start"],
    temp_teacher=s["temp_end"],
    temp_teacher_warmup=s["temp_warmup_epochs"] / s["epochs"],
    temp_teacher_stairs=s["temp_warmup_epochs"],
  )
  method = dataclasses.replace(method, config=config, total_steps=total)
  temperatures = jax.vmap(method.temp_teacher)(updates)
  epochs = np.repeat(recording["schedule/teacher_temp_of_epoch"], s["updates_per_epoch"])
  name = "schedule/teacher_temp_of_epoch"
  recording.add(name, largest_error(temperatures, epochs), LOSS)
