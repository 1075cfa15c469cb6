"""Scenes: where the persons go, how they are blended, and the masks that say so."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.views import scenes

SCENE, CROP, PATCH = (224, 224), (128, 64), 16
quick = hypothesis.settings(max_examples=20, deadline=None)


def draw(count, scene_hw=SCENE, crop_hw=CROP):
  keys = jax.random.split(jax.random.key(0), count)
  draw_one = lambda key: scenes.sample_places(jax.random.uniform(key, (2, 2)), scene_hw, crop_hw, 2)
  return np.asarray(jax.vmap(draw_one)(keys)).swapaxes(0, 1)


def test_placements_fill_exactly_the_published_ranges():
  roi, inst = draw(20000)
  assert (roi.min(0) == 0).all() and (roi.max(0) == 94).all()
  assert inst[:, 0].min() == 0 and inst[:, 0].max() == 94
  assert (inst[:, 1] >= roi[:, 1] + 64).all() and inst[:, 1].max() == 158  # right of it, never overlapping
  for gap in (0, 30):  # the right crop is uniform over what the left one leaves
    spare = (inst[:, 1] - roi[:, 1] - 64)[roi[:, 1] == 94 - gap]
    assert spare.min() == 0 and spare.max() == gap
  counts = np.bincount(roi[:, 1], minlength=95)
  assert counts.min() > 130 and counts.max() < 300  # 210 each
  assert abs(np.corrcoef(roi[:, 0], inst[:, 0])[0, 1]) < 0.03


def test_a_scene_too_small_is_refused():
  with pytest.raises(ValueError, match="128x128 .* 130x130"):
    scenes.sample_places(jnp.zeros((2, 2)), (128, 128), CROP, 2)
  draw(1, (130, 130))


def test_three_crops_never_overlap():
  uniform = jax.random.uniform(jax.random.key(0), (5000, 3, 2))
  corners = np.asarray(jax.vmap(lambda u: scenes.sample_places(u, SCENE, CROP, 3))(uniform))
  assert (np.diff(corners[:, :, 1], axis=1) >= 64).all()
  assert corners.min() == 0 and corners[:, :, 1].max() == 158 and corners[:, :, 0].max() == 94


@quick
@hypothesis.given(st.integers(0, 96), st.integers(0, 160), st.integers(0, 2**31))
def test_paste_blends_inside_the_box_and_leaves_the_rest_alone(y, x, seed):
  rng = np.random.default_rng(seed)
  scene = rng.normal(size=(*SCENE, 3)).astype(np.float32)
  crop = rng.normal(size=(*CROP, 3)).astype(np.float32)
  expected = scene.copy()
  box = np.s_[y : y + 128, x : x + 64]
  expected[box] = 0.7 * crop + 0.3 * scene[box]
  pasted = np.asarray(_paste(scene, crop[None], jnp.array([[y, x]]), jnp.array([0.7])))
  np.testing.assert_allclose(pasted, expected, rtol=0, atol=1e-6)
  outside = np.ones(SCENE, bool)
  outside[box] = False
  np.testing.assert_array_equal(pasted[outside], scene[outside])


_paste = jax.jit(scenes.paste)


@quick
@hypothesis.given(st.integers(0, 96), st.integers(0, 160))
def test_box_mask_is_the_full_mask_nearest_downsampled_with_32_positives(y, x):
  full = np.zeros(SCENE, np.float32)
  full[y : y + 128, x : x + 64] = 1
  mask = scenes.box_mask(jnp.array([y, x]), CROP, SCENE, PATCH)
  np.testing.assert_array_equal(mask, full[::PATCH, ::PATCH])
  assert mask.sum() == 32


@pytest.mark.torch
def test_box_mask_is_torchs_nearest_interpolation():
  torch = pytest.importorskip("torch")
  roi, inst = draw(5)
  for y, x in (*roi, *inst):
    full = torch.zeros(1, 1, *SCENE)
    full[..., y : y + 128, x : x + 64] = 1
    expected = torch.nn.functional.interpolate(full, (14, 14), mode="nearest")[0, 0]
    np.testing.assert_array_equal(scenes.box_mask(jnp.array([y, x]), CROP, SCENE, PATCH), expected.numpy())
