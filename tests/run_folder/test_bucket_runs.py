"""A run in a bucket: the same run as in a local folder, whatever happens to the machine, the network or the bucket."""

import json
import pathlib
import re
import uuid

import jax
import numpy as np
import pytest

from input_pipeline import buckets, storage
from saip_jax import cli
from saip_jax.run_folder import remote
from saip_jax.run_folder.bucket import BucketFolder, RunTakenOver
from saip_jax.training import checkpoint
from saip_jax.training.checkpoint import CheckpointError
from saip_jax.training.metrics import read_metrics
from tests.support.golden import GOLDEN, add_golden_backbones
from tests.support.toy_method import train_toy

pytestmark = pytest.mark.compile


@pytest.fixture
def url(tmp_path, monkeypatch):
  """The URL of a run in a bucket in memory; this machine's disk is empty."""
  monkeypatch.setenv("SAIP_CACHE", str(tmp_path / "first_machine"))
  monkeypatch.setattr(checkpoint, "_PAUSE_S", 0)
  return f"memory://{uuid.uuid4().hex}/runs/toy"


def names(url) -> set[str]:
  return set(buckets.versions(url))


def steps_of(url) -> list[int]:
  return [record["step"] for record in read_metrics(remote.local(url) / "metrics.jsonl")]


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_run_in_a_bucket_is_the_run_on_disk_and_goes_on_on_another_machine(url, tmp_path, monkeypatch, capsys):
  train_toy(url, "panel_every=3")
  assert {"config.json", "metrics.jsonl", "goodput.json", "starts.jsonl"} <= names(url)
  assert "panels/000006_views.png" in names(url) and "run.lock" not in names(url)
  assert f"checkpoint {url}/checkpoints/6" in capsys.readouterr().out
  left = [path.name for path in (tmp_path / "first_machine" / "runs").rglob("*") if path.is_file()]
  assert left == ["run.lock"]  # the disk of the machine does not fill with runs

  monkeypatch.setenv("SAIP_CACHE", str(tmp_path / "second_machine"))
  there = train_toy(url, "panel_every=3", "total_steps=10")
  for total in (6, 10):
    here = train_toy(tmp_path / "local", "panel_every=3", f"total_steps={total}")
  assert_equal(here, there)
  assert steps_of(url) == list(range(1, 11))
  assert remote.committed_steps(names(url)) == [10, 9, 6]
  assert sum(name.startswith("tensorboard/") for name in names(url)) == 2  # one a start
  starts = storage.read_file(f"{url}/starts.jsonl").splitlines()
  assert [json.loads(line)["step"] for line in starts] == [0, 6]


def test_records_after_the_last_checkpoint_are_not_there_twice(url, monkeypatch, tmp_path):
  """The machine is lost after the records of step 6 were uploaded and before its checkpoint was."""
  upload = BucketFolder.upload_checkpoint

  def lost(self, step, *keep):
    if step == 6:
      raise KeyboardInterrupt
    upload(self, step, *keep)

  monkeypatch.setattr(BucketFolder, "upload_checkpoint", lost)
  with pytest.raises(KeyboardInterrupt):
    train_toy(url)
  monkeypatch.undo()
  monkeypatch.setenv("SAIP_CACHE", str(tmp_path / "second_machine"))
  assert steps_of(url) == list(range(1, 7)) and remote.committed_steps(names(url)) == [3]
  state = train_toy(url)
  assert steps_of(url) == list(range(1, 7))
  assert_equal(state, train_toy(tmp_path / "local"))


def test_a_checkpoint_that_is_half_uploaded_is_passed_over(url, monkeypatch, tmp_path):
  train_toy(url)
  storage.write_file(f"{url}/checkpoints/9/state/d", b"half")
  monkeypatch.setenv("SAIP_CACHE", str(tmp_path / "second_machine"))
  assert "9" not in [path.name for path in (remote.local(url) / "checkpoints").iterdir()]
  state = train_toy(url, "total_steps=8")
  train_toy(tmp_path / "local")
  assert_equal(state, train_toy(tmp_path / "local", "total_steps=8"))
  assert f"{url}/checkpoints/9/state/d" not in names(url)


def test_a_folder_with_other_files_is_no_workdir(url):
  storage.write_file(f"{url}/holiday.jpg", b"")
  with pytest.raises(ValueError, match="holds files but no config.json of a run: choose an empty or new folder"):
    train_toy(url)
  assert names(url) == {"holiday.jpg"}


def test_another_run_is_refused_and_left_as_it_was(url):
  train_toy(url, "total_steps=3")
  before = {name: version for name, version in buckets.versions(url).items() if name.startswith("checkpoints/")}
  with pytest.raises(ValueError, match=f"--workdir={url} holds another run: .*width"):
    train_toy(url, "method.width=6")
  assert before.items() <= buckets.versions(url).items()


def test_a_bucket_without_rights_is_one_line(url, monkeypatch):
  def denied(*_):
    raise PermissionError("Access Denied")

  monkeypatch.setattr(storage, "write_file", denied)
  with pytest.raises(ValueError, match=f"--workdir={url} cannot be written .*Access Denied.*its account may write"):
    train_toy(url)


def test_the_run_that_was_started_last_goes_on(url, monkeypatch, tmp_path, capsys):
  """The earlier one stops at its next checkpoint, and writes nothing more."""
  publish, uploaded = BucketFolder.publish, []

  def taken_over(self):
    storage.write_file(f"{url}/run.lock", json.dumps({"id": "b", "process": 7, "host": "b", "since": "now"}).encode())
    uploaded.append(buckets.versions(url))
    publish(self)

  monkeypatch.setattr(BucketFolder, "publish", taken_over)
  with pytest.raises(RunTakenOver, match=f"{url} was taken over by process 7 on host b since now: this run stops"):
    train_toy(url)
  assert buckets.versions(url).keys() == uploaded[0].keys()
  monkeypatch.undo()
  monkeypatch.setenv("SAIP_CACHE", str(tmp_path / "second_machine"))
  train_toy(url)
  assert f"process 7 on host b since now held {url}" in capsys.readouterr().out


def failing(monkeypatch, times: int):
  """Lets the first uploads of checkpoints fail."""
  upload, failures = buckets.upload, iter(range(times))

  def fail(path, url):
    if url.endswith("commit_success.txt") and next(failures, None) is not None:
      raise PermissionError("quota exceeded")
    upload(path, url)

  monkeypatch.setattr(buckets, "upload", fail)


def test_a_save_that_fails_once_is_tried_again(url, monkeypatch, tmp_path, capsys):
  failing(monkeypatch, 1)
  state = train_toy(url)
  assert "step 3 could not be saved: " in capsys.readouterr().err
  assert 6 in remote.committed_steps(names(url))
  assert_equal(state, train_toy(tmp_path / "local"))


def test_saves_that_keep_failing_end_the_run_with_the_last_good_one(url, monkeypatch):
  train_toy(url, "total_steps=3")
  failing(monkeypatch, 100)
  with pytest.raises(CheckpointError, match=f"quota exceeded.*last good checkpoint: {url}/checkpoints/3") as caught:
    train_toy(url, "total_steps=12")
  assert "\n" not in str(caught.value)
  assert remote.committed_steps(names(url)) == [3]


def test_several_processes_need_a_bucket_that_orbax_writes(url, monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  with pytest.raises(ValueError, match="a run of several processes can be in gs:// or in a folder"):
    BucketFolder(url)


@pytest.mark.slow
def test_every_reader_takes_a_url(tmp_path, monkeypatch, capsys):
  """A run, its checkpoint, an export and an import of it, its features and its report."""
  add_golden_backbones(monkeypatch)
  url = f"memory://{uuid.uuid4().hex}/saip"
  for path in (GOLDEN / "saip").rglob("*"):
    if path.is_file():
      buckets.upload(path, f"{url}/{path.relative_to(GOLDEN / 'saip').as_posix()}")
  data = ["--data=people", "--people-count=24"]
  photos = tmp_path / "photos"
  photos.mkdir()
  storage.write_file(str(photos / "a.png"), _png())

  def saip(*arguments):
    assert cli.main(list(arguments)) == 0, capsys.readouterr().err
    return capsys.readouterr().out

  record = json.loads(saip("evaluate", f"--checkpoint={url}", "--task=attributes", *data, "--json"))
  assert record["encoder"]["checkpoint"].endswith(f"of the run {url}")
  assert storage.read_file(f"{url}/evaluations.jsonl").decode().splitlines()[-1] == json.dumps(record)
  assert f"{url}/export" in saip("export", f"--checkpoint={url}", "--dialect=safetensors", f"--out={url}/export")
  assert "memory" not in storage.read_file(f"{url}/export/README.md").decode().replace(url, "")
  assert f"--config.init_from={url}/import" in saip("import", f"--from={url}/export", f"--out={url}/import")
  with pytest.raises(AssertionError, match="exists already"):
    saip("export", f"--checkpoint={url}", "--dialect=safetensors", f"--out={url}/export")
  saip("embed", f"--checkpoint={url}/import", f"--images={photos}", f"--out={url}/features/f.npz")
  with np.load(remote.local(f"{url}/features/f.npz")) as features:
    assert features["names"].tolist() == ["a.png"]
  assert f"{url}/report.html opens" in saip("report", url, *data[:1], "--compare", url)
  page = storage.read_file(f"{url}/report.html").decode()
  assert re.findall(r".{60}saip_copies.{60}", page) == []
  assert not any("saip_copies" in name for name in names(url))


def _png() -> bytes:
  import cv2

  return cv2.imencode(".png", np.zeros((64, 32, 3), np.uint8))[1].tobytes()


def test_a_clock_that_was_ahead_does_not_spoil_the_record(tmp_path, monkeypatch):
  train_toy(tmp_path, "total_steps=3")
  path = pathlib.Path(tmp_path / "goodput.json")
  path.write_text(json.dumps(json.loads(path.read_text()) | {"started": 4e9}))
  train_toy(tmp_path, "log_every=1")
  shares = [record["time/goodput"] for record in read_metrics(tmp_path / "metrics.jsonl") if record["step"] > 3]
  assert all(0 <= share <= 1 for share in shares) and json.loads(path.read_text())["started"] < 4e9
