"""The built-in people: the same picture everywhere, an identity that stays itself."""

import hashlib
import os
import pickle
import subprocess
import sys

import numpy as np
from hypothesis import given, settings, strategies as st

from input_pipeline.people.figure import build_figure
from input_pipeline.people.raycast import Camera, cast
from input_pipeline.people.render import render_person, sample_identity
from input_pipeline.people.skeleton import JOINTS, Body, place_joints, sample_pose

HW = (64, 32)


def test_a_picture_depends_on_seed_and_index_alone():
  first = [render_person(0, i, HW, 4).image_u8 for i in range(3)]
  again = [render_person(0, i, HW, 4).image_u8 for i in (2, 0, 1)]
  assert (first[0] == again[1]).all() and (first[2] == again[0]).all()
  assert (first[0] != first[1]).any() and (render_person(1, 0, HW, 4).image_u8 != first[0]).any()
  assert first[0].shape == (*HW, 3) and first[0].dtype == np.uint8
  code = ("import hashlib; from input_pipeline.people.render import render_person; "
          f"print(hashlib.sha256(render_person(0, 2, {HW}, 4).image_u8.tobytes()).hexdigest())")
  elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                             env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}).stdout.strip()
  assert elsewhere == hashlib.sha256(first[2].tobytes()).hexdigest()


def test_identity_fixes_body_and_clothes():
  assert [render_person(0, i, HW, 3).identity for i in range(7)] == [0, 1, 2, 0, 1, 2, 0]
  (body, outfit), (body_again, outfit_again) = sample_identity(5, 2), sample_identity(5, 2)
  assert body == body_again and pickle.dumps(outfit) == pickle.dumps(outfit_again)
  assert sample_identity(5, 3)[0] != body and sample_identity(6, 2)[0] != body


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_pose_within_limits_and_feet_on_the_ground(seed):
  rng = np.random.default_rng(seed)
  body, pose = Body.sample(rng), sample_pose(rng)
  for name, angles in pose.items():
    for angle, (low, high) in zip(angles, JOINTS[name][2:]):
      assert low <= angle <= high
  positions, rotations = place_joints(body, pose)
  assert positions.keys() == JOINTS.keys()
  assert 0 < min(position[1] for position in positions.values()) < .1 * body.stature
  for name, joint in JOINTS.items():
    np.testing.assert_allclose(rotations[name] @ rotations[name].T, np.eye(3), atol=1e-9)
    if joint.parent:  # bones keep their length
      bone = np.linalg.norm(positions[name] - positions[joint.parent])
      np.testing.assert_allclose(bone, np.linalg.norm(body.offset(name)), rtol=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_ray_hits_lie_on_the_solids(seed):
  """Depth, points and normals of one geometry: each point, seen in the world, is at its depth on its pixel's ray."""
  rng = np.random.default_rng(seed)
  body, outfit = sample_identity(seed, 0)
  solids = build_figure(body, outfit, *place_joints(body, sample_pose(rng)))
  yaw = rng.uniform(0, 6.28)
  camera = Camera.looking_at((5 * np.sin(yaw), 1.5, 5 * np.cos(yaw)), (0, .9, 0), 0., 150., (32, 64), (128, 64))
  depth, surfaces = cast(solids, camera)
  assert sum(len(surface.rows) for surface in surfaces) == np.isfinite(depth).sum() > 100
  for surface in surfaces:
    world = surface.solid.start + surface.points @ surface.solid.frame()
    x, y, z = camera.to_camera(world).T
    np.testing.assert_allclose(z, depth[surface.rows, surface.columns], rtol=1e-4)
    np.testing.assert_allclose(camera.focal * x / z + 32, surface.columns + .5, atol=.02)
    np.testing.assert_allclose(camera.focal * y / z + 64, surface.rows + .5, atol=.02)
    rays = np.stack([x, y, z], 1) / np.linalg.norm([x, y, z], axis=0)[:, None]
    facing = -np.einsum("nc,nc->n", rays, surface.normals)
    assert (facing > -.05).all() or surface.solid.open_end
    np.testing.assert_allclose(np.linalg.norm(surface.normals, axis=1), 1, rtol=1e-4)
