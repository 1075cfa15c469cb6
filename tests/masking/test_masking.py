"""Masks: counts, statistics of the published procedure, exact token moves."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings, strategies as st

from saip_jax.masking.anchor import order_by_mask, random_keep_mask, upsample_mask
from saip_jax.masking.tokens import restore_tokens, select_tokens


def test_published_statistics():
  """On 20x10 the upsampled mask shows 50.0 +- 3.9 cells; exactly 50 are fed; 1.5 of them are scored."""
  keys = jax.random.split(jax.random.key(0), 2000)

  def draw(key):
    mask = upsample_mask(random_keep_mask(key, 128, 0.75), (16, 8), (20, 10))
    keep, restore = order_by_mask(jax.random.fold_in(key, 1), mask, 0.75)
    return mask, keep, restore

  mask, keep, restore = map(np.asarray, jax.jit(jax.vmap(draw))(keys))
  shown = mask.sum(axis=1)
  assert abs(shown.mean() - 50.0) < 0.3 and abs(shown.std() - 3.9) < 0.3
  assert keep.shape == (2000, 50)
  leaked = (np.take_along_axis(mask, keep, axis=1) == 0).sum(axis=1)
  assert abs(leaked.mean() - 1.54) < 0.15
  np.testing.assert_array_equal(np.argsort(restore, axis=1)[:, :50], keep)


def test_ties_are_broken_at_random_over_the_whole_grid():
  mask = jnp.ones((200,))
  orders = jax.vmap(lambda k: order_by_mask(k, mask, 0.75)[0])(jax.random.split(jax.random.key(1), 400))
  counts = np.bincount(np.asarray(orders).ravel(), minlength=200)
  assert counts.min() > 50 and counts.max() < 160  # 100 expected each


def test_base_mask_keeps_exactly_the_ratio():
  masks = jax.vmap(lambda k: random_keep_mask(k, 128, 0.75))(jax.random.split(jax.random.key(2), 50))
  assert set(np.asarray(masks).sum(axis=1)) == {32.0}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(2, 40), st.floats(0.1, 0.9))
def test_select_then_restore_puts_tokens_back(seed, length, ratio):
  rng = np.random.default_rng(seed)
  tokens = jnp.asarray(rng.normal(size=(1, length, 3)), jnp.float32)
  mask = jnp.asarray(rng.random(length) < 0.5, jnp.float32)
  keep, restore = order_by_mask(jax.random.key(seed), mask, ratio)
  kept = select_tokens(tokens, keep[None])
  back = np.asarray(restore_tokens(kept, restore[None], jnp.full((3,), 7.0)))[0]
  visible = np.zeros(length, bool)
  visible[np.asarray(keep)] = True
  np.testing.assert_array_equal(back[visible], np.asarray(tokens)[0, visible])
  assert (back[~visible] == 7.0).all()


def test_mask_upsampling_is_torch_nearest():
  mask = np.arange(128.0)
  ours = np.asarray(upsample_mask(jnp.asarray(mask), (16, 8), (20, 10))).reshape(20, 10)
  rows, columns = np.floor(np.arange(20) * 16 / 20).astype(int), np.floor(np.arange(10) * 8 / 10).astype(int)
  np.testing.assert_array_equal(ours, mask.reshape(16, 8)[rows][:, columns])
