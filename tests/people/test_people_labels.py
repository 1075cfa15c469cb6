"""Labels of the built-in people: all come from one geometry, so each can be checked against another."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from input_pipeline.body import COCO_JOINTS, COCO_LIMBS
from input_pipeline.people.attributes import ATTRIBUTES
from input_pipeline.people.compositions import render_picture
from input_pipeline.people.landmarks import FLIPPED_LANDMARKS, LANDMARKS
from input_pipeline.people.parts import LIP_PARTS
from input_pipeline.people.spec import (
  COMPOSITIONS,
  FRAME_SECONDS,
  FRAMES,
  MOST_PEOPLE,
  VIEWS,
  SetSpec,
  split_of,
  split_of_picture,
)

CROPS = SetSpec("crops", (128, 64), 0, 5)
SCENES = SetSpec("scenes", (120, 160), 0, 120)
SPECS = {
  "crops": CROPS,
  "views": SetSpec("views", (128, 64), 0, 5),
  "clips": SetSpec("clips", (128, 64), 0, 5),
  "scenes": SCENES,
}


@pytest.fixture(scope="module")
def pictures():
  """A few pictures of every composition."""
  return {name: [render_picture(spec, i) for i in range(24 if name == "crops" else 16)] for name, spec in SPECS.items()}


def _people(pictures, *names):
  return [
    (picture, k, person)
    for name in names or SPECS
    for picture in pictures[name]
    for k, person in enumerate(picture.annotations["people"], start=1)
  ]


@pytest.mark.compile
def test_the_same_index_is_the_same_picture_in_another_process():
  def digest(picture):
    planes = (picture.image_u8, picture.depth, picture.instances, picture.parts)
    return hashlib.sha256(
      b"".join(plane.tobytes() for plane in planes) + repr(picture.annotations).encode()
    ).hexdigest()

  code = "\n".join(
    [
      "import hashlib",
      "import numpy as np",
      "from input_pipeline.people.compositions import render_picture",
      "from input_pipeline.people.spec import SetSpec",
      "for name, hw in (('crops', (64, 32)), ('scenes', (60, 80))):",
      "  p = render_picture(SetSpec(name, hw, 7, 120), 2)",
      "  planes = (p.image_u8, p.depth, p.instances, p.parts)",
      "  data = b''.join(x.tobytes() for x in planes) + repr(p.annotations).encode()",
      "  print(hashlib.sha256(data).hexdigest())",
    ]
  )
  elsewhere = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    check=True,
    env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
  ).stdout.split()
  here = [
    digest(render_picture(SetSpec(name, hw, 7, 120), 2)) for name, hw in (("crops", (64, 32)), ("scenes", (60, 80)))
  ]
  assert here == elsewhere
  assert digest(render_picture(SetSpec("crops", (64, 32), 7, 120), 3)) != here[0]
  assert digest(render_picture(SetSpec("crops", (64, 32), 8, 120), 2)) != here[0]


def test_shapes_and_kinds(pictures):
  for name, spec in SPECS.items():
    for index, picture in enumerate(pictures[name]):
      assert picture.image_u8.shape == (*spec.image_hw, 3) and picture.image_u8.dtype == np.uint8
      for plane, kind in ((picture.depth, np.float32), (picture.instances, np.uint8), (picture.parts, np.uint8)):
        assert plane.shape == spec.image_hw and plane.dtype == kind
      labels = picture.annotations
      assert (labels["index"], labels["composition"], labels["split"]) == (index, name, split_of_picture(spec, index))
      assert 7 * 3600 <= labels["time"] <= 19 * 3600 + 1 and 1 <= picture.jpeg_quality <= 100
      assert name == "scenes" or len(labels["people"]) == 1


def test_keypoints_are_the_projected_joints(pictures):
  for picture, _, person in _people(pictures):
    joints = np.array(person["landmarks_xyz"])
    assert joints.shape == (len(LANDMARKS), 3)
    projected = joints @ np.array(picture.annotations["camera_matrix"]).T
    keypoints = np.array(person["keypoints"])
    in_front = joints[:17, 2] > 0.1
    np.testing.assert_allclose((projected[:, :2] / projected[:, 2:])[:17][in_front], keypoints[in_front, :2], atol=1e-3)
    height, width = picture.depth.shape
    inside = in_front & ((keypoints[:, :2] >= 0) & (keypoints[:, :2] < (width, height))).all(1)
    assert ((keypoints[:, 2] > 0) == inside).all()


def test_visible_joints_lie_just_under_the_surface_of_their_person(pictures):
  seen = 0
  for picture, k, person in _people(pictures):
    for (x, y, v), point, mark in zip(person["keypoints"], person["landmarks_xyz"], LANDMARKS.values()):
      if v == 2:
        seen += 1
        assert picture.instances[int(y), int(x)] == k
        under = point[2] - picture.depth[int(y), int(x)]
        assert -0.05 < under < mark.radius * 2 * 1.5 + 0.05, (mark, under)
  assert seen > 400


def test_visibility_is_neither_everything_nor_nothing(pictures):
  flags = np.array([[v for _, _, v in person["keypoints"]] for _, _, person in _people(pictures, "crops", "views")])
  seen, hidden = (flags == 2).mean(0), (flags == 1).mean(0)
  assert 0.4 < (flags == 2).mean() < 0.9
  # faces are hidden from behind
  assert (hidden[:5] > 0.15).all() and (seen[:5] > 0.1).all() and (seen[5:] > 0.25).all()


def test_parts_cover_exactly_the_mask(pictures):
  shown = set()
  for name in SPECS:
    for picture in pictures[name]:
      assert ((picture.parts > 0) == (picture.instances > 0)).all()
      assert picture.parts.max() < len(LIP_PARTS) and picture.instances.max() <= len(picture.annotations["people"])
      assert (picture.depth[picture.instances > 0] > 0).all()
      shown |= set(np.unique(picture.parts))
  assert len(shown) >= 14


def test_boxes(pictures):
  for picture, k, person in _people(pictures):
    rows, columns = np.nonzero(picture.instances == k)
    assert person["area"] == len(rows)
    x, y, w, h = person["box_visible"]
    if not len(rows):
      assert (w, h) == (0, 0)
      continue
    assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    full_x, full_y, full_w, full_h = person["box_full"]
    assert full_x - 1 <= x and full_y - 1 <= y and x + w <= full_x + full_w + 1 and y + h <= full_y + full_h + 1


def test_left_is_left(pictures):
  """From the front, a person's left side is on the image's right; from behind, on its left."""
  checked = 0
  for picture, k, person in _people(pictures, "crops", "views", "clips"):
    if person["facing"] == "side":
      continue
    sign = 1 if person["facing"] == "front" else -1
    keypoints = dict(zip(COCO_JOINTS, person["keypoints"]))
    assert sign * (keypoints["left_shoulder"][0] - keypoints["right_shoulder"][0]) > 0
    columns = [np.nonzero(picture.parts == LIP_PARTS.index(name))[1] for name in ("Left-arm", "Right-arm")]
    if min(map(len, columns)) > 30 and person["facing"] == "front":
      checked += np.mean(columns[0]) > np.mean(columns[1])
  assert checked >= 3


def test_flips_swap_left_and_right_everywhere(pictures):
  for picture in pictures["crops"][:6] + pictures["scenes"][:3]:
    flipped, width = picture.flipped(), picture.depth.shape[1]
    np.testing.assert_equal(flipped.image_u8, picture.image_u8[:, ::-1])
    np.testing.assert_equal(flipped.depth, picture.depth[:, ::-1])
    np.testing.assert_equal(flipped.instances, picture.instances[:, ::-1])
    for left, right in ((14, 15), (16, 17), (18, 19)):
      np.testing.assert_equal(flipped.parts == left, (picture.parts == right)[:, ::-1])
    for before, after in zip(picture.annotations["people"], flipped.annotations["people"]):
      named, mirrored = (dict(zip(COCO_JOINTS, person["keypoints"])) for person in (before, after))
      assert mirrored["left_wrist"] == [width - named["right_wrist"][0], *named["right_wrist"][1:]]
      assert mirrored["nose"][2] == named["nose"][2]
      projected = np.array(after["landmarks_xyz"]) @ np.array(flipped.annotations["camera_matrix"]).T
      in_front = projected[:17, 2] > 0.1
      np.testing.assert_allclose(
        (projected[:, :2] / projected[:, 2:])[:17][in_front], np.array(after["keypoints"])[in_front, :2], atol=1e-3
      )
      if before["area"]:
        x, y, w, h = after["box_visible"]
        k = picture.annotations["people"].index(before) + 1
        rows, columns = np.nonzero(flipped.instances == k)
        assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    again = flipped.flipped()
    np.testing.assert_equal(again.parts, picture.parts)
    for before, after in zip(picture.annotations["people"], again.annotations["people"]):
      np.testing.assert_allclose(after["keypoints"], before["keypoints"], atol=1e-9)
  assert (FLIPPED_LANDMARKS[FLIPPED_LANDMARKS] == np.arange(len(LANDMARKS))).all()
  assert all(name in LANDMARKS for limb in COCO_LIMBS for name in limb)
  assert tuple(LANDMARKS)[: len(COCO_JOINTS)] == COCO_JOINTS


def test_identity_fixes_body_and_clothes_and_nothing_else(pictures):
  """Body and clothes depend on the identity alone; pose, camera, time and place change."""
  of_one = [p.annotations for p in pictures["crops"] if p.annotations["people"][0]["identity"] == 2]
  assert len(of_one) > 3 and len({labels["time"] for labels in of_one}) == len(of_one)
  names = [name for name in ATTRIBUTES if not name.startswith("facing")]
  worn = {
    tuple(value for name, value in zip(ATTRIBUTES, labels["people"][0]["attributes"]) if name in names)
    for labels in of_one
  }
  assert len(worn) == 1
  assert len({labels["people"][0]["caption"] for labels in of_one}) > 1
  thighs = [
    np.linalg.norm(
      np.subtract(
        *(labels["people"][0]["landmarks_xyz"][list(LANDMARKS).index(name)] for name in ("left_hip", "left_knee"))
      )
    )
    for labels in of_one
  ]
  np.testing.assert_allclose(thighs, thighs[0], rtol=1e-6)


def _world(picture):
  pose = np.array(picture.annotations["world_to_camera"])
  return (np.array(picture.annotations["people"][0]["landmarks_xyz"]) - pose[:, 3]) @ pose[:, :3]


def test_views_are_one_instant_from_several_cameras(pictures):
  for start in range(0, 16, VIEWS):
    group = pictures["views"][start : start + VIEWS]
    for key in ("group", "time"):
      assert len({picture.annotations[key] for picture in group}) == 1
    assert len({picture.annotations["camera"] for picture in group}) == VIEWS
    assert len({picture.annotations["people"][0]["identity"] for picture in group}) == 1
    for picture in group[1:]:
      np.testing.assert_allclose(_world(picture), _world(group[0]), atol=1e-9)
    directions = [np.array(picture.annotations["world_to_camera"])[2, :3] for picture in group]
    assert all(np.dot(a, b) < 0.97 for i, a in enumerate(directions) for b in directions[:i])


def test_clips_are_one_camera_and_even_steps_of_one_motion(pictures):
  for start in range(0, 16, FRAMES):
    clip = pictures["clips"][start : start + FRAMES]
    labels = [picture.annotations for picture in clip]
    assert len({(found["group"], found["camera"], found["people"][0]["identity"]) for found in labels}) == 1
    np.testing.assert_allclose(np.diff([found["time"] for found in labels]), FRAME_SECONDS)
    for picture in clip[1:]:
      np.testing.assert_allclose(picture.annotations["world_to_camera"], clip[0].annotations["world_to_camera"])
      assert picture.annotations["camera_matrix"][0][0] == clip[0].annotations["camera_matrix"][0][0]
    steps = np.linalg.norm(np.diff([_world(p) for p in clip], axis=0), axis=-1)
    assert 0.005 < steps.max() < 0.6  # it moves, and nothing jumps


def test_scenes_hold_one_to_twelve_different_people_of_their_split(pictures):
  counts = []
  for picture in pictures["scenes"]:
    people = [person["identity"] for person in picture.annotations["people"]]
    counts.append(len(people))
    assert len(set(people)) == len(people) and 1 <= len(people) <= MOST_PEOPLE
    assert {split_of(identity) for identity in people} == {picture.annotations["split"]}
  assert max(counts) >= 8 and min(counts) <= 4
  heights = [person["box_full"][3] for _, _, person in _people(pictures, "scenes")]
  assert max(heights) > 4 * min(heights)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 500), st.sampled_from(["crops", "views", "clips"]), st.integers(0, 5000))
def test_splits_never_share_an_identity(identities, composition, index):
  spec = SetSpec(composition, (64, 32), 0, identities)
  identity = (index if composition == "crops" else index // 8) % identities
  assert split_of_picture(spec, index) == split_of(identity)


def test_splits_are_seven_one_two():
  splits = [split_of(k) for k in range(1000)]
  assert [splits.count(name) for name in ("train", "val", "test")] == [700, 100, 200]
  assert set(splits[:4]) == {"train", "val", "test"}


def test_every_identity_passes_four_cameras_twice():
  spec = SetSpec("crops", (32, 16), 0, 3)
  for identity in range(3):
    cameras = [render_picture(spec, identity + 3 * k).annotations["camera"] for k in range(8)]
    assert sorted(cameras.count(camera) for camera in set(cameras)) == [2, 2, 2, 2]


@pytest.mark.parametrize(
  "change, words",
  [
    ({"composition": "films"}, ["films", *COMPOSITIONS]),
    ({"image_hw": (8, 8)}, ["image_hw=8x8", "256x128"]),
    ({"image_hw": (64, 9000)}, ["64x9000", "4096"]),
    ({"seed": -1}, ["seed=-1"]),
    ({"identities": 0}, ["identities=0"]),
    ({"composition": "scenes", "identities": 119}, ["119", "120"]),
  ],
)
def test_impossible_sets_are_named(change, words):
  with pytest.raises(ValueError) as caught:
    SetSpec(**({"composition": "crops", "image_hw": (64, 32), "seed": 0, "identities": 5} | change))
  assert all(word in str(caught.value) for word in words)
