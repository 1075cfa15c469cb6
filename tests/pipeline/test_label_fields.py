"""Labels in batches: those of the data set's own names, unknown with a reason where they cannot be used."""

import numpy as np
import pytest

from input_pipeline.body import COCO_JOINTS, FURTHER_JOINTS, MIRRORED_FACE, WHOLE_BODY_JOINTS, flip_pairs
from input_pipeline.fields.base import AnnotatedImage
from input_pipeline.fields.boxes import MOST_BOXES
from input_pipeline.fields.captions import LENGTH, word_numbers
from input_pipeline.fields.table import FIELDS
from input_pipeline.sources.combined import MixtureSource, WeightedSource
from tests.support.coded_people import HW, CodedPictures

POINT = [8, 16, 2]


def of(person, legend=None, **facts):
  """A set of one picture of this person."""
  return CodedPictures([1], lambda n: {"people": [person]} | facts, legend)


def mixed(*sources):
  return MixtureSource({f"part {k}": WeightedSource(source, 1.0) for k, source in enumerate(sources)})


def read(name, source, facts=None, valid_hw=HW, files=None):
  """Returns the field's row of the picture, or of other facts and files, and why something is unknown."""
  field = FIELDS[name](source)
  given, held = source.annotations(0)
  row = {key: np.zeros(shape, dtype) for key, (shape, dtype) in field.arrays(valid_hw).items()}
  reason = field.read(AnnotatedImage(0, facts or given, held if files is None else files, HW, valid_hw), row)
  return row, reason, field


def test_joints_of_any_list():
  animal = of({"keypoints": [POINT, [0, 0, 0]]}, {"joints": ["paw", "tail"]})
  row, reason, field = read("joints", animal, None, (32, 16))
  assert field.classes == ("paw", "tail") and reason is None
  np.testing.assert_array_equal(row["joints"], [[4, 8, 2], [0, 0, 0]])
  several = of({"keypoints": [POINT], "joints": "b"}, {"joints": {"a": ["x", "y"], "b": ["z"]}})
  assert read("joints", several)[2].classes == ("z",)
  for person in ({"keypoints": [POINT] * 2, "joints": "a"}, {"keypoints": [POINT] * 3, "joints": "b"}):
    row, reason, _ = read("joints", several, {"people": [person]})
    assert reason == "keypoints: of another list of joints" and not row["joints"].any()
  row, reason, _ = read("joints", several, {"people": [{"keypoints": [[99, 2, 2]], "joints": "b"}]})
  assert reason == "keypoints: not finite or outside the image" and not row["joints"].any()
  assert read("joints", several, {"people": []})[1] is None


def test_landmarks_of_the_whole_body():
  lists = {"person": COCO_JOINTS} | FURTHER_JOINTS
  person = {"keypoints": [POINT] * 17, "joints": "person", "more_keypoints": {"face": [[1, 2, 1]] * 68}}
  row, reason, field = read("landmarks", of(person, {"joints": lists}))
  assert field.classes == WHOLE_BODY_JOINTS and reason is None
  assert row["landmarks"][:17].tolist() == [[8, 16, 1]] * 17 and not row["landmarks"][17:23].any()
  assert row["landmarks"][23:91].tolist() == [[1, 2, 1]] * 68 and not row["landmarks"][91:].any()
  row, reason, _ = read("landmarks", of(person | {"keypoints": [POINT] * 3}, {"joints": lists}))
  assert reason == "landmarks: a list of another length" and not row["landmarks"].any()


def test_every_point_of_the_face_has_its_mirror_image():
  pairs = flip_pairs(WHOLE_BODY_JOINTS)
  assert len(pairs) == 8 + 3 + 29 + 21 and len({place for pair in pairs for place in pair}) == 2 * len(pairs)
  middle = {8, 27, 28, 29, 30, 33, 51, 57, 62, 66}  # chin, ridge and tip of the nose, lips
  moved = {name for pair in MIRRORED_FACE.items() for name in pair}
  assert moved == {f"face_{k}" for k in range(68) if k not in middle}


def test_boxes():
  people = [
    {"box": [-4, 8, 12, 16]},
    {"boxes": {"full": [16, 0, 8, 64]}, "box": [1, 1, 1, 1], "ignore": True},
    {"box": [40, 0, 5, 5]},
  ]  # the last one beyond the picture
  source = CodedPictures([1], lambda n: {"people": people})
  row, reason, field = read("boxes", source, None, (32, 16))
  assert field.classes == ("person",) and reason is None and row["has_boxes"]
  assert row["boxes"][:2].tolist() == [[8, 0, 4, 32, -1], [0, 4, 4, 8, 1]] and not row["boxes"][2:].any()
  row, reason, _ = read("boxes", source, {"people": [*people, {}]})
  assert reason == "boxes: a person without one" and not row["has_boxes"] and not row["boxes"].any()
  row, reason, _ = read("boxes", source, {"people": [{"box": [0, 0, 1 + k / 100, 2]} for k in range(MOST_BOXES + 4)]})
  assert reason == f"boxes: more than {MOST_BOXES}" and row["boxes"][:, 2].min() == pytest.approx(1.04)
  assert not read("boxes", source, {"camera": 1})[0]["has_boxes"]  # not annotated
  assert read("boxes", source, {"people": []})[0]["has_boxes"]  # annotated, without persons


def test_captions():
  row, reason, _ = read("captions", of({"captions": ["A red coat.", "Blue, or RED coat!", "third"]}))
  first, second = row["captions"]
  assert reason is None and (first > 0).sum() == 3 and (second > 0).sum() == 4
  assert first[1] == second[2] and first[2] == second[3] and len(set(first[:3])) == 3
  assert (word_numbers("word " * 100) > 0).sum() == LENGTH and not word_numbers("42 ...").any()


def test_persons_of_another_size_are_unknown():
  planes = lambda n: {"instances.png": np.full(HW, 3, np.uint8)}
  source = CodedPictures([1], lambda n: {}, None, planes)
  row, reason, _ = read("persons", source, None, (32, 16))
  assert reason is None and row["has_persons"] and (row["persons"] == 3).all()
  small = CodedPictures([1], lambda n: {}, None, lambda n: {"instances.png": np.ones((4, 4), np.uint8)})
  row, reason, _ = read("persons", source, files=small.annotations(0)[1])
  assert reason == "mask: instances.png is of another size than the image" and not row["has_persons"]


def test_joints_in_space_are_measured_from_the_root():
  legend = {"joints": ["head", "left_hip", "right_hip"]}
  source = of({"joints_xyz": [None, [1, 0, 4], [2, 0, 4]]}, legend)
  row, reason, field = read("joints_xyz", source)
  assert reason is None and field.classes == tuple(legend["joints"])
  np.testing.assert_allclose(row["joints_xyz"], [[0, 0, 0, 0], [-0.5, 0, 0, 1], [0.5, 0, 0, 1]])
  row, reason, _ = read("joints_xyz", source, {"people": [{"joints_xyz": [[1, 2, 3], None, [2, 0, 4]]}]})
  assert reason == "joints in space: the root is not known" and not row["joints_xyz"].any()
  assert "not one place" in read("joints_xyz", source, {"people": [{"joints_xyz": [[1, 2, 3]]}]})[1]


@pytest.mark.parametrize(
  "name, source, words",
  [
    ("joints", of({}, {"joints": ["a"]}), "holds no keypoints"),
    ("joints", of({"keypoints": [POINT]}), "names no joints"),
    (
      "joints",
      mixed(of({"keypoints": [POINT]}, {"joints": ["a"]}), of({"keypoints": [POINT]}, {"joints": ["b"]})),
      "have different joints",
    ),
    ("landmarks", of({"keypoints": [POINT]}, {"joints": ["a"]}), "names no landmarks"),
    ("boxes", of({}), "holds no boxes"),
    ("captions", of({"caption": ""}), "holds no captions"),
    ("persons", of({}), "holds no masks"),
    ("joints_xyz", of({}, {"joints": ["head", "left_hip"]}), "expected left_hip and right_hip, or pelvis"),
  ],
)
def test_data_without_such_labels_is_refused(name, source, words):
  with pytest.raises(ValueError, match=words) as error:
    FIELDS[name](source)
  assert "\n" not in str(error.value)
