"""Initial values and running statistics against PyTorch, and what decays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from saip_jax.backbones.batch_norm import make_batch_norm
from saip_jax.backbones.pos_embed import wave_positions
from saip_jax.backbones.semgcn import SemGraphConv
from saip_jax.heads.cross_block import CrossBlock
from saip_jax.heads.projection import MapProjection
from saip_jax.training.optimizer import make_optimizer, parameter_names
from tests.support.tiny_methods import tiny_method

KEY = jax.random.key(0)


def test_keys_and_values_of_cross_attention_start_as_layers_of_their_own():
  x = jnp.zeros((1, 2, 64))
  kernel = CrossBlock(64, 4).init(KEY, x, x)["params"]["cross_kv"]["kernel"]
  bound = (6 / 128) ** 0.5  # Xavier's of 64 x 64
  for part in jnp.split(kernel, 2, axis=1):
    assert 0.98 * bound < np.abs(part).max() <= bound


@pytest.mark.torch
def test_skeleton_and_projections_start_as_in_pytorch():
  torch = pytest.importorskip("torch")
  torch.manual_seed(0)
  theirs = torch.nn.init.xavier_uniform_(torch.empty(2, 48, 32), gain=1.414)  # as HCMoCo's SemGCN fills both at once
  edges = tuple((i, i) for i in range(5))
  params = SemGraphConv(32, edges).init(KEY, jnp.zeros((1, 5, 48)))["params"]
  assert np.abs(params["kernel"]).max() == pytest.approx(float(theirs.abs().max()), rel=0.02)
  assert 0.8 * 32**-0.5 < np.abs(params["bias"]).max() <= 32**-0.5
  layer = torch.nn.Linear(40, 256)  # on the channels of all maps
  maps = tuple(jnp.zeros((1, 2, 2, c)) for c in (8, 12, 20))
  params = MapProjection(256).init(KEY, maps, method="dense")["params"]
  for ours, theirs in ((params["kernel"], layer.weight), (params["bias"], layer.bias)):
    assert np.abs(ours).max() <= 40**-0.5 and np.std(ours) == pytest.approx(float(theirs.detach().std()), rel=0.1)


@pytest.mark.torch
@pytest.mark.parametrize("momentum", [0.9, 0.99])
def test_running_statistics_are_pytorchs(momentum):
  torch = pytest.importorskip("torch")

  class Norm(nn.Module):
    @nn.compact
    def __call__(self, x, mask=None):
      return make_batch_norm(self, jnp.float32, momentum)(x, mask=mask)

  x = np.random.default_rng(0).normal(2, 3, (3, 2, 2, 5)).astype(np.float32)
  theirs = torch.nn.BatchNorm2d(5, momentum=1 - momentum)
  variables = Norm().init(KEY, x)
  for _ in range(3):
    expected = theirs(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy().transpose(0, 2, 3, 1)
    found, changed = Norm().apply(variables, x, mutable=["batch_stats"])
    variables |= changed
    np.testing.assert_allclose(found, expected, atol=1e-5)
  moved = variables["batch_stats"]["BatchNorm_0"]
  np.testing.assert_allclose(moved["mean"], theirs.running_mean, rtol=1e-5)
  np.testing.assert_allclose(moved["var"], theirs.running_var, rtol=1e-5)
  still = Norm().apply(variables, x)
  np.testing.assert_allclose(
    still, theirs.eval()(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy().transpose(0, 2, 3, 1), atol=1e-5
  )
  # Cells that are not real have no part: the same as without them.
  wide = np.concatenate([x, np.full((3, 2, 3, 5), 7, np.float32)], axis=2)
  mask = (np.arange(5) < 2)[None, None, :, None] & np.ones((3, 2, 1, 1), bool)
  apply = lambda x, mask: Norm().apply(Norm().init(KEY, x), x, mask, mutable=["batch_stats"])[1]["batch_stats"]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), apply(wide, mask), apply(x, None))


@pytest.mark.parametrize(
  "recipe,decaying",
  [
    ("mae_demo", {"cls_token": True, "mask_token": True, "pos_embed": False}),
    ("hap_demo", {"cls_token": True, "mask_token": True, "pos_embed": False}),
    ("dino_demo", {"cls_token": True, "pos_embed": True, "prototypes": True}),
  ],
)
def test_tokens_decay_as_published(recipe, decaying):
  config, method = tiny_method(
    recipe,
    "optimizer.weight_decay=0.5",
    "optimizer.learning_rate=0.5",
    "optimizer.min_learning_rate=0.5",
    "optimizer.warmup_fraction=0.0",
    *(["method.prototypes_frozen=0.0"] if recipe == "dino_demo" else []),
  )
  params = jax.tree.map(lambda a: jnp.ones(a.shape), jax.eval_shape(lambda: method.init(KEY)[0]))
  tx, _ = make_optimizer(config.optimizer, 10, method.param_groups())
  update = lambda params: tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)[0]
  updates = jax.jit(update)(params)
  found = {name.split("/")[-1]: float(np.min(u)) for name, u in parameter_names(updates).items()}
  for name, decays in decaying.items():
    assert (found[name] < -0.2) == decays, name


def test_fixed_positions_do_not_move():
  """As published, in encoder and decoder."""
  _, method = tiny_method("mae_demo", "method.positions=cosine")
  params, _ = jax.jit(method.init)(KEY)
  assert "pos_embed" not in params["mae"]
  grid, width = method.autoencoder.grid, params["backbone"]["pos_embed"].shape[-1]
  np.testing.assert_allclose(params["backbone"]["pos_embed"][0, 1:], wave_positions(grid, width), atol=1e-6)
