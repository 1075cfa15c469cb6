"""Whole runs with an expert: they resume in the same bits, and only with the same weights."""

import jax
import numpy as np
import pytest

from saip_jax.interop.spec import BackboneSpec, Weights
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.step import init_state, make_train_step
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD
from tests.support.kill_and_resume import differing, final_state
from tests.support.tiny_saip import made_up_batch, tiny, train_tiny
from tests.support.toy_weights import add_toy_backbone, random_weights, timm_file

NORMALIZED = (f"method.expert_mean={IMAGENET_MEAN}", f"method.expert_std={IMAGENET_STD}")
ALIGNED = ("method.align.weight=1.0", "method.align.adapter=linear", "method.align.targets=standardized")
CONSTANT_RATE = ("optimizer.warmup_fraction=0", f"optimizer.min_learning_rate={5e-4}", "checkpoint_every=2")


@pytest.mark.slow
def test_two_and_two_steps_are_four(tmp_path, monkeypatch):
  add_toy_backbone(monkeypatch)
  file = timm_file(tmp_path / "expert.safetensors")
  settings = (f"method.expert={file}", *NORMALIZED, *ALIGNED, *CONSTANT_RATE)
  train_tiny(tmp_path / "whole", *settings, "total_steps=4")
  moved = file.rename(tmp_path / "moved.safetensors")
  settings = (f"method.expert={moved}", *settings[1:])
  for steps in (2, 4):
    train_tiny(tmp_path / "parts", *settings, f"total_steps={steps}")
  assert differing(tmp_path / "whole", tmp_path / "parts") == []
  names = final_state(tmp_path / "parts").keys()
  assert any(name.startswith("extra/expert_moments") for name in names)
  assert any(name.startswith("params/adapter") for name in names) and not any("extra/expert/" in n for n in names)
  other = timm_file(tmp_path / "other.safetensors", random_weights(image_hw=(64, 32)))
  with pytest.raises(ValueError, match="method.expert was"):
    train_tiny(tmp_path / "parts", f"method.expert={other}", *settings[1:], "total_steps=6")


@pytest.mark.slow
def test_a_student_comes_close_to_a_fixed_random_expert(tmp_path, monkeypatch):
  """The distance of patch tokens falls below three tenths of its start; across views colors cannot be predicted."""
  add_toy_backbone(monkeypatch)
  spec = BackboneSpec("vit_toy", (128, 64), "flat1d")
  images, reads = np.zeros((1, 128, 64, 3), np.float32), ("cls", "tokens", "hidden")
  new = jax.jit(lambda key: spec.build().init(key, images, reads))(jax.random.key(5))
  weights = Weights(spec, {"backbone": jax.device_get(new["params"])}, None, "new")
  file = timm_file(tmp_path / "expert.safetensors", weights)
  alone = [f"method.{name}.weight=0.0" for name in ("csm", "csr", "css")]
  config, method = tiny(
    f"method.expert={file}",
    *NORMALIZED,
    *ALIGNED,
    *alone,
    "method.align.pairs=all",
    "optimizer.learning_rate=2e-3",
    width=48,
    depth=8,
    heads=3,
  )
  tx, schedule = make_optimizer(config.optimizer, 300, method.param_groups())
  state = jax.jit(lambda: init_state(method, tx, 0))().replace(frozen=jax.device_put(method.frozen))
  step, losses = jax.jit(make_train_step(method, tx, schedule, 1, 0)), []
  for number in range(300):
    batch = {name: a for name, a in made_up_batch(seed=number % 4).items() if name in method.batch_spec(8)}
    state, metrics = step(state, batch)
    losses.append(float(metrics["loss/align_patch"]))
  assert np.mean(losses[-10:]) < 0.3 * losses[0], (losses[0], np.mean(losses[-10:]))
