"""`saip prepare`: unchanged bytes, annotations, and resuming after a kill, in processes or under Beam."""

import dataclasses
import hashlib
import json
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from input_pipeline.decode import decode_image
from input_pipeline.fields.keypoints import KeypointsField
from input_pipeline.people.prepare import prepare_people
from input_pipeline.people.spec import SetSpec
from input_pipeline.prepare import prepare as prepare_module
from input_pipeline.prepare.prepare import prepare_dataset
from input_pipeline.prepare.shard import PrepareRequest
from input_pipeline.prepare.side_files import SideFiles
from input_pipeline.records import decode_record
from input_pipeline.sources.containers.array_record import ArrayRecordSource


class Killed(BaseException):
  """Simulates the end of the process."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("SAIP_CACHE", str(tmp_path / "cache"))


def write_photos(root, count=10, hw=(16, 8)):
  root.mkdir(parents=True)
  generator = np.random.default_rng(0)
  for i in range(count):
    image = generator.integers(0, 256, (*hw, 3), np.uint8)
    assert cv2.imwrite(str(root / (f"{i:03d}.jpg" if i % 2 else f"{i:03d}.png")), image)
  return root


def digests(folder):
  return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pathlib.Path(folder).iterdir()}


def test_encoded_images_are_kept_byte_for_byte(tmp_path):
  photos = write_photos(tmp_path / "photos")
  meta = prepare_dataset(PrepareRequest("folder", str(photos)), tmp_path / "set")
  assert meta == json.loads((tmp_path / "set" / "meta.json").read_text())
  assert meta["count"] == 10 and meta["carried"] == {"name": 10, "image.jpg": 5, "image.png": 5}
  [(name, shard)] = meta["shards"].items()
  content = (tmp_path / "set" / name).read_bytes()
  assert (shard["records"], shard["bytes"]) == (10, len(content))
  assert shard["sha256"] == hashlib.sha256(content).hexdigest()
  source = ArrayRecordSource(tmp_path / "set")
  for i, path in enumerate(sorted(photos.iterdir())):
    assert source.read(i) == path.read_bytes() and source.name(i) == path.name


def test_damaged_images_are_left_out_counted_and_named(tmp_path):
  photos = write_photos(tmp_path / "photos")
  (photos / "003.jpg").write_bytes(b"")
  (photos / "004.png").write_bytes(b"no image at all")
  (photos / "zz.jpg").symlink_to("nowhere")
  meta = prepare_dataset(PrepareRequest("folder", str(photos)), tmp_path / "set")
  lines = (tmp_path / "set" / "left_out.txt").read_text().splitlines()
  assert meta["count"] == 8 and meta["left_out"] == len(lines) == 3
  assert {line.split(":")[0] for line in lines} == {"003.jpg", "004.png", "zz.jpg"}
  assert any("empty file" in line for line in lines)
  for path in photos.iterdir():
    if path.is_file():
      path.write_bytes(b"")
  with pytest.raises(ValueError, match="none of .* images tried is usable; first: 000.png: empty"):
    prepare_dataset(PrepareRequest("folder", str(photos)), tmp_path / "other")


def test_larger_images_are_shrunk_with_their_annotations(tmp_path):
  prepare_people(tmp_path / "people", SetSpec("crops", (96, 48), 0, 4), 12, progress=False)
  request = PrepareRequest("people", str(tmp_path / "people"))
  prepare_dataset(request, tmp_path / "whole")
  prepare_dataset(PrepareRequest("people", str(tmp_path / "people"), max_side=48), tmp_path / "half")
  whole, half = ArrayRecordSource(tmp_path / "whole"), ArrayRecordSource(tmp_path / "half")
  assert len(whole) == len(half) > 5 and half.legend["joints"][0] == "nose"
  for i in range(len(half)):
    image, hw = decode_image(half.read(i), (96, 96))
    assert hw == (48, 24)
    (facts, files), (small_facts, small_files) = whole.annotations(i), half.annotations(i)
    assert files.keys() == small_files.keys() >= {"depth.png", "parts.png"}
    planes = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) for data in small_files.values()]
    assert all(plane.shape == (48, 24) for plane in planes)
    person, small = facts["people"][0], small_facts["people"][0]
    np.testing.assert_allclose(np.array(small["keypoints"])[:, :2] * 2, np.array(person["keypoints"])[:, :2], atol=3e-4)
    assert [point[2] for point in small["keypoints"]] == [point[2] for point in person["keypoints"]]
    np.testing.assert_allclose(np.array(small["box_full"]) * 2, person["box_full"], atol=3e-4)
    landmark = np.array(small["landmarks_xyz"][0])
    x, y = (small_facts["camera_matrix"] @ landmark / landmark[2])[:2]
    original = np.array(person["landmarks_xyz"][0])
    np.testing.assert_allclose([x * 2, y * 2], (facts["camera_matrix"] @ original / original[2])[:2], atol=1e-4)
  source = ArrayRecordSource(tmp_path / "whole")
  assert source.annotations(0)[0]["people"] and len(pickle.dumps(source)) < 2000


def test_scenes_are_raw_pixels_equal_to_the_decoded_photo(tmp_path):
  photos = write_photos(tmp_path / "photos", hw=(60, 90))
  prepare_dataset(PrepareRequest("folder", str(photos), scene_hw=(32, 32)), tmp_path / "scenes")
  scenes = ArrayRecordSource(tmp_path / "scenes")
  for i, path in enumerate(sorted(photos.iterdir())):
    expected, expected_hw = decode_image(path.read_bytes(), (32, 32))
    scene, hw = decode_image(scenes.read(i), (32, 32))
    assert hw == expected_hw == (21, 32) and (scene == expected).all()
    assert scenes.read(i).startswith(b"P6 32 21 255\n")


def test_side_files_become_annotations(tmp_path):
  photos = write_photos(tmp_path / "photos", 4)
  for kind in ("depth", "masks", "points"):
    (tmp_path / kind).mkdir()
  depth = np.arange(128, dtype=np.uint16).reshape(16, 8) * 30
  cv2.imwrite(str(tmp_path / "depth" / "000.png"), depth)
  np.save(tmp_path / "depth" / "001.npy", depth.astype(np.float32) / 1000)
  cv2.imwrite(str(tmp_path / "masks" / "000_mask.png"), np.full((16, 8), 255, np.uint8))
  points = [[[1.5, 2.5, 2], [0, 0, 0]], [[3, 4, 1], [5, 6, 2]]]
  (tmp_path / "points" / "000.json").write_text(json.dumps(points))
  np.save(tmp_path / "points" / "001.npy", np.array(points[0], np.float32))
  openpose = {"people": [{"pose_keypoints_2d": [1, 2, 0.9, 3, 4, 0.5]}]}
  (tmp_path / "points" / "002.json").write_text(json.dumps(openpose))
  side_files = SideFiles(
    depth=str(tmp_path / "depth"),
    instances=str(tmp_path / "masks" / "{stem}_mask.png"),
    keypoints=str(tmp_path / "points"),
    joints="nose,left_eye",
  )
  meta = prepare_dataset(PrepareRequest("folder", str(photos), side_files=side_files), tmp_path / "set")
  assert meta["carried"] == {"name": 4, "image.png": 2, "image.jpg": 2, "depth.png": 2, "instances.png": 1, "people": 3}
  source = ArrayRecordSource(tmp_path / "set")
  planes = lambda i: {
    name: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    for name, data in source.annotations(i)[1].items()
  }
  assert (planes(0)["depth.png"] == depth).all() and (planes(1)["depth.png"] == depth).all()
  assert (planes(0)["instances.png"] == 1).all()
  assert [person["keypoints"] for person in source.annotations(0)[0]["people"]] == points
  assert source.annotations(1)[0]["people"][0]["keypoints"] == points[0]
  assert source.annotations(2)[0]["people"][0]["keypoints"] == [[1, 2, 0.9], [3, 4, 0.5]]
  assert source.annotations(3) == ({"name": "003.jpg"}, {})
  assert source.legend["joints"] == ["nose", "left_eye"]  # so that training knows what they are
  assert KeypointsField(source).summary == ["2 of COCO's 17 joints are named by 'set'"]
  with pytest.raises(ValueError, match="--keypoints"):
    SideFiles(joints="coco")


def test_an_image_with_an_unusable_side_file_is_left_out_by_name(tmp_path):
  photos = write_photos(tmp_path / "photos", 4)
  (tmp_path / "points").mkdir()
  with open(tmp_path / "points" / "002.npy", "wb") as file:
    np.save(file, np.array([{"keypoints": 1}]), allow_pickle=True)
  request = PrepareRequest("folder", str(photos), side_files=SideFiles(keypoints=str(tmp_path / "points")))
  assert prepare_dataset(request, tmp_path / "set")["left_out"] == 1
  assert "002.png" in (line := (tmp_path / "set" / "left_out.txt").read_text()) and "pickles are never loaded" in line
  with pytest.raises(ValueError, match="--depth=.*does not exist"):
    prepare_dataset(PrepareRequest("folder", str(photos), side_files=SideFiles(depth="/no/where")), tmp_path / "other")


def test_pairs_hold_both_images(tmp_path):
  photos = write_photos(tmp_path / "photos", 4)
  (tmp_path / "pairs.txt").write_text("# two\n000.png\t001.jpg\tview\n003.jpg\t002.png\n000.png\tnone.jpg\tpose\n")
  request = PrepareRequest("folder", str(photos), side_files=SideFiles(pairs=str(tmp_path / "pairs.txt")))
  meta = prepare_dataset(request, tmp_path / "set")
  source = ArrayRecordSource(tmp_path / "set")
  assert meta["count"] == len(source) == 2 and meta["left_out"] == 1
  facts, files = source.annotations(0)
  assert facts == {"pair": "view", "name": "000.png + 001.jpg"}
  assert source.read(0) == (photos / "000.png").read_bytes()
  assert files == {"partner.jpg": (photos / "001.jpg").read_bytes()}
  assert source.annotations(1)[1] == {"partner.png": (photos / "002.png").read_bytes()}
  prepare_dataset(dataclasses.replace(request, max_side=8), tmp_path / "small")
  small = ArrayRecordSource(tmp_path / "small")
  partner = small.annotations(1)[1]["partner.jpg"]
  assert decode_image(small.read(1), (16, 16))[1] == decode_image(partner, (16, 16))[1] == (8, 4)
  (photos / "002.png").write_bytes(b"broken")
  assert prepare_dataset(request, tmp_path / "broken")["count"] == 1


@pytest.fixture
def small_shards(monkeypatch):
  monkeypatch.setattr(prepare_module, "SHARD_BYTES", 1500)


def test_shards_are_of_the_wanted_size_and_processes_change_nothing(tmp_path, small_shards):
  photos = write_photos(tmp_path / "photos", 16)
  request = PrepareRequest("folder", str(photos))
  meta = prepare_dataset(request, tmp_path / "one", processes=1)
  prepare_dataset(request, tmp_path / "two", processes=2)
  assert len(meta["shards"]) > 4 and digests(tmp_path / "one") == digests(tmp_path / "two")
  source = ArrayRecordSource(tmp_path / "one")
  assert [source.read(i) for i in range(16)] == [path.read_bytes() for path in sorted(photos.iterdir())]


def test_a_shard_with_only_damaged_images_is_dropped(tmp_path, small_shards):
  photos = write_photos(tmp_path / "photos", 12)
  for path in sorted(photos.iterdir())[:-3]:
    path.write_bytes(bytes(path.stat().st_size))
  meta = prepare_dataset(PrepareRequest("folder", str(photos)), tmp_path / "set", processes=1)
  assert {path.name for path in (tmp_path / "set").glob("*.array_record")} == set(meta["shards"])
  assert meta["count"] == len(ArrayRecordSource(tmp_path / "set")) == 3 and meta["left_out"] == 9


def test_beam_writes_the_same_set(tmp_path, small_shards):
  pytest.importorskip("apache_beam")
  request = PrepareRequest("folder", str(write_photos(tmp_path / "photos", 12)))
  prepare_dataset(request, tmp_path / "here", processes=1)
  prepare_dataset(request, tmp_path / "beam", runner="DirectRunner")
  assert digests(tmp_path / "here") == digests(tmp_path / "beam")
  with pytest.raises(ValueError, match="--runner=NoSuchRunner"):
    prepare_dataset(request, tmp_path / "other", runner="NoSuchRunner")


def _die_at(monkeypatch, step):
  """Raises Killed instead of, or right after, one of the calls that change the disk, counted from 0."""
  calls = iter(range(10**9))
  for owner, name in ((os, "replace"), (os, "makedirs"), (pathlib.Path, "unlink"), (shutil, "rmtree")):

    def call(*args, _call=getattr(owner, name), **options):
      number = next(calls)
      if number == step // 2 and step % 2:
        raise Killed
      result = _call(*args, **options)
      if number == step // 2:
        raise Killed
      return result

    monkeypatch.setattr(owner, name, call)


def test_resumed_after_a_kill_at_any_step_the_bytes_are_the_same(tmp_path, small_shards, monkeypatch):
  request = PrepareRequest("folder", str(write_photos(tmp_path / "photos", 6)))
  prepare_dataset(request, tmp_path / "undisturbed", processes=1)
  whole, step = digests(tmp_path / "undisturbed"), 0
  while True:
    out = tmp_path / f"killed{step}"
    with monkeypatch.context() as patches:
      _die_at(patches, step)
      try:
        prepare_dataset(request, out, processes=1)
        break
      except Killed:
        pass
    if not (out / "meta.json").exists():
      with pytest.raises(ValueError, match="unfinished set|no ArrayRecord files|does not exist"):
        ArrayRecordSource(out)
    prepare_dataset(request, out, processes=1)
    assert digests(out) == whole
    step += 1
  assert step > 20


@pytest.mark.compile
@pytest.mark.distributed
def test_resumes_after_sigkill(tmp_path):
  photos = write_photos(tmp_path / "photos", 120, hw=(200, 100))
  script = (
    "import sys\n"
    "from input_pipeline.prepare import prepare as module\n"
    "from input_pipeline.prepare.shard import PrepareRequest\n"
    "if __name__ == '__main__':\n"
    "  module.SHARD_BYTES = 200_000\n"
    "  module.prepare_dataset(PrepareRequest('folder', sys.argv[1]), sys.argv[2], processes=int(sys.argv[3]))\n"
  )
  (tmp_path / "go.py").write_text(script)

  def start(out, processes):
    root = str(pathlib.Path(__file__).resolve().parents[2])
    return subprocess.Popen(
      [sys.executable, str(tmp_path / "go.py"), str(photos), str(tmp_path / out), str(processes)],
      env=os.environ | {"PYTHONPATH": root},
      start_new_session=True,
    )

  assert start("whole", 1).wait() == 0
  process, deadline = start("killed", 2), time.time() + 60
  while len(list((tmp_path / "killed").glob("*.array_record"))) < 3 and process.poll() is None:
    assert time.time() < deadline
    time.sleep(0.005)
  os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  assert start("killed", 1).wait() == 0
  assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_another_set_or_other_files_in_the_folder_are_refused(tmp_path):
  photos = write_photos(tmp_path / "photos")
  prepare_dataset(PrepareRequest("folder", str(photos)), tmp_path / "set")
  with pytest.raises(ValueError, match="different prepared set .max_side None there, 8 asked for"):
    prepare_dataset(PrepareRequest("folder", str(photos), max_side=8), tmp_path / "set")
  (photos / "new.png").write_bytes((photos / "000.png").read_bytes())
  with pytest.raises(ValueError, match="different prepared set .source"):
    prepare_dataset(PrepareRequest("folder", str(photos)), tmp_path / "set")
  with pytest.raises(ValueError, match="not empty and holds no prepared set"):
    prepare_dataset(PrepareRequest("folder", str(photos)), photos)
  for wrong, words in (
    ({"max_side": 0}, "--max-side=0"),
    ({"margin": -1}, "--margin=-1"),
    ({"scene_hw": (8, 8), "max_side": 3}, "--scenes"),
  ):
    with pytest.raises(ValueError, match=words):
      PrepareRequest("folder", str(photos), **wrong)


def test_a_missing_or_truncated_shard_is_named(tmp_path):
  prepare_dataset(PrepareRequest("folder", str(write_photos(tmp_path / "photos"))), tmp_path / "set")
  [shard] = (tmp_path / "set").glob("*.array_record")
  shard.write_bytes(shard.read_bytes()[:-100])
  with pytest.raises(ValueError, match="data.path=.*lacks a whole images-00000-of-00001.array_record"):
    ArrayRecordSource(tmp_path / "set")


def test_a_set_can_be_written_to_and_read_from_a_bucket(tmp_path):
  photos = write_photos(tmp_path / "photos")
  url = f"memory://{tmp_path.name}/set"
  prepare_dataset(PrepareRequest("folder", str(photos)), tmp_path / "set")
  prepare_dataset(PrepareRequest("folder", str(photos)), url, processes=1)
  here, there = ArrayRecordSource(tmp_path / "set"), ArrayRecordSource(url)
  assert here.identity == there.identity
  assert [here.read(i) for i in range(10)] == [there.read(i) for i in range(10)]
  assert prepare_dataset(PrepareRequest("folder", str(photos)), url, processes=1)["count"] == 10


def test_a_record_has_the_format_in_the_manifest(tmp_path):
  prepare_dataset(PrepareRequest("folder", str(write_photos(tmp_path / "photos", 2))), tmp_path / "set")
  from array_record.python.array_record_module import ArrayRecordReader

  [shard] = (tmp_path / "set").glob("*.array_record")
  record = ArrayRecordReader(str(shard)).read([0])[0]
  length = int.from_bytes(record[:4], "little")
  facts = json.loads(record[4 : 4 + length])
  assert facts == {"files": {"image.png": len(record) - 4 - length}, "name": "000.png"}
  assert decode_record(record) == ({"name": "000.png"}, {"image.png": record[4 + length :]})
