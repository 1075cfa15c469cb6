"""Replays a step of the published SAIP code, recorded in a fixture, and compares every number it left."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np

from saip_jax.backbones.vit import ViT
from saip_jax.config import OptimizerConfig
from saip_jax.interop import saip as dialect
from saip_jax.interop.tables import to_torch
from saip_jax.masking.anchor import upsample_mask
from saip_jax.methods.saip import Saip
from saip_jax.methods.saip_config import MatchingConfig, ReconstructionConfig, SaipConfig, SearchConfig
from saip_jax.methods.saip_networks import SaipNetworks
from saip_jax.methods.saip_views import SaipDraws, SaipViews
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.state import TrainState
from saip_jax.training.step import make_train_step

LOSS, OUTPUT, GRADIENT, GRADIENT_NORM, WEIGHT = 1e-5, 1e-4, 1e-4, 5e-3, 1e-5


@dataclasses.dataclass(frozen=True)
class Check:
  """One compared number: its name, the error found, and the largest error allowed."""

  name: str
  error: float
  limit: float

  @property
  def passed(self) -> bool:
    return bool(self.error <= self.limit)  # False for NaN


class _Replay(Saip):
  """SAIP on given views and draws instead of images and keys."""

  def loss(self, params, extra, batch, key, step):
    total, (aux, _) = self.objectives(params, extra, *batch)
    return total, aux


def _method(config: dict, fixture) -> _Replay:
  backbone = ViT(
      width=config["embed_dim"], depth=config["depth"], heads=config["num_heads"],
      image_hw=tuple(config["img_size"]), patch=config["patch_size"][0],
  )
  locals_ = sum(name.startswith("in/local") for name in fixture)
  depth = len({name.split(".")[2] for name in fixture if name.startswith("student/css_decoder.self_atten_blocks.")})
  not_used = (0.0, 1.0)
  width, heads = config["decoder_embed_dim"], config["decoder_num_heads"]
  settings = SaipConfig(
      name="saip", fidelity="official", local_crops=locals_ - 1, crop_aspect=not_used, global_area=not_used,
      local_area=not_used, rescale_factors=(config["scale_local7"], config["scale_region"]),
      teacher_momentum=config["ema"],
      csm=MatchingConfig(
          prototypes=config["out_dim"], hidden=config["hidden_dim"], bottleneck=config["bottleneck_dim"],
          temp_student=config["student_temp"], temp_teacher=config["teacher_temp"],
          center_momentum=config["center_momentum"],
      ),
      csr=ReconstructionConfig(
          scale=1.25, mask_ratio=config["mask_ratio"], width=width, depth=config["decoder_depth"], heads=heads
      ),
      css=SearchConfig(
          scene_size=fixture["in/ref"].shape[-1], scene_area=not_used, scene_aspect=not_used, paste_opacity=0.7,
          width=width, depth=depth, heads=heads,
      ),
  )
  return _Replay(SaipNetworks(settings, backbone), (0, 0), (0, 0), total_steps=1)


def _inputs(fixture, method: Saip) -> tuple[SaipViews, SaipDraws]:
  patch = method.backbone.patch
  images = lambda *names: jnp.stack([fixture[f"in/{n}"].transpose(0, 2, 3, 1) for n in names], axis=1)
  mask = lambda name: jnp.asarray(fixture[f"in/{name}"][:, ::patch, ::patch], jnp.float32)
  crops = sorted((n for n in fixture if n.startswith("in/local")), key=lambda n: int(n.removeprefix("in/local")))
  views = SaipViews(
      globals=images("view1", "view2"), crops=images(*(n.removeprefix("in/") for n in crops)),
      scene=images("ref")[:, 0], inst_mask=mask("inst_mask"), roi_mask=mask("roi_mask"),
  )
  ids = lambda name: jnp.asarray(fixture[f"rand/{name}"], jnp.int32)
  base = jnp.asarray(fixture["rand/base_mask"], jnp.float32)
  seen = upsample_mask(base.reshape(len(base), -1), method.networks.grid, method.networks.csr_grid)
  draws = SaipDraws(
      1.0 - seen, ids("ids_keep"), ids("ids_restore"), jnp.broadcast_to(jnp.arange(2), (len(base), 2))
  )
  return views, draws


def _error(ours, theirs) -> float:
  """Largest difference as a fraction of the largest recorded value."""
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  if ours.shape != theirs.shape:
    raise ValueError(f"shape {ours.shape} here, {theirs.shape} in the fixture")
  return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))


def _published_order(logits) -> np.ndarray:
  """(B, V, K) -> (V * B, K): the published code stacks whole batches view by view."""
  logits = np.asarray(logits)
  return logits.swapaxes(0, 1).reshape(-1, logits.shape[-1])


def replay(path: str) -> list[Check]:
  """Runs the recorded step in float32 at highest precision.

  Args:
    path: a fixture (.npz) holding config, weights, inputs, draws and results of the published code.

  Returns:
    One check per loss, output, gradient, gradient norm, updated weight and teacher weight.
  """
  with np.load(path) as archive:
    fixture = dict(archive)
  config = json.loads(str(fixture["config"]))
  method = _method(config, fixture)
  patch = method.backbone.patch
  weights = lambda who: {k.removeprefix(f"{who}/"): v for k, v in fixture.items() if k.startswith(f"{who}/")}
  params, teacher = (jax.tree.map(jnp.asarray, dialect.read(weights(who))) for who in ("student", "teacher"))
  extra = {"teacher": teacher, "center": jnp.asarray(fixture["in/center"][0])}
  batch = _inputs(fixture, method)

  with jax.default_matmul_precision("highest"):
    gradients = jax.jit(jax.value_and_grad(method.objectives, has_aux=True))
    (_, (aux, out)), grads = gradients(params, extra, *batch)
    optimizer = OptimizerConfig(
        learning_rate=config["lr"], min_learning_rate=config["lr"], warmup_fraction=0.0, b1=config["betas"][0],
        b2=config["betas"][1], eps=1e-8, weight_decay=config["weight_decay"], grad_clip_norm=None,
    )
    tx, schedule = make_optimizer(optimizer, 1, method.param_groups())
    state = TrainState(jnp.zeros((), jnp.int32), params, extra, tx.init(params))
    after, _ = jax.jit(make_train_step(method, tx, schedule, accumulate=1, seed=0))(state, batch)

  published = lambda tree: to_torch(tree, dialect.SAIP, patch)
  checks = [
      Check(name, abs(float(aux.metrics[name]) / float(value) - 1), LOSS)
      for name, value in fixture.items() if name.startswith("loss/")
  ]
  flat = lambda x: np.asarray(x).reshape(len(x), -1)
  outputs = {
      "csm_student": _published_order(out.logits), "csm_teacher": _published_order(out.teacher_logits),
      "csr_pred": out.reconstruction, "css_inst_logits": flat(out.inst_logits),
      "css_roi_logits": flat(out.roi_logits), "new_center": after.extra["center"][None],
      "ref_feats": out.scene[:, ::8],
  }
  for name, ours in outputs.items():
    theirs = fixture[f"out/{name}"]
    checks.append(Check(f"out/{name}", _error(np.asarray(ours)[..., : theirs.shape[-1]], theirs), OUTPUT))

  grads = published(grads)
  for name, ours in grads.items():
    if f"grad/{name}" in fixture:
      checks.append(Check(f"grad/{name}", _error(ours, fixture[f"grad/{name}"]), GRADIENT))
  for name, ours in grads.items():
    norm = float(fixture[f"grad_norm/{name}"])
    checks.append(Check(f"grad_norm/{name}", abs(np.linalg.norm(ours.astype(np.float64)) / norm - 1), GRADIENT_NORM))
  for who, tree in (("student_after", after.params), ("teacher_after", after.extra["teacher"])):
    for name, ours in published(tree).items():
      difference = np.abs(ours - fixture[f"{who}/{name}"])
      gradient = fixture.get(f"grad/{name}")
      if gradient is None:  # Adam's first step is a sign: entries without a gradient move on noise
        error = np.quantile(difference, 0.99)
      else:
        error = np.max(difference[np.abs(gradient) >= 1e-3 * np.max(np.abs(gradient))])
      checks.append(Check(f"{who}/{name}", float(error), WEIGHT))
  return checks
