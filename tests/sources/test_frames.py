"""Folders of frames: recording, camera and time from their names."""

import cv2
import numpy as np
import pytest

from input_pipeline.pairs import open_pairs
from input_pipeline.prepare.prepare import prepare_dataset
from input_pipeline.prepare.shard import PrepareRequest
from input_pipeline.settings import PairsConfig
from input_pipeline.sources.containers.array_record import ArrayRecordSource
from input_pipeline.sources.table import open_source


def write(root, *names):
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / name), np.full((8, 4, 3), len(name), np.uint8))
  return str(root)


def all_facts(source):
  return {source.name(i): source.annotations(i)[0] for i in range(len(source))}


def test_a_video_is_a_folder_of_numbered_frames(tmp_path):
  root = write(
    tmp_path / "set",
    "walk/9.png",
    "walk/10.png",
    "run/fast/img_0003.jpg",
    "run/fast/img_0003_mask.png",
    "run/fast/cover.png",
  )
  source = open_source("video", root, cache_dir=tmp_path / "w")
  assert all_facts(source) == {
    "run/fast/img_0003.jpg": {"frame": 3, "group": "run/fast"},
    "walk/9.png": {"frame": 9, "group": "walk"},
    "walk/10.png": {"frame": 10, "group": "walk"},
  }
  assert [source.name(i) for i in (1, 2)] == ["walk/9.png", "walk/10.png"]  # by number, not by letter
  assert source.left_out == [
    (f"run/fast/{name}.png", "its name does not end in the number of a frame") for name in ("cover", "img_0003_mask")
  ]
  assert cv2.imdecode(np.frombuffer(source.read(1), np.uint8), 1)[0, 0, 0] == len("walk/9.png")


@pytest.mark.parametrize(
  "names",
  [
    ["rec/cam01_00000.jpg", "rec/cam02_00000.jpg", "rec/cam01_00007.jpg", "rec/cam02_00007.jpg"],
    ["rec/cam01/00000.jpg", "rec/cam02/00000.jpg", "rec/cam01/00007.jpg", "rec/cam02/00007.jpg"],
    ["rec/cam01/frame_0.jpg", "rec/cam02/frame_0.jpg", "rec/cam01/frame_7.jpg", "rec/cam02/frame_7.jpg"],
  ],
)
def test_cameras_are_in_the_names_of_files_or_of_folders(tmp_path, names):
  source = open_source("multiview", write(tmp_path / "set", *names), cache_dir=tmp_path / "w")
  of = [("cam01", 0), ("cam02", 0), ("cam01", 7), ("cam02", 7)]
  assert all_facts(source) == {
    name: {"group": "rec", "camera": camera, "frame": frame} for name, (camera, frame) in zip(names, of)
  }
  _, pairs = open_pairs(source, PairsConfig(), tmp_path / "w")
  assert pairs.summary[:2] == ["4 images have a view partner", "4 images have a pose partner"]


def test_prepared_frames_have_the_same_facts(tmp_path):
  root = write(tmp_path / "set", "a/1.png", "b/1.png", "a/2.png")
  prepare_dataset(PrepareRequest("multiview", root), tmp_path / "records", progress=False)
  prepared = ArrayRecordSource(tmp_path / "records")
  source = open_source("multiview", root, cache_dir=tmp_path / "w")
  assert {name: facts | {"name": name} for name, facts in all_facts(source).items()} == all_facts(prepared)


@pytest.mark.parametrize(
  "kind, names, message",
  [
    ("video", ["a/front.png"], "no image of 'set' has a name that ends in the number of a frame.*00017.jpg"),
    ("multiview", ["a/1.png", "a/2.png"], "no two images of 'set' show the same instant.*data.source=video"),
    ("multiview", ["a/1.png", "b/2.png"], "no two images of 'set' show the same instant"),
  ],
)
def test_other_folders_are_refused(tmp_path, kind, names, message):
  with pytest.raises(ValueError, match=f"data.path: {message}") as error:
    open_source(kind, write(tmp_path / "set", *names), cache_dir=tmp_path / "w")
  assert "\n" not in str(error.value)
