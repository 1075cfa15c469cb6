"""Keypoints in the batches: of every data set in COCO's order, in the pixels of the canvas."""

import cv2
import numpy as np
import pytest

from input_pipeline.body import COCO_JOINTS
from input_pipeline.fields.keypoints import KeypointsField
from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import MixtureSource, WeightedSource
from tests.support.batches import assert_same, data_of_source, take

LSP_LIKE = ["Right Ankle", "left-wrist", "neck", "nose"]


class Toy(ImageSource):
  """White spots on black, each a keypoint; images are of different sizes, some larger than the canvas."""

  def __init__(self, joints, length=6, change=lambda i, person: person):
    self.legend = {"joints": joints} if joints else {}
    self.identity = {"source": "toy", "name": "spots", "length": length, "digest": str(length)}
    self._length, self._change = length, change
    self._count = len(joints if not isinstance(joints, dict) else joints["b"])

  def __len__(self):
    return self._length

  def _size(self, i):
    return 20 + 40 * i, 10 + 25 * i  # height, width

  def points(self, i):
    height, width = self._size(i)
    rng = np.random.default_rng(i)
    return rng.uniform((2, 2), (width - 2, height - 2), (self._count, 2))

  def read(self, i):
    height, width = self._size(i)
    image = np.zeros((height, width, 3), np.uint8)
    for x, y in self.points(i).astype(int):
      image[y, x] = 255
    return cv2.imencode(".png", image)[1].tobytes()

  def name(self, i):
    return str(i)

  def annotations(self, i):
    person = {"keypoints": [[x, y, 1 + k % 2] for k, (x, y) in enumerate(self.points(i).tolist())]}
    return {"people": [self._change(i, person)]} if person else {}, {}


def data_of(source, **changes):
  options = dict(canvas_hw=(120, 80), threads=2, max_damaged_fraction=0.0, fields=("keypoints",), batch_size=6)
  return data_of_source(source, **(options | changes))


@pytest.mark.parametrize("joints", [list(COCO_JOINTS), list(COCO_JOINTS)[::-1], LSP_LIKE])
def test_keypoints_lie_on_the_canvas_where_the_image_shows_them(joints):
  source = Toy(joints)
  data = data_of(source)
  assert any(f"{min(len(joints), 17) - (joints is LSP_LIKE)} of COCO's 17" in line for line in data.summary())
  (batch,) = take(data, 1)
  assert batch["keypoints"].shape == (6, 17, 3) and batch["keypoints"].dtype == np.float32
  plain = [name.lower().replace(" ", "_").replace("-", "_") for name in joints]
  for image, (h, w), keypoints, i in zip(batch["image"], batch["image_hw"], batch["keypoints"], batch["index"]):
    scale = np.array([w, h]) / source._size(i)[::-1]
    for joint, (x, y, v) in zip(COCO_JOINTS, keypoints):
      if joint not in plain:
        assert x == y == v == 0
        continue
      place = plain.index(joint)
      np.testing.assert_allclose((x, y), source.points(i)[place] * scale, rtol=1e-5)
      assert v == 1 + place % 2 and image[int(y), int(x)].max() > 0
  assert not data.unknown.counts and (batch["image_hw"][np.argmax(batch["index"])] <= (120, 80)).all()


def test_keypoints_that_cannot_be_are_unknown_and_counted():
  def change(i, person):
    points = person["keypoints"]
    match i:
      case 0:
        points[3][0], points[4][1], points[5][2] = float("nan"), float("inf"), float("nan")
      case 1:
        points[0][0], points[1][1], points[2][:] = -0.5, 60.0, [1e9, 1, 2]  # the image has 60 rows
      case 2:
        points[7][:] = [-10000, -10000, 0]  # labeled as unknown: valid
      case 3:
        return {"caption": "without keypoints"}
      case 4:
        return {"keypoints": [[1, 2]] * 17}
    return person

  data = data_of(Toy(list(COCO_JOINTS), change=change))
  (batch,) = take(data, 1)
  unknown = {int(i): list(np.flatnonzero(k[:, 2] == 0)) for i, k in zip(batch["index"], batch["keypoints"])}
  assert unknown == {0: [3, 4, 5], 1: [0, 1, 2], 2: [7], 3: list(range(17)), 4: list(range(17)), 5: []}
  assert np.isfinite(batch["keypoints"]).all()
  assert data.unknown.counts == {"keypoints: not finite or outside the image": 3}  # images 0, 1 and 4
  assert data.unknown.lines() == ["unknown  keypoints: not finite or outside the image: 3 images, the first: 0"]


def test_person_says_which_list_of_joints_is_meant():
  source = Toy({"a": ["nose"], "b": LSP_LIKE}, change=lambda i, person: person | {"joints": "b" if i else "c"})
  (batch,) = take(data_of(source), 1)
  known = {
    int(i): sorted(COCO_JOINTS[j] for j in np.flatnonzero(k[:, 2])) for i, k in zip(batch["index"], batch["keypoints"])
  }
  assert known == {0: []} | {i: ["left_wrist", "nose", "right_ankle"] for i in range(1, 6)}


def test_parts_of_a_mixture_have_their_own_joints():
  source = MixtureSource(
    {
      "a": WeightedSource(Toy([]), 1.0),
      "b": WeightedSource(Toy(LSP_LIKE), 1.0),
      "c": WeightedSource(Toy(list(COCO_JOINTS)), 1),
    }
  )
  (batch,) = take(data_of(source, batch_size=18), 1)
  known = (batch["keypoints"][..., 2] > 0).sum(1)
  np.testing.assert_array_equal(known, np.array([0, 3, 17])[batch["index"] // 6])


def test_source_without_joints_is_refused():
  with pytest.raises(ValueError, match="data.source=toy .* names none of COCO's 17 joints.*most_parts=0") as error:
    KeypointsField(Toy(["joint_0", "joint_1"]))
  assert "\n" not in str(error.value)


def test_methods_that_ask_for_none_get_none_and_damaged_facts_are_damage():
  assert "keypoints" not in take(data_of(Toy([]), fields=()), 1)[0]

  def broken(i, person):
    if i == 2:
      raise OSError("torn")
    return person

  with pytest.raises(ValueError, match="2: its annotations cannot be read: torn"):
    take(data_of(Toy(LSP_LIKE, change=broken)), 1)


def test_built_in_people_have_all_joints(tmp_path, monkeypatch):
  from input_pipeline.people import prepare
  from input_pipeline.people.dataset import PeopleSource
  from input_pipeline.people.spec import SetSpec
  from tests.support.toy_people import toy_picture

  monkeypatch.setattr(prepare, "render_picture", toy_picture)
  prepare.prepare_people(tmp_path / "set", SetSpec("crops", (64, 32), 0, 4), 8, processes=1)
  source = PeopleSource(tmp_path / "set")
  options = dict(canvas_hw=(32, 32), batch_size=4)
  (batch,) = take(data_of(source, **options), 1)
  for i, keypoints in zip(batch["index"], batch["keypoints"]):
    stated = np.float32(source.annotations(int(i))[0]["people"][0]["keypoints"])
    np.testing.assert_allclose(keypoints, stated * (0.5, 0.5, 1) * (stated[:, 2:] > 0), atol=1e-4)
  assert_same([batch], take(data_of(source, threads=1, **options), 1))
