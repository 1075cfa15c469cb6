"""Rendering geometry: rays hit the solids, places are seen in perspective, shadows lie away from the sun."""

import numpy as np
from hypothesis import given, settings, strategies as st

from input_pipeline.people.appearance import Outfit
from input_pipeline.people.figure import build_figure
from input_pipeline.people.light import Light, ShadowMap
from input_pipeline.people.motion import sample_pose
from input_pipeline.people.place import Place
from input_pipeline.people.raycast import Camera, Cast, frames
from input_pipeline.people.scene import sample_identity
from input_pipeline.people.skeleton import place_joints
from input_pipeline.people.solid import Solid


def _camera(yaw: float, distance: float = 5.0, height: float = 1.5, focal: float = 150.0) -> Camera:
  return Camera.looking_at(
    (distance * np.sin(yaw), height, distance * np.cos(yaw)), (0, 0.9, 0), 0.1, focal, (33, 62), (128, 64)
  )


def _figure(seed: int) -> list[Solid]:
  body, outfit = sample_identity(seed, 0)
  return build_figure(body, outfit, *place_joints(body, sample_pose(np.random.default_rng(seed)), 0.0, (0.0, 0.0)))


def _ball(center, radius: float) -> Solid:
  cloth = Outfit.sample(np.random.default_rng(0)).skin
  center = np.array(center, float)
  return Solid(center, center, (radius, radius), np.array([0.0, 0.0, 1.0]), (1.0, 1.0), cloth, part="prop", label=0)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 6.28), st.floats(2.5, 60))
def test_ray_hits_lie_on_the_solids(seed, yaw, distance):
  """Depth, points and normals of one geometry: each point, seen in the world, is at its depth on its pixel's ray."""
  solids, camera = _figure(seed), _camera(yaw, distance, focal=30.0 * distance)
  cast = Cast(solids, camera)
  surfaces = list(cast.surfaces())
  assert sum(len(surface.pixels) for surface in surfaces) == np.isfinite(cast.depth).sum() > 100
  for surface in surfaces:
    solid = solids[surface.number]
    rows, columns = np.divmod(surface.pixels, camera.image_hw[1])
    points = camera.to_camera(solid.start + surface.points.T @ frames([solid])[0])
    np.testing.assert_allclose(points[:, 2], cast.depth[rows, columns], rtol=1e-5)
    np.testing.assert_allclose(camera.to_pixels(points), np.stack([columns, rows], 1) + 0.5, atol=0.01)
    facing = -np.einsum("nc,cn->n", points / np.linalg.norm(points, axis=1)[:, None], surface.normals)
    assert (facing > -0.05).all() or solid.open_end
    np.testing.assert_allclose(np.linalg.norm(surface.normals, axis=0), 1, rtol=1e-4)
    # on the solid: a ball's radius away from the axis between the two centers, in the frame where it is round
    round_points = surface.points.T / (solid.flatten[0], 1, solid.flatten[1])
    length = np.linalg.norm(solid.end - solid.start)
    along = np.linspace(0, 1, 201)
    gap = np.hypot(np.hypot(round_points[:, 0], round_points[:, 2])[:, None], round_points[:, 1:2] - along * length)
    gap -= solid.radii[0] + along * (solid.radii[1] - solid.radii[0])
    assert np.abs(gap.min(1)).max() < 2e-3


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 6.28))
def test_boxes_are_the_tight_bounds_of_each_solid(seed, yaw):
  camera = _camera(yaw).scaled(4)
  for solid in _figure(seed)[:12]:
    cast = Cast([solid], camera)
    rows, columns = np.nonzero(np.isfinite(cast.depth))
    left, top, right, bottom = cast.boxes[0]
    if len(rows) and not solid.open_end and 2 < left and right < 254 and 2 < top and bottom < 510:
      outline = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
      np.testing.assert_allclose((left, top, right, bottom), outline, atol=1.2)


def test_a_ball_is_where_it_is():
  """Against the formula for a sphere on the axis of a camera."""
  camera = Camera.looking_at((0, 1, 10), (0, 1, 0), 0.0, 100.0, (32, 32), (64, 64))
  depth = Cast([_ball((0, 1, 0), 2.0)], camera).depth
  x, y = (v.astype(float) for v in camera.plane_xy())
  rays = np.sqrt(1 + x[None] ** 2 + y[:, None] ** 2)  # length of (x, y, 1)
  root = 100 / rays**2 - 96
  expected = np.where(root > 0, (10 / rays - np.sqrt(np.maximum(root, 0))) / rays, np.inf)
  assert (np.isfinite(depth) == np.isfinite(expected)).all() and np.isfinite(depth).sum() > 1000
  np.testing.assert_allclose(depth[np.isfinite(depth)], expected[np.isfinite(depth)], atol=3e-4)
  assert np.isinf(Cast([_ball((0, 1, 11), 0.5)], camera).depth).all()  # behind the camera
  assert np.isinf(Cast([], camera).depth).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(-3.1, 3.1))
def test_places_look_the_same_from_everywhere(seed, turn):
  """What two cameras see of one spot of ground has one color, and the ground's depth is where y is 0."""
  place = Place.sample(np.random.default_rng(seed), (0.0,), 12.0, 12.0, panels=0)
  place = type(place)(place.ground, [], place.sky_rgb, place.clouds, blur=0.0)
  spot, colors = (0.371, 0.0, -0.213), []  # not on the pattern's own lines
  for yaw in (0.0, turn):
    camera = Camera.looking_at((6 * np.sin(yaw), 2.0, 6 * np.cos(yaw)), spot, 0.0, 400.0, (16.5, 16.5), (33, 33))
    albedo, depth, cosine = place.paint(camera, np.array([0.0, 1.0, 0.0]))
    x, y = camera.plane_xy()
    rays = np.stack(np.broadcast_arrays(x[None], y[:, None], 1), -1) * depth[..., None]
    world = rays @ camera.rotation + camera.position
    np.testing.assert_allclose(world[..., 1], 0, atol=1e-4)
    np.testing.assert_allclose(cosine, 1, rtol=1e-6)
    np.testing.assert_allclose(world[16, 16], spot, atol=1e-4)  # the principal ray meets the target
    colors.append(albedo[16, 16])
  np.testing.assert_allclose(*colors, atol=1e-3)


def test_panels_stand_in_front_of_the_ground_and_never_between_camera_and_people():
  for seed in range(30):
    yaws = (0.5, 2.2) if seed % 2 else (0.5,)
    place = Place.sample(np.random.default_rng(seed), yaws, clear_radius=8.0, behind=1.0, panels=12)
    for yaw in yaws:
      camera = Camera.looking_at((6 * np.sin(yaw), 1.6, 6 * np.cos(yaw)), (0, 1, 0), 0.0, 300.0, (32, 64), (128, 64))
      _, depth, _ = place.paint(camera, np.array([0.0, 1.0, 0.0]))
      middle = depth[40:88, 24:40]  # around the origin, where people stand
      assert (middle > 5).all()


def test_what_the_sun_does_not_see_is_in_shadow():
  light = Light(np.array([0.6, 0.8, 0.0]), np.ones(3, np.float32), np.ones(3, np.float32))
  shadow = ShadowMap([_ball((0, 1, 0), 0.3)], light)
  spots = np.array(
    [[-0.75, 0, 0], [0.75, 0, 0], [0, 0, 0], [-0.75, 0, 0.8], [-0.18, 0.76, 0], [0.18, 1.24, 0], [50, 0, 0]], np.float32
  )  # thrown by the sun, towards it, below, aside, the ball's far side, its near side, away
  assert shadow.covers(spots.T).tolist() == [True, False, False, False, True, False, False]
  low, high = shadow.footprint().min(0), shadow.footprint().max(0)
  assert (low < (-0.75 - 0.3, 1e-6, -0.3)).all() and (high > (0.3, 1.3, 0.3)).all()
  lit = light.brightness(np.array([1.0, 1.0, -1.0]), np.array([0.0, 1.0, 0.0])).T
  np.testing.assert_allclose(lit, [[2] * 3, [1] * 3, [1] * 3])
