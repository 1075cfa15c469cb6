"""`saip prepare people`: killed and restarted, on a full disk, and with impossible requests."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from input_pipeline import shards
from input_pipeline.people import prepare as prepare_module, records
from input_pipeline.people.dataset import PeopleSource, open_people
from input_pipeline.people.prepare import default_identities
from tests.support.toy_people import prepare, spec_of, toy_picture


def digests(folder):
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    for path in folder.rglob("*")
  }


@pytest.fixture
def toy(monkeypatch):
  """Shards of 4 toy pictures."""
  monkeypatch.setattr(records, "SHARD_LENGTH", 4)
  monkeypatch.setattr(prepare_module, "render_picture", toy_picture)


class Killed(BaseException):
  """An exception that no handler catches."""


def _die_at(monkeypatch, step):
  """Raises Killed instead of, or right after, one of the calls that change the disk, counted from 0."""
  calls = iter(range(10**9))
  for owner, name in (
    (os, "replace"),
    (shutil, "rmtree"),
    (pathlib.Path, "write_bytes"),
    (pathlib.Path, "write_text"),
    (pathlib.Path, "unlink"),
    (pathlib.Path, "mkdir"),
  ):

    def call(*args, _call=getattr(owner, name), **options):
      call_number = next(calls)
      if call_number == step // 2 and step % 2:
        raise Killed
      result = _call(*args, **options)
      if call_number == step // 2:
        raise Killed
      return result

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("composition, export", [("crops", None), ("scenes", "coco"), ("crops", "market1501")])
def test_killed_at_any_step_it_goes_on_to_the_same_bytes(tmp_path, toy, composition, export):
  spec, count = spec_of(composition), 10
  whole = digests(prepare(tmp_path / "whole", spec, count, export))
  step = 0
  while True:
    out = tmp_path / f"killed{step}"
    with pytest.MonkeyPatch.context() as patches:
      _die_at(patches, step)
      try:
        prepare(out, spec, count, export)
        break  # there were no more steps to die at
      except Killed:
        pass
    found = digests(out) if out.exists() else {}
    if "meta.json" in found:
      assert whole.items() <= found.items()
    else:
      assert not {"annotations", "query"} & found.keys() or (out / "unfinished" / "whole" / "meta.json").exists()
      with pytest.raises(ValueError, match="unfinished set|no prepared set"):
        PeopleSource(out)
    assert digests(prepare(out, spec, count, export)) == whole
    step += 1
  assert step > (12 if export is None else 50)


def test_whole_shards_are_not_rendered_again(tmp_path, toy, monkeypatch):
  def render(spec, index):
    if index == dies_at or index < first:
      raise Killed(f"rendered {index}")
    return toy_picture(spec, index)

  monkeypatch.setattr(prepare_module, "render_picture", render)
  for export in (None, "coco", "market1501"):
    first, dies_at = 0, 6
    with pytest.raises(Killed):
      prepare(tmp_path / str(export), spec_of(), 10, export)
    with pytest.raises(ValueError, match="different set"):
      prepare(tmp_path / str(export), spec_of(seed=3), 10, export)
    first, dies_at = 4, None
    prepare(tmp_path / str(export), spec_of(), 10, export)


@pytest.mark.compile
@pytest.mark.distributed
@pytest.mark.parametrize(
  "composition, export, shards", [("crops", None, "*.array_record"), ("scenes", "coco", "unfinished/*.array_record")]
)
def test_killed_for_real_and_with_other_process_counts(tmp_path, composition, export, shards):
  """Kill -9 twice while two processes render; one process finishes; the bytes are those of an undisturbed run."""
  script = tmp_path / "prepare.py"
  script.write_text(
    "import sys\n"
    f"sys.path[:0] = {sys.path!r}\n"
    "from tests.support.toy_people import toy_picture\n"
    "from input_pipeline.people import prepare, records\n"
    "from input_pipeline.people.spec import SetSpec\n"
    "prepare.render_picture = toy_picture  # in spawned processes too: they import this file\n"
    "if __name__ == '__main__':\n"
    "  records.SHARD_LENGTH = 40\n"
    f"  spec = SetSpec({composition!r}, (64, 32), 0, 120)\n"
    f"  prepare.prepare_people(sys.argv[1], spec, 400, {export!r}, False, int(sys.argv[2]))\n"
  )

  def start(name, processes):
    return subprocess.Popen([sys.executable, script, tmp_path / name, str(processes)], stderr=subprocess.DEVNULL)

  assert start("whole", 1).wait() == 0
  for shards_left in (1, 3):
    running = start("killed", 2)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed").glob(shards))) < shards_left and time.monotonic() < deadline:
      time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not {"meta.json", "annotations", "images"} & digests(tmp_path / "killed").keys()
  assert start("killed", 1).wait() == 0
  assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_full_disk_is_one_clear_error_and_leaves_nothing_that_looks_whole(tmp_path, monkeypatch, toy):
  class FullDisk:
    def __init__(self, *_):
      pass

    def write(self, record):
      pass

    def close(self):
      raise RuntimeError("write() failed: No space left on device")

  with monkeypatch.context() as patches:
    patches.setattr(shards, "ArrayRecordWriter", FullDisk)
    with pytest.raises(ValueError, match="No space left on device.*make room"):
      prepare(tmp_path / "set", spec_of(), 3)
  assert [path.name for path in (tmp_path / "set").iterdir()] == ["meta.partial.json"]

  def full(path, data):
    raise OSError(28, "No space left on device")

  with monkeypatch.context() as patches:
    patches.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(ValueError, match="No space left on device.*make room"):
      prepare(tmp_path / "market", spec_of(), 3, "market1501")
  assert sorted(path.name for path in (tmp_path / "market").iterdir()) == ["meta.partial.json", "unfinished"]
  prepare(tmp_path / "market", spec_of(), 3, "market1501")


def test_default_set_prepares_itself_in_the_cache(tmp_path, monkeypatch, capsys, toy):
  monkeypatch.setenv("SAIP_CACHE", str(tmp_path))
  source = open_people(None, 2)
  [folder] = tmp_path.iterdir()
  assert len(source) == 2 and (folder / "meta.json").exists() and "2-256x128-seed0" in folder.name
  assert "preparing 2 built-in people" in capsys.readouterr().err
  assert open_people(None, 2).identity == source.identity
  assert capsys.readouterr().err == ""
  monkeypatch.setenv("SAIP_CACHE", str(folder / "meta.json"))
  with pytest.raises(ValueError, match="SAIP_CACHE.*cannot be written"):
    open_people(None, 2)


def test_default_identities():
  assert [default_identities("crops", count) for count in (1, 8, 9)] == [1, 1, 2]
  assert [default_identities("scenes", count) for count in (1, 200)] == [120, 200]


def test_bad_requests_are_named(tmp_path, toy):
  for composition, count, export, words in (
    ("crops", 0, None, "--count=0: .*at least 1"),
    ("views", 6, None, "--count=6: views come in groups of 4 images; .*8"),
    ("clips", 12, None, "--count=12: clips come in groups of 8 images; .*16"),
    ("crops", 8, "voc", "--export=voc is unknown; choose one of: coco, market1501"),
    ("scenes", 8, "market1501", "--export=market1501 cannot hold scenes; expected --composition=crops"),
  ):
    with pytest.raises(ValueError, match=words):
      prepare(tmp_path / "set", spec_of(composition), count, export)
  assert not (tmp_path / "set").exists()
  (tmp_path / "full").mkdir()
  (tmp_path / "full" / "thesis.tex").write_text("x")
  for content in ("[1, 2]", "no json", '{"title": "my results"}'):
    (tmp_path / "full" / "meta.json").write_text(content)
    with pytest.raises(ValueError, match="not empty .*thesis.tex"):
      prepare(tmp_path / "full", spec_of(), 1)
    assert (tmp_path / "full" / "meta.json").read_text() == content
  (tmp_path / "file").write_text("x")
  for path in (tmp_path / "file", tmp_path / "file" / "below", pathlib.Path("/proc/nowhere")):
    with pytest.raises(ValueError, match="cannot be written"):
      prepare(path, spec_of(), 1)


def test_folders_that_are_no_whole_set_are_named(tmp_path, toy):
  (tmp_path / "empty").mkdir()
  with pytest.raises(ValueError, match="no prepared set .*saip prepare people"):
    PeopleSource(tmp_path / "empty")
  with pytest.raises(ValueError, match="other tools .*--export=market1501.*without --export"):
    PeopleSource(prepare(tmp_path / "market", spec_of(), 1, "market1501"))
  out = prepare(tmp_path / "set", spec_of(), 5)
  shard = next(out.glob("*00001-of*"))
  shard.write_bytes(shard.read_bytes()[:-1])
  with pytest.raises(ValueError, match="lacks a whole people-00001"):
    PeopleSource(out)
  shard.unlink()
  whole = digests(prepare(tmp_path / "whole", spec_of(), 5))
  assert digests(prepare(out, spec_of(), 5)) == whole  # what the error says to do
  meta = json.loads((out / "meta.json").read_text())
  (out / "meta.json").write_text(json.dumps(meta | {"format": "saip_jax built-in people"}))
  with pytest.raises(ValueError, match="no prepared set of people that this version reads"):
    PeopleSource(out)
  with pytest.raises(ValueError, match="different set .*format saip_jax built-in people there"):
    prepare(out, spec_of(), 5)
