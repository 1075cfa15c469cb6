"""HAP's masks: BEiT's blocks, parts of a body by its keypoints, and exactly as many patches hidden as wanted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.masking.block import BLOCK_UNIFORMS, block_mask
from saip_jax.masking.parts import PART_BONES, part_counts, part_patches, part_priority
from saip_jax.methods.hap.config import HapMasksConfig
from saip_jax.methods.hap.masks import draw_masks

GRID, PATCH, DRAWS = (16, 8), 16, 1600
MODES = {
  "random": HapMasksConfig(blocks=False, most_parts=0),
  "block": HapMasksConfig(most_parts=0),
  "released": HapMasksConfig(part_fraction=(0.0, 0.3)),
  "literal": HapMasksConfig(),
}


def upright_figure():
  """Keypoints (17, 3) of a standing person that covers 49 of the 128 patches of a view of 256x128."""
  head = [(64, 30), (58, 24), (70, 24), (50, 28), (78, 28)]
  limbs = [(20, 58), (30, 92), (34, 132), (16, 128), (20, 184), (26, 238)]
  return np.float32([(x, y, 2) for x, y in head + [(64 + s * dx, y) for dx, y in limbs for s in (1, -1)]])


FIGURE = upright_figure()
BODY = part_patches(jnp.asarray(FIGURE), GRID, PATCH)  # (6, 128)


@functools.cache
def hidden(mode, known=True):
  """(DRAWS, 128) bool: the hidden patches of the figure, or of a person without known keypoints."""
  config = MODES[mode]
  parts = jnp.tile(BODY & known, (DRAWS // 2, 1, 1)) if config.most_parts else None
  draw = jax.jit(lambda keys, parts: draw_masks(keys, parts, config, GRID, 0.5))
  draws = draw(jax.random.split(jax.random.key(5), DRAWS // 2), parts)
  assert draws.keep_ids.shape == (DRAWS, 64) and draws.restore_ids.shape == (DRAWS, 128)
  for ids, restore in zip(np.asarray(draws.keep_ids[:50]), np.asarray(draws.restore_ids)):
    np.testing.assert_array_equal(restore[ids], np.arange(64))
  return ~np.asarray(draws.seen)


def test_blocks_are_those_of_the_published_law():
  """Compared with 20,000 draws of HAP's released code (arXiv 2310.20695)."""
  draw = jax.jit(jax.vmap(lambda key: block_mask(jax.random.uniform(key, (BLOCK_UNIFORMS,)), GRID, 64)))
  masks = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
  counts = masks.sum((1, 2))
  assert counts.mean() == pytest.approx(63.83, abs=0.2) and counts.max() <= 71
  np.testing.assert_allclose(
    [np.mean(counts == 64), np.mean(counts < 64), np.mean(counts > 64)], [0.355, 0.322, 0.322], atol=0.03
  )
  assert np.abs(counts - 64).mean() == pytest.approx(1.5, abs=0.15)
  rows, columns = masks.mean((0, 2)), masks.mean((0, 1))
  np.testing.assert_allclose([rows[0], rows[-1], rows[7:9].mean()], [0.19, 0.19, 0.64], atol=0.03)
  np.testing.assert_allclose([columns[0], columns[-1], columns[3:5].mean()], [0.27, 0.27, 0.66], atol=0.03)


@pytest.mark.parametrize("grid, wanted", [((8, 4), 16), ((4, 2), 4), ((2, 1), 1), ((8, 24), 96)])
def test_blocks_fit_grids_of_any_size(grid, wanted):
  draw = jax.jit(jax.vmap(lambda key: block_mask(jax.random.uniform(key, (BLOCK_UNIFORMS,)), grid, wanted)))
  masks = np.asarray(draw(jax.random.split(jax.random.key(0), 500)))
  covered = masks.sum((1, 2)).mean()
  assert masks.shape == (500, *grid) and covered <= 1.1 * wanted
  assert covered >= 0.8 * wanted or min(grid) == 1  # no rectangle is as wide as one column


@pytest.mark.parametrize("mode", MODES)
def test_half_is_hidden_of_every_image(mode):
  assert (hidden(mode).sum(1) == 64).all()


@pytest.mark.parametrize("mode, share", [("random", 0.50), ("block", 0.694), ("released", 0.705), ("literal", 0.829)])
def test_patches_of_an_upright_body_are_hidden_as_often_as_measured(mode, share):
  """Compared with draws of HAP's released code, of a figure with 48 patches."""
  body = np.asarray(BODY).any(0)
  assert body.sum() == 49
  assert hidden(mode)[:, body].mean() == pytest.approx(share, abs=0.02)


def test_parts_are_hidden_whole_more_often():
  whole = {mode: np.mean([hidden(mode)[:, part].all(1).mean() for part in np.asarray(BODY)]) for mode in MODES}
  assert whole["literal"] > 0.5 and whole["block"] < 0.32 and whole["random"] < 0.06


def test_without_keypoints_the_law_is_that_of_blocks():
  blocks, unknown = hidden("block").mean(0), hidden("literal", known=False).mean(0)
  assert np.abs(blocks - unknown).max() < 5 * (0.5 / DRAWS) ** 0.5
  assert not part_patches(jnp.zeros((17, 3)), GRID, PATCH).any()


@pytest.mark.parametrize(
  "name, boxes",
  [
    ("left arm", [((94, 58), (84, 92)), ((94, 92), (98, 132))]),
    ("trunk", [((44, 58), (80, 128)), ((48, 58), (84, 128))]),
  ],
)
def test_part_is_the_boxes_of_its_bones(name, boxes):
  """Each box from its top left to its bottom right end, pixels."""
  expected = np.zeros(GRID, bool)
  for (x1, y1), (x2, y2) in boxes:
    expected[y1 // 16 : y2 // 16 + 1, min(x1, x2) // 16 : max(x1, x2) // 16 + 1] = True
  np.testing.assert_array_equal(BODY.reshape(-1, *GRID)[list(PART_BONES).index(name)], expected)


@pytest.mark.parametrize(
  "change", [(0, 0, 0), (-3, 92, 2), (128, 92, 2), (94, 256, 2), (94, 92, 0.2), (np.nan, np.nan, 2)]
)
def test_bones_of_unknown_keypoints_are_skipped(change):
  """The left elbow is missing, outside, or doubtful: the left arm is gone, all else is as it was."""
  keypoints = FIGURE.copy()
  keypoints[7] = change
  parts = np.asarray(part_patches(jnp.asarray(keypoints), GRID, PATCH, min_score=0.3))
  arm = list(PART_BONES).index("left arm")
  assert not parts[arm].any()
  np.testing.assert_array_equal(np.delete(parts, arm, 0), np.delete(np.asarray(BODY), arm, 0))


def test_first_part_chosen_comes_first_whole_and_empty_parts_take_no_turn():
  parts = np.asarray(BODY).copy()
  parts[[0, 3]] = False  # of head and left leg nothing is known
  draw = jax.jit(jax.vmap(lambda key, count: part_priority(key, jnp.asarray(parts), count), (0, None)))
  assert not draw(jax.random.split(jax.random.key(1), 300), 0).any()
  for count in (1, 3, 4, 6):
    priority = np.asarray(draw(jax.random.split(jax.random.key(1), 300), count))
    assert all(set(p[p > 0]) == {6.0 - turn for turn in range(min(count, 4))} for p in priority)
    first = np.array([[(p[part] == 6).all() for part in parts if part.any()] for p in priority])
    assert (first.sum(1) == 1).all() and first.mean(0).min() > 0.15  # one part, each in its turn


@pytest.mark.parametrize("fraction, mean", [((1.0, 1.0), 1.0), ((0.0, 0.3), 0.13)])
def test_chosen_parts_give_the_share_asked_for(fraction, mean):
  part = jnp.arange(128)[None] < 40
  draw = jax.vmap(lambda key: part_priority(key, part, 1, fraction))
  given = np.asarray(draw(jax.random.split(jax.random.key(2), 1000))) > 0
  assert not given[:, 40:].any() and given.sum(1).max() <= 40 * fraction[1]
  assert given[:, :40].mean() == pytest.approx(mean, abs=0.02)
  assert np.ptp(given[:, :40].mean(0)) < 0.08  # no patch of it is preferred


def test_number_of_parts_is_uniform_at_every_position_of_the_batch():
  """The released code draws it up to the number of the image before, by mistake: few images have any."""
  uniform = jax.random.uniform(jax.random.key(3), (64, 2000))
  counts = np.asarray(part_counts(uniform, 6))
  shares = np.stack([(counts == n).mean(1) for n in range(7)])  # (7, place in the batch)
  assert counts.max() == 6 and np.abs(shares - 1 / 7).max() < 5 * (1 / 7 * 6 / 7 / 2000) ** 0.5
  released = np.asarray(part_counts(uniform, 6, cap_bug=True))
  assert (released > 0).sum(0).mean() == pytest.approx(2.45, abs=0.1)  # H_6
  assert not released[30:].any() and (np.diff(released, axis=0) <= 0).all()


def test_two_masks_of_an_image_differ_and_bad_settings_are_refused():
  two = hidden("literal").reshape(-1, 2, 128)
  assert (two[:, 0] != two[:, 1]).any(1).all()
  with pytest.raises(ValueError, match="most_parts is 7: expected 0 to 6"):
    HapMasksConfig(most_parts=7)
  with pytest.raises(ValueError, match="part_fraction is"):
    HapMasksConfig(part_fraction=(0.3, 0.0))
