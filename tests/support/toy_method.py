"""A tiny method, its data and its recipe, for tests of the loop. Run as a script it trains, slowly."""

import argparse
import dataclasses
import os
import pathlib
import sys
import time

if __name__ == "__main__":
  os.environ["JAX_PLATFORMS"] = "cpu"
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from saip_jax.backbones.features import Backbone, Features
from saip_jax.evaluation.monitors import monitors_for
from saip_jax.methods.base import Aux, Method, ParamGroup
from saip_jax.methods.modules import replace_modules
from saip_jax.pictures import Panel
from saip_jax.recipes import apply_overrides, parse_config
from saip_jax.running import train_in_folder
from saip_jax.training.distributed import initialize


@dataclasses.dataclass(frozen=True)
class ToyConfig:
  name: str
  width: int
  noise: float
  ema_momentum: float = 0.9


class ToyBackbone(Backbone):
  """The encoder that `Toy` trains, for images of 4x2 pixels."""

  width: int = 5

  @nn.compact
  def _encode(self, views):
    kernel = self.param("kernel", lambda key: jax.random.normal(key, (24, self.width)))
    cls = jnp.tanh(views.images.reshape(-1, 24) @ kernel + self.param("bias", lambda key: jnp.zeros(())))
    return Features(cls=cls, tokens=cls[:, None], grid=(1, 1))


@dataclasses.dataclass(frozen=True)
class Toy(Method):
  """Predicts, from a noisy image, the output of a moving average of itself for the clean one. A black image gives NaN.

  Attributes:
    hangs: compiling the loss never ends.
  """

  Config = ToyConfig

  config: ToyConfig
  hangs: bool = False

  @classmethod
  def build_encoder(cls, config, **backbone_options):
    return ToyBackbone(image_hw=(4, 2), width=config.method.width)

  def batch_spec(self, global_batch):
    return {
      "image": jax.ShapeDtypeStruct((global_batch, 4, 2, 3), jnp.uint8),
      "index": jax.ShapeDtypeStruct((global_batch,), jnp.uint32),
    }

  def init(self, key):
    params = {"linear": {"kernel": jax.random.normal(key, (24, self.config.width)) / 5, "bias": jnp.zeros(())}}
    return params, {"teacher": jax.tree.map(jnp.copy, params), "center": jnp.zeros(self.config.width)}

  def load_params(self, params, method_state, student, teacher):
    params = replace_modules(params, student)
    return params, method_state | {"teacher": replace_modules(params, teacher or {})}

  def _apply(self, params, x):
    return jnp.tanh(x @ params["linear"]["kernel"] + params["linear"]["bias"])

  def views(self, batch, key):
    clean = batch["image"].reshape(-1, 24) / 255.0
    clean = clean / clean.mean(axis=-1, keepdims=True)
    noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (24,)))(batch["index"])
    return clean, noise, batch["index"]

  def objectives(self, params, method_state, views, step):
    time.sleep(1e6 if self.hangs else 0)
    clean, noise, index = views
    target = jax.lax.stop_gradient(self._apply(method_state["teacher"], clean))
    fit = jnp.mean((self._apply(params, clean + self.config.noise * noise) - target + method_state["center"]) ** 2)
    size = jnp.mean(params["linear"]["kernel"] ** 2)
    metrics = {"loss/total": fit + size, "loss/fit": fit, "loss/size": size}
    index = index.astype(jnp.float32)  # moments that identify the images
    metrics |= {"monitor/index": index.mean(), "monitor/index_squared": jnp.mean(index**2)}
    return fit + size, Aux(metrics, {"mean": target.mean(axis=0)})

  def after_update(self, method_state, params, for_update, step):
    m = self.config.ema_momentum
    return {
      "teacher": jax.tree.map(lambda t, p: m * t + (1 - m) * p, method_state["teacher"], params),
      "center": m * method_state["center"] + (1 - m) * for_update["mean"],
    }

  def param_groups(self):
    return [("bias", ParamGroup(decay=False)), ("", ParamGroup())]

  def export_params(self, params, method_state, which):
    return params["linear"]

  def panels(self, params, method_state, batch, key):
    return {"views": Panel([[(f"image {i}", image) for i, image in zip(batch["index"], batch["image"])]])}


class _Damage:
  def __init__(self, lines=()):
    self._lines = list(lines)

  def lines(self):
    return self._lines


class ToyData:
  """Random images, a pure function of (seed, step).

  Decoding takes `seconds`, forever at `hang_step`; the batch of `black_step` is all black.
  """

  def __init__(self, batch_size, seed=0, length=40, black_step=None, damage=(), seconds=0.0, hang_step=None):
    self.identity = {"source": "toy", "digest": "abc"}
    self.damage, self.unknown = _Damage(damage), _Damage()
    self.starts = []  # first steps that the loop asked for
    self._batch_size, self._seed, self._length = batch_size, seed, length
    self._black_step, self._seconds, self._hang_step = black_step, seconds, hang_step

  def __len__(self):
    return self._length

  def summary(self):
    return [f"{self._length} toy images"]

  def batches(self, start_step=0, host=0, hosts=1):
    self.starts.append(start_step)
    step = start_step
    while True:
      time.sleep(self._seconds if step != self._hang_step else 1e6)
      rng = np.random.default_rng([self._seed, step])
      image = rng.integers(1, 256, (self._batch_size, 4, 2, 3), np.uint8)
      index = rng.integers(0, self._length, self._batch_size).astype(np.uint32)
      rows = self._batch_size // hosts
      mine = slice(host * rows, (host + 1) * rows)
      yield {"image": image[mine] * np.uint8(step != self._black_step), "index": index[mine], "unused": index[mine]}
      step += 1


TOY_METHODS = {"toy": Toy}


def toy_recipe():
  return {
    "batch_size": 8,
    "accumulate": 1,
    "total_steps": 6,
    "checkpoint_every": 3,
    "panel_every": 0,
    "precision": "float32",
    "data": {"source": "people", "people_count": 40},
    "model": {"backbone": "vit_tiny", "image_hw": (32, 16)},
    "method": {"name": "toy", "width": 5, "noise": 0.1},
    "optimizer": {
      "learning_rate": 1e-2,
      "min_learning_rate": 0.0,
      "warmup_fraction": 1 / 3,
      "b1": 0.9,
      "b2": 0.95,
      "eps": 1e-8,
      "weight_decay": 0.05,
      "grad_clip_norm": None,
    },
  }


def toy_config(*overrides: str):
  """The toy recipe with settings like "batch_size=16" on top."""
  return parse_config(apply_overrides(toy_recipe(), [f"--config.{o}" for o in overrides]), TOY_METHODS)


def train_toy(workdir, *overrides: str, devices=1, hangs=False, **data_options):
  """Trains and returns the final state on the host; `devices=None` takes all."""
  config = toy_config(*overrides)
  data = ToyData(config.batch_size, config.seed, **data_options)
  method = dataclasses.replace(Toy.build(config), hangs=hangs)
  devices = jax.devices()[:devices]
  state = train_in_folder(config, method, lambda _: data, workdir, monitors_for(config, method.backbone), devices)
  return jax.device_get(state) if jax.process_count() == 1 else None


if __name__ == "__main__":
  parser = argparse.ArgumentParser()
  parser.add_argument("--workdir", required=True)
  parser.add_argument("--seconds", type=float, default=0.05)
  parser.add_argument("--black-step", type=int)
  parser.add_argument("--hang-step", type=int)
  parser.add_argument("--hang-in-compilation", action="store_true")
  options, settings = parser.parse_known_args()
  initialize()  # from JAX_COORDINATOR_ADDRESS and its like
  settings = [s.removeprefix("--config.") for s in settings]
  train_toy(
    options.workdir,
    *settings,
    devices=None if jax.process_count() > 1 else 1,
    seconds=options.seconds,
    black_step=options.black_step,
    hang_step=options.hang_step,
    hangs=options.hang_in_compilation,
  )
