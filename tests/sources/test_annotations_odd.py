"""Malformed annotations: they are opened or refused in one line."""

import copy
import functools
import json

import hypothesis
import hypothesis.strategies as st
import pytest

from input_pipeline.sources.datasets.attributes import open_attributes
from input_pipeline.sources.datasets.captions import open_captions
from input_pipeline.sources.datasets.coco import open_coco
from input_pipeline.sources.datasets.fashionpedia import open_fashionpedia
from input_pipeline.sources.datasets.joints_npz import open_joints_npz
from input_pipeline.sources.datasets.lsp import open_lsp
from input_pipeline.sources.datasets.parsing import open_ccp, open_parsing
from input_pipeline.sources.datasets.pennfudan import open_pennfudan
from input_pipeline.sources.datasets.reid import open_market1501, open_msmt17
from input_pipeline.sources.datasets.yolo import open_yolo
from tests.support.annotated_photos import annotation, coco, write_photo

_PERSONS = coco(
  [(1, "a.jpg", 120, 160), (2, "b.png", 120, 160)],
  [
    annotation(
      1,
      1,
      [20, 20, 40, 60],
      keypoints=[30, 30, 2] * 3,
      segmentation=[[20, 20, 60, 20, 60, 80]],
      track_id=1,
      face_box=[1, 2, 30, 40],
      face_kpts=[1, 2, 1],
      score=0.4,
      center=[50, 50],
      scale=0.3,
    ),
    annotation(2, 2, [20, 20, 40, 60], segmentation={"size": [120, 160], "counts": "abc"}, attributes=[1, 0]),
  ],
  [{"id": 1, "name": "person", "keypoints": ["a", "b", "c"], "attributes": ["x", "y"]}],
)
_PANOPTIC = coco(
  [(1, "a.jpg", 120, 160)],
  [
    {
      "image_id": 1,
      "file_name": "b.png",
      "segments_info": [{"id": 5, "category_id": 1, "bbox": [20, 20, 40, 60], "iscrowd": 0, "area": 3}],
    }
  ],
)
_MPII = [
  {
    "image": "a.jpg",
    "joints": [[40 + k, 30 + 3 * k] for k in range(16)],
    "joints_vis": [1] * 16,
    "center": [50, 50],
    "scale": 0.3,
  }
] * 2
_CROWDHUMAN = [
  {
    "ID": "a",
    "gtboxes": [
      {
        "tag": "person",
        "fbox": [10, 10, 50, 90],
        "vbox": [10, 10, 50, 40],
        "hbox": [1, 1, 3, 3],
        "extra": {"ignore": 0},
      }
    ],
  }
]

_CAPTIONS = [{"id": 3, "split": "train", "file_path": "a.jpg", "captions": ["a man"]}] * 2
_OPENERS = [open_coco, functools.partial(open_coco, min_side=0), functools.partial(open_coco, whole=True)]

_ODD = [
  None,
  True,
  -1,
  0,
  1e308,
  10**400,
  float("nan"),
  float("inf"),
  "",
  "\ud800",
  "../..",
  "a.jpg",
  [],
  [1],
  [[1]],
  [None],
  {},
  {"a": 1},
  [1, 2, 3, 4],
  ["1", "2", "3", "4"],
  [1e300] * 4,
  [10**400, 0.5, 0.5, 0.5],
  [[1e300] * 6],
  [[[1, 2]]],
  2**70,
  "1",
  "\0",
  {"size": [120, 160], "counts": []},
  {"size": [1e9, 1e9], "counts": "5"},
]


def _places(value, place=()):
  for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
    yield (*place, key)
    if isinstance(inside, (dict, list)):
      yield from _places(inside, (*place, key))


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.data())
def test_malformed_annotations_give_persons_or_raise_one_line(tmp_path_factory, data):
  root = tmp_path_factory.getbasetemp() / "odd" / "set" / "imgs"
  if not root.exists():
    write_photo(root / "a.jpg")
    write_photo(root / "b.png")
  form, openers = data.draw(
    st.sampled_from(
      [
        (_PERSONS, [*_OPENERS, open_fashionpedia]),
        (_PANOPTIC, _OPENERS),
        (_MPII, _OPENERS),
        (_CROWDHUMAN, _OPENERS),
        (_CAPTIONS, [functools.partial(open_captions, "cuhkpedes")]),
      ]
    )
  )
  content, file = copy.deepcopy(form), root.parent / ("x.odgt" if form is _CROWDHUMAN else "x.json")
  for _ in range(data.draw(st.integers(1, 2))):
    if not content:
      break
    *way, last = data.draw(st.sampled_from(list(_places(content))))
    inside = content
    for key in way:
      inside = inside[key]
    if data.draw(st.booleans()):
      inside[last] = copy.deepcopy(data.draw(st.sampled_from(_ODD)))
    else:
      del inside[last]
  file.write_text("\n".join(map(json.dumps, content)) if file.suffix == ".odgt" else json.dumps(content))
  try:
    source = data.draw(st.sampled_from(openers))(str(file), None, str(root.parent.parent / "work"), "--path")
  except ValueError as error:
    assert "--path" in str(error) and "\n" not in str(error)
    return
  for i in range(len(source)):
    assert source.read(i) and source.name(i)
    try:
      json.dumps(source.annotations(i)[0], allow_nan=False)
    except OSError as error:  # a mask that cannot be read
      assert "mask" in str(error)


@pytest.mark.parametrize(
  "opener",
  [
    open_coco,
    open_yolo,
    open_pennfudan,
    open_lsp,
    open_market1501,
    open_msmt17,
    open_joints_npz,
    open_fashionpedia,
    open_ccp,
    functools.partial(open_parsing, "lip"),
    functools.partial(open_attributes, "rap"),
    functools.partial(open_captions, "rstpreid"),
  ],
)
def test_missing_paths_raise_one_line(tmp_path, opener):
  (tmp_path / "file.txt").write_text("text")
  (tmp_path / "empty").mkdir()
  for path in ("gone", "file.txt", "empty"):
    with pytest.raises(ValueError, match="--path") as error:
      opener(str(tmp_path / path), None, str(tmp_path / "work"), "--path")
    assert "\n" not in str(error.value)
  with pytest.raises(ValueError, match="--path=nonsense://x"):
    opener("nonsense://x", None, str(tmp_path / "work"), "--path")
