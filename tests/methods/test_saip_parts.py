"""SAIP with HAP's masks in its reconstruction: a config, not another method."""

import jax
import numpy as np
import pytest

from saip_jax.masking.parts import part_patches
from tests.support.tiny_saip import made_up_batch, tiny

KEY = jax.random.key(5)
PARTS = ("method.csr.masks.blocks=False", "method.csr.masks.most_parts=6")


def _people(size=64):
  """Upright people in the middle of their images."""
  batch = made_up_batch(size)
  joints = np.float32(
    [
      [18, 8],
      [17, 7],
      [19, 7],
      [16, 8],
      [20, 8],
      [13, 18],
      [23, 18],
      [10, 28],
      [26, 28],
      [9, 38],
      [27, 38],
      [15, 38],
      [21, 38],
      [15, 52],
      [21, 52],
      [15, 66],
      [21, 66],
    ]
  )
  return batch | {"keypoints": np.tile(np.concatenate([joints, np.full((17, 1), 2, np.float32)], 1), (size, 1, 1))}


@pytest.fixture(scope="module")
def drawn():
  _, method = tiny(*PARTS)
  return method, jax.device_get(jax.jit(method.views)(_people(), KEY))


def test_parts_are_hidden_first_and_exactly_enough(drawn):
  method, views = drawn
  draws = views.draws
  grid, kept = method.networks.csr_grid, draws.keep_ids.shape[1]
  length = grid[0] * grid[1]
  assert kept == int(length * (1 - method.config.csr.mask_ratio)) and (draws.scored.sum(1) == length - kept).all()
  for scored, keep in zip(draws.scored, draws.keep_ids):
    assert (scored[keep] == 0).all()  # what is seen does not count
  enlarged = views.keypoints * [*np.divide(method.networks.csr_hw, method.backbone.image_hw)[::-1], 1]
  parts = jax.vmap(lambda points: part_patches(points, grid, method.backbone.stride))(enlarged)
  body = np.asarray(parts).any(1)
  assert 0.05 < body.mean() < 0.6
  hidden = lambda where: draws.scored[where].mean()
  assert hidden(body) > hidden(~body) + 0.05


def test_keypoints_follow_the_reconstructed_view(drawn):
  """Each keypoint is a bright dot of the image."""
  method, _ = drawn
  batch = _people(8)
  points = batch["keypoints"]
  points[:, 1:, 2] = 0
  batch["image"][:] = 0
  batch["image"][:, 6:11, 16:21] = 255
  points[:, 0, :2] = 18.5, 8.5
  views = jax.jit(method.views)(batch, KEY)
  seen = 0
  for view, (x, y, known) in zip(np.asarray(views.globals[:, 1]).sum(-1), np.asarray(views.keypoints)[:, 0]):
    if known and 8 < x < 56 and 8 < y < 120 and np.ptp(view) > 1:
      rows, columns = np.nonzero(view > 0.7 * view.max() + 0.3 * view.min())
      assert np.hypot(columns.mean() + 0.5 - x, rows.mean() + 0.5 - y) < 6
      seen += 1
  assert seen >= 3


def test_keypoints_are_asked_for_only_then():
  names = lambda *settings: tiny(*settings)[1].batch_spec(8).keys()
  assert "keypoints" in names(*PARTS) and "keypoints" not in names()
  assert "keypoints" not in names("method.csr.masks.most_parts=0") and "keypoints" not in names(
    *PARTS, "method.csr.weight=0.0"
  )


def test_blocks_alone_need_no_keypoints():
  _, method = tiny("method.csr.masks.most_parts=0")
  draws = jax.jit(method.views)(made_up_batch(), KEY).draws
  assert (np.asarray(draws.scored).sum(1) == draws.scored.shape[1] - draws.keep_ids.shape[1]).all()


def test_hap_s_bug_is_not_for_saip():
  with pytest.raises(ValueError, match="csr.masks.cap_bug"):
    tiny(*PARTS, "method.csr.masks.cap_bug=True")
