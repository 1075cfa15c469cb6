"""Crops of an image with its depth and joints; skeleton and depth as network inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones.semgcn import JOINT_PARENTS, SemGCN, SemGraphConv, edges_of
from saip_jax.heads.projection import MapProjection
from saip_jax.views.geometry import crop_nearest
from saip_jax.views.rgbd import depth_image, rgbd_crop
from saip_jax.views.skeleton import centered_skeleton

KEY = jax.random.key(0)


def test_depth_and_joints_follow_the_crop():
  """The depth of each pixel encodes its position on the canvas exactly."""
  rows, columns = np.mgrid[:80, :40]
  depth = (1000 + 100 * rows + columns).astype(np.uint16)
  keypoints = np.float32([(x + 0.5, y + 0.5, 1) for x in range(2, 36, 4) for y in range(2, 72, 6)])
  image = np.zeros((80, 40, 3), np.uint8)
  crop = lambda key: rgbd_crop(image, depth, jnp.int32([72, 36]), keypoints, key, (0.3, 0.6), (0.4, 0.6), (128, 64))
  views, depths, moved = jax.device_get(jax.jit(jax.vmap(crop))(jax.random.split(KEY, 8)))
  assert views.shape == (8, 128, 64, 3)
  for shown, points in zip(depths, moved):
    there = points[:, 2] > 0
    x, y = points[there, :2].astype(int).T
    found = shown[y, x].astype(int) - 1000
    np.testing.assert_array_equal(found // 100, keypoints[there, 1].astype(int))
    np.testing.assert_array_equal(found % 100, keypoints[there, 0].astype(int))
    assert 0.2 < there.mean() < 1 and np.isin(shown, depth).all()


def test_nearest_crop_of_the_whole_is_the_whole():
  values = np.random.default_rng(0).integers(0, 2**16, (6, 5)).astype(np.uint16)
  same = crop_nearest(values, jnp.array([0.0, 0.0, 6.0, 5.0]), (6, 5))
  np.testing.assert_array_equal(same, values)
  np.testing.assert_array_equal(
    crop_nearest(values, jnp.array([0.0, 0.0, 6.0, 5.0]), (12, 10)), values.repeat(2, 0).repeat(2, 1)
  )


def test_depth_is_meters_around_their_mean():
  depth = np.zeros((2, 4, 4), np.uint16)
  depth[0, 1:3, 1:3] = [[1500, 1600], [1700, 1800]]
  shown = np.asarray(depth_image(depth))
  np.testing.assert_allclose(shown[0, 1:3, 1:3, 0], [[-0.15, -0.05], [0.05, 0.15]], atol=1e-6)
  assert shown.shape == (2, 4, 4, 3) and not shown[0, 0].any() and not shown[1].any()
  np.testing.assert_array_equal(shown[..., 0], shown[..., 2])


def test_skeleton_is_centered_and_scaled_by_what_is_visible():
  rng = np.random.default_rng(0)
  xy, visible = rng.uniform(0, 100, (13, 2)).astype(np.float32), np.arange(13) % 3 > 0
  root = list(JOINT_PARENTS).index("nose")
  visible[root] = True
  found = np.asarray(centered_skeleton(xy, visible, root))
  np.testing.assert_allclose(
    found, np.where(visible[:, None], xy - xy[root], 0) / np.abs((xy - xy[root])[visible]).max(), rtol=1e-5
  )
  assert not found[root].any() and np.abs(found).max() == 1
  elsewhere = np.where(visible[:, None], xy, -1e4).astype(np.float32)
  np.testing.assert_array_equal(centered_skeleton(elsewhere, visible, root), found)
  np.testing.assert_allclose(centered_skeleton(3 * xy + 7, visible, root), found, atol=1e-5)
  visible[root] = False
  np.testing.assert_allclose(np.asarray(centered_skeleton(xy, visible, root))[visible].mean(0), 0, atol=1e-6)
  assert not np.asarray(centered_skeleton(xy, np.zeros(13, bool), root)).any()


def test_graph_convolution_is_the_formula():
  edges = edges_of(JOINT_PARENTS)
  assert len(edges) == 13 + 2 * 12
  module = SemGraphConv(6, tuple(map(tuple, edges.tolist())))
  x = np.random.default_rng(0).normal(size=(2, 13, 4)).astype(np.float32)
  params = module.init(KEY, x)["params"]
  params["edges"] = jnp.asarray(np.random.default_rng(1).normal(size=len(edges)), jnp.float32)
  params["bias"] = jnp.arange(6.0)
  shares = np.zeros((13, 13))
  shares[tuple(edges.T)] = np.exp(np.asarray(params["edges"], np.float64))
  shares /= shares.sum(1, keepdims=True)
  own, others = np.diag(np.diag(shares)), shares - np.diag(np.diag(shares))
  kernel = np.asarray(params["kernel"], np.float64)
  expected = own @ (x @ kernel[0]) + others @ (x @ kernel[1]) + np.arange(6)  # every joint gets the whole bias
  np.testing.assert_allclose(module.apply({"params": params}, x), expected, atol=1e-5)


def test_features_of_a_joint_come_from_its_surroundings():
  """One block is four graph convolutions: what is five bones away has no influence."""
  module, x = SemGCN(8, 1), jnp.zeros((1, 13, 2))
  variables = module.init(KEY, x)
  names = list(JOINT_PARENTS)
  ankle = names.index("right_ankle")
  change = module.apply(variables, x.at[0, ankle].set(1.0)) - module.apply(variables, x)
  moved = {name for name, row in zip(names, np.asarray(change[0])) if np.any(row)}
  assert {"right_ankle", "right_knee", "right_hip"} <= moved and not moved & {"left_ankle", "left_wrist", "left_hip"}


@pytest.mark.parametrize("method", ["dense", "pooled"])
def test_projection_is_one_linear_layer_on_the_maps_joined(method):
  rng = np.random.default_rng(0)
  maps = tuple(rng.normal(size=(2, 8 // s, 4 // s, c)).astype(np.float32) for s, c in ((1, 3), (2, 5), (4, 7)))
  module = MapProjection(6)
  params = module.init(KEY, maps, method="dense")["params"]
  params["bias"] = jnp.arange(6.0)
  joined = np.concatenate([jax.image.resize(m, (2, 8, 4, m.shape[-1]), "bilinear") for m in maps], axis=-1)
  expected = joined @ np.asarray(params["kernel"]) + np.arange(6)
  found = module.apply({"params": params}, maps, method=method)
  np.testing.assert_allclose(found, expected if method == "dense" else expected.mean((1, 2)), atol=1e-5)
