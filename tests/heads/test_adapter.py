"""Adapters: the published sizes, and a block with the expert's heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.heads.adapter import Adapter

TOKENS = jax.ShapeDtypeStruct((1, 2, 192), jnp.float32)


@pytest.mark.parametrize(
  "kind, width, heads, millions",
  [("mlp", 768, 12, 5.315), ("mlp", 1024, 16, 5.381), ("block", 768, 12, 8.80), ("block", 1024, 16, 14.37)],
)
def test_published_numbers_of_parameters(kind, width, heads, millions):
  params = jax.eval_shape(Adapter(width, heads, kind).init, jax.random.key(0), TOKENS)["params"]
  count = sum(a.size for a in jax.tree.leaves(params)) / 1e6
  assert round(count, len(str(millions).partition(".")[2])) == millions


def test_a_linear_adapter_is_one_product():
  adapter = Adapter(6, kind="linear")
  x = jax.random.normal(jax.random.key(1), (2, 3, 4))
  params = adapter.init(jax.random.key(0), x)
  assert jax.tree.map(jnp.shape, params["params"]) == {"fc4": {"kernel": (4, 6), "bias": (6,)}}
  wanted = np.float64(x) @ np.float64(params["params"]["fc4"]["kernel"]) + np.float64(params["params"]["fc4"]["bias"])
  np.testing.assert_allclose(adapter.apply(params, x), wanted, atol=1e-5)


def test_the_block_mixes_tokens_and_ignores_padding():
  adapter = Adapter(8, 2, "block")
  x = jax.random.normal(jax.random.key(1), (1, 5, 4))
  params = jax.tree.map(
    lambda a: a + 0.1 * jax.random.normal(jax.random.key(2), a.shape), adapter.init(jax.random.key(0), x)
  )
  mask = jnp.array([[True, True, True, False, False]])
  changed = x.at[:, 3:].add(1)
  first, second = (adapter.apply(params, tokens, mask)[:, :3] for tokens in (x, changed))
  np.testing.assert_array_equal(first, second)
  assert np.abs(adapter.apply(params, changed)[:, 0] - adapter.apply(params, x)[:, 0]).max() > 1e-4
  maps = adapter.apply(params, x, method=Adapter.maps)
  assert [m.shape for m in maps] == [(1, 2, 5, 5)] * 2
  np.testing.assert_allclose(maps[0].sum(-1), 1, rtol=1e-5)


def test_standardized_targets_need_no_norm():
  names = lambda normalize: Adapter(8, 2, "mlp", normalize).init(jax.random.key(0), jnp.zeros((1, 2, 4)))["params"]
  assert set(names(True)) - set(names(False)) == {"norm"}
