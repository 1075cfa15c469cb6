"""The built-in people: the same picture everywhere, an identity that stays itself, sets that survive a kill."""

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from input_pipeline.decode import decode_image
from input_pipeline.people import prepare as prepare_module
from input_pipeline.people import records
from input_pipeline.people.dataset import PeopleSource, open_people
from input_pipeline.people.figure import build_figure
from input_pipeline.people.prepare import prepare_people
from input_pipeline.people.raycast import Camera, cast
from input_pipeline.people.render import render_person, sample_identity
from input_pipeline.people.skeleton import JOINTS, Body, place_joints, sample_pose

HW = (64, 32)


def _digests(folder):
  return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


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


@pytest.fixture
def small_shards(monkeypatch):
  monkeypatch.setattr(records, "SHARD_LENGTH", 4)


def test_prepared_set_reads_back(tmp_path, small_shards):
  out = prepare_people(tmp_path / "set", 10, HW, seed=1, progress=False)
  meta = json.loads((out / "meta.json").read_text())
  assert {key: meta[key] for key in ("count", "image_hw", "seed", "identities")} == {
      "count": 10, "image_hw": [64, 32], "seed": 1, "identities": 2}
  assert [shard["records"] for shard in meta["shards"].values()] == [4, 4, 2]
  source = PeopleSource(out)
  assert len(source) == 10 and source.name(9) == "people-10-64x32-seed1[9]"
  assert source.identity["length"] == 10 and source.identity["source"] == "people"
  for source in (source, pickle.loads(pickle.dumps(source))):
    for i in (9, 0, 4):
      facts, jpeg = source.record(i)
      assert facts == {"index": i, "identity": i % 2} and source.read(i) == jpeg
      picture = render_person(1, i, HW, 2).image_u8
      assert np.abs(decode_image(jpeg, HW)[0].astype(int) - picture).mean() < 8


def test_a_whole_set_is_used_as_it_is_and_another_refused(tmp_path, small_shards, monkeypatch):
  out = prepare_people(tmp_path / "set", 6, HW, seed=0, progress=False)
  before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
  monkeypatch.setattr(prepare_module, "render_person", lambda *_: pytest.fail("rendered again"))
  prepare_people(out, 6, HW, seed=0, progress=False)
  assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
  with pytest.raises(ValueError, match=r"different set .*count 6 there, 7 asked for; seed 0 there, 1 asked for"):
    prepare_people(out, 7, HW, seed=1, progress=False)


def test_a_killed_preparation_goes_on_to_the_same_bytes(tmp_path, small_shards, monkeypatch):
  whole = _digests(prepare_people(tmp_path / "whole", 10, HW, seed=2, progress=False))

  def dies(seed, index, *rest):
    if index == 6:
      raise KeyboardInterrupt
    return render_person(seed, index, *rest)

  monkeypatch.setattr(prepare_module, "render_person", dies)
  with pytest.raises(KeyboardInterrupt):
    prepare_people(tmp_path / "set", 10, HW, seed=2, progress=False)
  monkeypatch.undo()
  monkeypatch.setattr(records, "SHARD_LENGTH", 4)
  assert not (tmp_path / "set" / "meta.json").exists()
  with pytest.raises(ValueError, match="unfinished set"):
    PeopleSource(tmp_path / "set")
  with pytest.raises(ValueError, match="different set"):
    prepare_people(tmp_path / "set", 10, HW, seed=3, progress=False)
  monkeypatch.setattr(prepare_module, "render_person", lambda seed, index, *rest: (
      pytest.fail("rendered again") if index < 4 else render_person(seed, index, *rest)))
  assert _digests(prepare_people(tmp_path / "set", 10, HW, seed=2, progress=False)) == whole


@pytest.mark.distributed
def test_killed_for_real_and_with_other_process_counts(tmp_path):
  """Kill -9 while two processes render; one process finishes; the bytes are those of an undisturbed run."""
  def command(out, processes):
    code = (f"from input_pipeline.people import records, prepare\n"
            f"if __name__ == '__main__':\n"
            f"  records.SHARD_LENGTH = 40\n"
            f"  prepare.prepare_people({str(out)!r}, 200, (32, 16), 0, False, {processes})\n")
    script = tmp_path / f"prepare{processes}.py"
    script.write_text(code)
    return subprocess.Popen([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
  assert command(tmp_path / "whole", 1).wait() == 0
  killed = command(tmp_path / "set", 2)
  for _ in range(3000):
    if list((tmp_path / "set").glob("*.array_record")):
      break
    time.sleep(.01)
  killed.send_signal(signal.SIGKILL)
  killed.wait()
  assert not (tmp_path / "set" / "meta.json").exists()
  assert command(tmp_path / "set", 1).wait() == 0
  assert _digests(tmp_path / "set") == _digests(tmp_path / "whole")


def test_full_disk_is_one_clear_error_and_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
  class FullDisk:
    def __init__(self, *_):
      pass

    def write(self, record):
      pass

    def close(self):
      raise RuntimeError("write() failed: No space left on device")

  monkeypatch.setattr(records, "ArrayRecordWriter", FullDisk)
  with pytest.raises(ValueError, match="No space left on device.*make room"):
    prepare_people(tmp_path / "set", 3, HW, 0, progress=False)
  assert [path.name for path in (tmp_path / "set").iterdir()] == ["meta.partial.json"]


def test_default_set_prepares_itself_in_the_cache(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("SAIP_CACHE", str(tmp_path))
  source = open_people(None, 2)
  assert len(source) == 2 and (tmp_path / "people-2-256x128-seed0" / "meta.json").exists()
  assert "preparing 2 built-in people" in capsys.readouterr().err
  assert open_people(None, 2).identity == source.identity
  assert capsys.readouterr().err == ""


def test_bad_requests_are_named(tmp_path, small_shards):
  for count, hw, seed, word in ((0, HW, 0, "count=0"), (1, (8, 8), 0, "image_hw=8x8"), (1, HW, -1, "seed=-1")):
    with pytest.raises(ValueError, match=word):
      prepare_people(tmp_path / "set", count, hw, seed, progress=False)
  assert not (tmp_path / "set").exists()
  (tmp_path / "full").mkdir()
  (tmp_path / "full" / "thesis.tex").write_text("x")
  with pytest.raises(ValueError, match="not empty .*thesis.tex"):
    prepare_people(tmp_path / "full", 1, HW, 0, progress=False)
  (tmp_path / "file").write_text("x")
  with pytest.raises(ValueError, match="cannot be written"):
    prepare_people(tmp_path / "file", 1, HW, 0, progress=False)
  out = prepare_people(tmp_path / "set", 5, HW, 0, progress=False)
  shard = next(out.glob("*00001-of*"))
  shard.write_bytes(shard.read_bytes()[:-1])
  with pytest.raises(ValueError, match="lacks a whole people-00001"):
    PeopleSource(out)
