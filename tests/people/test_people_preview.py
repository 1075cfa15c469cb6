"""Contact sheets: labels are drawn at the right place to a fraction of a pixel, and bad paths leave no files."""

import pathlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from input_pipeline.body import COCO_JOINTS
from input_pipeline.people import preview
from input_pipeline.people.parts import LIP_PARTS
from input_pipeline.people.picture import Picture
from input_pipeline.people.spec import COMPOSITIONS, SetSpec

HW = (64, 32)
SPEC = SetSpec("crops", HW, 0, 1)


def _person(keypoints, box=(0.0, 0.0, 0.0, 0.0)):
  points = [[0.0, 0.0, 0]] * len(COCO_JOINTS)
  for name, point in keypoints.items():
    points[COCO_JOINTS.index(name)] = point
  return {
    "identity": 7,
    "facing": "side",
    "caption": "A person in a red coat.",
    "keypoints": points,
    "box_full": list(box),
    "box_visible": list(box),
    "attributes": [],
  }


def _fake_picture(spec, index):
  rng = np.random.default_rng(index)
  instances = np.zeros(spec.image_hw, np.uint8)
  instances[20:40, 8:20] = 1
  parts = np.where(instances > 0, np.uint8(LIP_PARTS.index("Coat")), np.uint8(0))
  depth = np.where(instances > 0, np.float32(3), np.float32(0))
  annotations = {
    "index": index,
    "composition": spec.composition,
    "split": "train",
    "group": index,
    "camera": 2,
    "time": 1.5,
    "people": [_person({"left_eye": [10.25, 22.5, 2], "right_eye": [12.0, 22.5, 1]}, (8, 20, 12, 20))],
  }
  return Picture(rng.integers(0, 256, (*spec.image_hw, 3), np.uint8), depth, instances, parts, 90, annotations)


@pytest.fixture
def fake(monkeypatch):
  monkeypatch.setattr(preview, "render_picture", _fake_picture)


def _read(path):
  return cv2.imread(str(path))[..., ::-1]


def _center_of_ink(canvas, strength=lambda canvas: canvas.max(-1)):
  """Where the drawn pixels lie in the frame whose top left pixel center is (.5, .5)."""
  weights = strength(canvas).astype(float)
  y, x = np.indices(weights.shape) + 0.5
  return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def test_first_sheet_holds_the_pictures_untouched_and_small(tmp_path, fake):
  sheet, labels = preview.draw_preview(tmp_path / "sheet.png", SPEC, 3)
  assert sheet == tmp_path / "sheet.png" and labels == tmp_path / "sheet_labels.png"
  image, first = _read(sheet), _fake_picture(SPEC, 0).image_u8
  np.testing.assert_array_equal(image[:64, :32], first)
  np.testing.assert_array_equal(image[:64, 36:68], _fake_picture(SPEC, 1).image_u8)
  np.testing.assert_array_equal(image[68:196, :64], np.repeat(np.repeat(first, 2, 0), 2, 1))  # 64 high as it is
  assert sorted(path.name for path in tmp_path.iterdir()) == ["sheet.png", "sheet_labels.png"]
  preview.draw_preview(sheet, SPEC, 1)  # replaces
  assert _read(sheet).shape[1] < image.shape[1]


def test_small_strip_shows_large_pictures_at_64_rows(tmp_path, fake):
  spec = SetSpec("crops", (256, 128), 0, 1)
  image = _read(preview.draw_preview(tmp_path / "sheet.png", spec, 2)[0])
  small = cv2.resize(_fake_picture(spec, 0).image_u8, (32, 64), interpolation=cv2.INTER_AREA)
  np.testing.assert_array_equal(image[260:388, :64], np.repeat(np.repeat(small, 2, 0), 2, 1))


def test_what_belongs_together_stays_in_one_row(tmp_path, fake):
  spec = SetSpec("clips", (128, 200), 0, 1)
  assert _read(preview.draw_preview(tmp_path / "sheet.png", spec, 16)[0]).shape[1] == 8 * 204 - 4


def test_label_sheet_lines_up_with_the_pictures(tmp_path, fake):
  cell = _read(preview.draw_preview(tmp_path / "sheet.png", SPEC, 1)[1])
  factor = 10
  points, parts, depth = (cell[:640, left : left + 320] for left in (0, 324, 648))
  picture = _fake_picture(SPEC, 0)
  enlarged = np.repeat(np.repeat(picture.image_u8, factor, 0), factor, 1)
  np.testing.assert_array_equal(points[420:], enlarged[420:])  # below the box nothing is drawn
  np.testing.assert_array_equal(depth[410:], 0)
  coat = 0.75 * preview._LIP_PALETTE[LIP_PARTS.index("Coat")] + 0.25 * enlarged[205:395, 85:195]
  np.testing.assert_allclose(parts[205:395, 85:195], coat, atol=1)
  np.testing.assert_array_equal(parts[200, 80:200], 255)  # the mask's outline
  assert (cell[640:].max(-1) > 150).sum() > 200  # words


@settings(max_examples=60, deadline=None)
@given(st.floats(8, 24), st.floats(8, 24), st.integers(2, 10), st.sampled_from([1, 2]), st.sampled_from(COCO_JOINTS))
def test_a_point_is_drawn_where_it_is(x, y, factor, visibility, name):
  canvas = np.zeros((32 * factor, 32 * factor, 3), np.uint8)
  preview._draw_person(canvas, _person({name: [x, y, visibility]}, (0, 0, 0, 300)), factor)
  np.testing.assert_allclose(_center_of_ink(canvas), np.array([x, y]) * factor, atol=0.25)
  expected = (
    preview._LEFT if name.startswith("left") else preview._RIGHT if name.startswith("right") else preview._MIDDLE
  )
  brightest = canvas.reshape(-1, 3)[canvas.sum(-1).argmax()]
  np.testing.assert_allclose(brightest, expected, atol=25)


def test_visible_points_are_filled_hidden_ones_hollow_and_others_left_out():
  middles = []
  for visibility in (0, 1, 2):
    canvas = np.zeros((40, 40, 3), np.uint8)
    preview._draw_person(canvas, _person({"nose": [4, 4, visibility]}, (0, 0, 0, 300)), 5)
    middles.append((canvas.any(), canvas[19, 19].max() > 128))
  assert middles == [(False, False), (True, False), (True, True)]


@settings(max_examples=30, deadline=None)
@given(st.floats(2, 12), st.floats(2, 12), st.floats(4, 16), st.floats(4, 16), st.integers(2, 8))
def test_a_box_is_drawn_where_it_is(x, y, w, h, factor):
  canvas = np.zeros((32 * factor, 32 * factor, 3), np.uint8)
  preview._draw_person(canvas, _person({}) | {"box_visible": [x, y, w, h]}, factor)
  # OpenCV rounds outlines: both edges may lie on the same side, by up to .8 pixel of the enlarged image
  np.testing.assert_allclose(_center_of_ink(canvas), np.array([x + w / 2, y + h / 2]) * factor, atol=1)
  columns, rows = (np.flatnonzero(canvas.max(-1).max(axis) > 128) for axis in (0, 1))
  for drawn, start, size in ((columns, x, w), (rows, y, h)):
    assert abs(drawn[0] + 0.5 - start * factor) < 1.1 and abs(drawn[-1] + 0.5 - (start + size) * factor) < 1.1


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_real_pictures_of_every_composition(tmp_path, composition):
  hw = (48, 64) if composition == "scenes" else HW
  for path in preview.draw_preview(tmp_path / "sheet.png", SetSpec(composition, hw, 0, 120), 2):
    assert _read(path).std() > 10


def test_impossible_sheets_are_refused_before_anything_is_rendered(tmp_path, monkeypatch):
  monkeypatch.setattr(preview, "render_picture", lambda *_: pytest.fail("rendered"))
  (tmp_path / "folder.png").mkdir()
  (tmp_path / "taken_labels.png").mkdir()
  (tmp_path / "file").write_text("x")
  for name, count, word in (
    ("sheet.jpg", 1, "ends in .png"),
    ("sheet", 1, "ends in .png"),
    ("", 1, "ends in .png"),
    ("folder.png", 1, "is a folder"),
    ("taken.png", 1, "taken_labels.png is a folder"),
    ("missing/sheet.png", 1, "cannot be written"),
    ("file/sheet.png", 1, "cannot be written"),
    ("sheet.png", 0, "count=0"),
    ("sheet.png", 10**6, "count=1000000"),
  ):
    with pytest.raises(ValueError, match=word):
      preview.draw_preview(tmp_path / name, SPEC, count)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png", "taken_labels.png"]


def test_a_full_disk_is_one_clear_error_and_the_old_sheets_stay(tmp_path, fake, monkeypatch):
  before = {path: path.read_bytes() for path in preview.draw_preview(tmp_path / "sheet.png", SPEC, 1)}
  write_bytes = pathlib.Path.write_bytes

  def full(path, data):
    if "labels" in path.name:
      write_bytes(path, data[:10])
      raise OSError(28, "No space left on device")
    return write_bytes(path, data)

  monkeypatch.setattr(pathlib.Path, "write_bytes", full)
  with pytest.raises(ValueError, match="No space left on device.*change --preview"):
    preview.draw_preview(tmp_path / "sheet.png", SPEC, 2)
  assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
