"""Details of DINO's published code: the start of the prototypes, initial values, positions, gains."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from saip_jax.backbones.pos_embed import interpolate_positions
from saip_jax.training.optimizer import make_optimizer
from tests.support.tiny_methods import tiny_method

KEY = jax.random.key(0)


@pytest.mark.torch
def test_prototypes_start_as_adam_of_pytorch_does():
  """Before the thaw PyTorch keeps no state of a parameter without a gradient; then its bias corrections begin."""
  torch = pytest.importorskip("torch")
  settings = {"learning_rate": 0.1, "min_learning_rate": 0.1, "warmup_fraction": 0.0, "weight_decay": 0.3}
  config, method = tiny_method(
    "dino_demo",
    "method.prototypes_frozen=0.3",
    "optimizer.grad_clip_norm=None",
    *(f"optimizer.{name}={value}" for name, value in settings.items()),
  )
  method = dataclasses.replace(method, total_steps=10)  # three updates are waited
  tx, _ = make_optimizer(config.optimizer, 10, method.param_groups())
  rng = np.random.default_rng(0)
  start = rng.normal(size=(2, 3, 4)).astype(np.float32)
  params = {"head": {"prototypes": jnp.asarray(start[0]), "fc1": {"kernel": jnp.asarray(start[1])}}}
  theirs = [torch.nn.Parameter(torch.tensor(a)) for a in start]
  adam = torch.optim.AdamW(theirs, lr=0.1, betas=(config.optimizer.b1, config.optimizer.b2), weight_decay=0.3)
  state, optimize = tx.init(params), jax.jit(tx.update)
  for update in range(8):
    gradients = rng.normal(size=start.shape).astype(np.float32)
    for parameter, gradient in zip(theirs, gradients):
      parameter.grad = torch.tensor(gradient)
    if update < 3:
      theirs[0].grad = None
    adam.step()
    updates, state = optimize({"head": {"prototypes": gradients[0], "fc1": {"kernel": gradients[1]}}}, state, params)
    params = optax.apply_updates(params, updates)
    head = params["head"]
    np.testing.assert_array_equal(head["prototypes"] == start[0], update < 3)
    for ours, parameter in zip((head["prototypes"], head["fc1"]["kernel"]), theirs):
      np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=2e-5)


def test_initial_values_are_dinos():
  _, method = tiny_method("dino_demo", "method.weights=normal")
  params, _ = jax.jit(method.init)(KEY)
  blocks, head, patch = params["backbone"]["blocks"], params["head"], params["backbone"]["patch_embed"]["kernel"]
  for kernel in (blocks["qkv"]["kernel"], blocks["mlp"]["fc1"]["kernel"], head["fc2"]["kernel"]):
    assert np.std(kernel) == pytest.approx(0.02, rel=0.1)
  assert np.abs(patch).max() <= len(patch) ** -0.5 < 1.02 * np.abs(patch).max()


def test_gain_is_learned_where_the_last_layer_is_not_normalized():
  _, method = tiny_method("dino_demo", "method.norm_last_layer=False")
  head = method.head
  params = head.init(KEY, jnp.zeros((1, 1, 8)))["params"]
  x = jax.random.normal(KEY, (3, 2, 8))
  once, twice = (head.apply({"params": params | {"gain": g * params["gain"]}}, x) for g in (1.0, 2.0))
  assert params["gain"].shape == (method.config.prototypes,) and np.all(params["gain"] == 1)
  np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)
  start = dict(method.param_groups())[r"^head/(prototypes|gain)$"].start
  assert start == round(method.config.prototypes_frozen * method.total_steps)


@pytest.mark.torch
def test_positions_as_published_are_sampled_beside_the_grid():
  torch = pytest.importorskip("torch")
  table = np.random.default_rng(0).normal(size=(14 * 14, 6)).astype(np.float32)
  image = torch.tensor(table.reshape(1, 14, 14, 6)).permute(0, 3, 1, 2)
  factor = (6 + 0.1) / 14
  theirs = torch.nn.functional.interpolate(image, scale_factor=(factor, factor), mode="bicubic")
  ours = interpolate_positions(jnp.asarray(table), (14, 14), (6, 6), "grid2d_offset")
  np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1).reshape(36, 6), atol=2e-5)
  exact = interpolate_positions(jnp.asarray(table), (14, 14), (6, 6), "grid2d")
  assert np.abs(ours - exact).max() > 0.01
