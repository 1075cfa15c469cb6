"""`saip pretrain --dry-run`: a page about the run to be, or the reason why it would fail, and nothing left behind."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import fsspec
import jax
import pytest

import saip_jax
from saip_jax import cli
from saip_jax.dry_run import dry_run
from saip_jax.recipes import open_recipe
from tests.support.processes import finished, run, started

SETTINGS = (
  "model.backbone=vit_nano",
  "model.image_hw=(64,32)",
  "method.mae.depth=1",
  "data.people_count=24",
  "batch_size=8",
  "total_steps=2",
  "checkpoint_every=1",
  "panel_every=0",
)
LABELS = "weights devices method images scenes canvas decoding run outputs workdir state batch loggers step memory work"
LABELS = [*LABELS.split(), "time", "saves", "ready"]


def _config(*settings):
  return open_recipe("mae_demo", _flags(*settings))


def _flags(*settings):
  return [f"--config.{setting}" for setting in (*SETTINGS, *settings)]


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  devices = jax.devices()[:1]
  monkeypatch.setattr(jax, "devices", lambda *_: devices)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """A run of two updates."""
  workdir = tmp_path_factory.mktemp("made") / "run"
  saip_jax.pretrain(_config(), workdir, devices=jax.devices()[:1])
  return workdir


@pytest.fixture
def command(capsys):
  """Runs the command; returns its status, and the lines of its output and of its error."""

  def call(workdir, *settings):
    capsys.readouterr()
    status = cli.main(["pretrain", "--config=mae_demo", f"--workdir={workdir}", "--dry-run", *_flags(*settings)])
    output, error = capsys.readouterr()
    return status, output.splitlines(), error.splitlines()

  return call


def _content(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
  return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def _label(line: str) -> str:
  return line[:9].strip()


def test_a_new_run(tmp_path, command):
  before = set(os.listdir(tempfile.gettempdir()))
  status, page, _ = command(tmp_path / "new" / "run")
  assert status == 0
  assert [_label(line) for line in page] == LABELS, page
  assert all(line[8] == " " and line[9] != " " for line in page)
  rows = {_label(line): line[9:] for line in page}
  assert rows["workdir"] == f"{tmp_path}/new/run can be written, is new or empty"
  assert rows["state"] == "a new run"
  assert rows["batch"].startswith("8 samples of 1 host(s) each in ") and "image 256x128x3" in rows["batch"]
  assert "GiB of this machine" in rows["memory"] and "temporaries" in rows["memory"]
  seconds = float(rows["time"].split(" s a step")[0])
  assert 0 < seconds < 60 and f"{8 / seconds:,.1f} images/s" in rows["time"] and "for 2 steps" in rows["time"]
  assert "2 at a time" in rows["saves"] and "GB are free" in rows["saves"]
  assert not list(tmp_path.iterdir())
  left = {name for name in set(os.listdir(tempfile.gettempdir())) - before if name.startswith("saip_dry_run")}
  assert not left


def test_the_size_of_a_checkpoint_is_that_of_its_files(made, tmp_path, command):
  _, page, _ = command(tmp_path / "run")
  (row,) = (line for line in page if _label(line) == "saves")
  predicted = float(row[9:].split(" MB")[0])
  written = sum(path.stat().st_size for path in (made / "checkpoints" / "2").rglob("*") if path.is_file()) / 1e6
  assert written == pytest.approx(predicted, rel=0.15)  # compressed


def test_an_existing_run(made, command):
  before = _content(made)
  status, page, _ = command(made, "total_steps=8", "optimizer.learning_rate=1e-3")
  rows = {_label(line): line[9:] for line in page}
  assert status == 0 and rows["workdir"] == f"{made} can be written, holds this run"
  assert rows["state"].startswith("resuming at step 2 with changed settings: optimizer.learning_rate was ")
  assert "total_steps was 2, now 8" in rows["state"] and "for 6 steps" in rows["time"]
  assert _content(made) == before


def test_a_complete_run(made, command):
  before = _content(made)
  status, page, _ = command(made)
  assert status == 0 and page[-1] == "state    complete: step 2 of 2; raise config.total_steps to go on"
  assert _content(made) == before


def test_another_run_is_the_reason(made, command):
  before = _content(made)
  status, page, error = command(made, "seed=1", "total_steps=8")
  assert status == 2 and not page and len(error) == 1
  assert f"--workdir={made} holds another run: config.seed was 0, now 1" in error[0]
  assert _content(made) == before


def test_a_damaged_checkpoint_is_the_reason(made, tmp_path, command):
  workdir = tmp_path / "run"
  shutil.copytree(made, workdir)
  (workdir / "checkpoints" / "2" / "fingerprint" / "metadata").unlink()
  before = _content(workdir)
  status, page, error = command(workdir, "total_steps=8")
  assert status == 2 and not page and "checkpoints/2 holds no checkpoint that is whole" in error[-1]
  assert _content(workdir) == before


@pytest.mark.parametrize(
  "settings, words",
  [
    (["data.source=folder", "data.path=nowhere"], "nowhere"),
    (["init_from=nowhere"], "--config.init_from=nowhere"),
    (["batch_size=8", "accumulate=16"], "config.accumulate"),
    (["monitor_every=1", "monitor_data=folder:nowhere"], "config.monitor_data=folder:nowhere"),
    (["loggers=juggler"], "config.loggers"),
  ],
)
def test_reasons(tmp_path, command, settings, words):
  status, page, error = command(tmp_path / "run", *settings)
  assert status == 2 and not page and error[-1].startswith("saip pretrain: error: ") and words in error[-1]
  assert not list(tmp_path.iterdir())


def test_initial_weights_and_monitors_are_opened(made, tmp_path, command):
  on = ("monitor_every=1", "monitors=attributes", "monitor_images=16")
  status, page, _ = command(tmp_path / "run", f"init_from={made}", *on)
  rows = {_label(line): line[9:] for line in page}
  assert status == 0 and f"of the run {made}" in rows["initial"] and rows["monitors"].startswith("attributes on ")


def test_folders_that_cannot_hold_it(tmp_path, command):
  (tmp_path / "file").write_text("")
  (tmp_path / "holiday").mkdir()
  (tmp_path / "holiday" / "beach.jpg").write_text("")
  for name, words in (
    ("file", "is a file"),
    ("holiday", "holds files but no config.json"),
    ("file/run", "cannot be written"),
  ):
    status, page, error = command(tmp_path / name)
    assert status == 2 and not page and words in error[0], error
  assert sorted(path.name for path in tmp_path.rglob("*")) == ["beach.jpg", "file", "holiday"]


def test_a_folder_in_use(made, command):
  hold = "import pathlib, sys, time; from saip_jax.run_folder.lock import holding\n"
  hold += "with holding(pathlib.Path(sys.argv[1])):\n  print('held', flush=True); time.sleep(600)"
  holder = subprocess.Popen([sys.executable, "-c", hold, str(made)], stdout=subprocess.PIPE, text=True)
  try:
    assert holder.stdout.readline() == "held\n"
    status, page, error = command(made, "total_steps=8")
  finally:
    holder.kill()
    holder.wait()
  assert status == 2 and not page and f"is in use by process {holder.pid}" in error[0]


def test_too_little_room_and_memory_are_reasons(tmp_path, command, monkeypatch):
  usage = shutil.disk_usage(tmp_path)
  with monkeypatch.context() as patch:
    patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    status, page, error = command(tmp_path / "run")
  assert status == 2 and not page and "too little room for checkpoints: 2 of 8.5 MB need 0.02 GB more" in error[-1]
  with monkeypatch.context() as patch:
    patch.setattr(os, "sysconf", lambda name: 2048 if "PAGE" in name and "SIZE" in name else 1024)
    status, page, error = command(tmp_path / "run")
  assert status == 2 and not page and "out of memory: the step needs" in error[-1] and "config.batch_size" in error[-1]
  assert not list(tmp_path.iterdir())


def test_a_bucket(command):
  files = fsspec.filesystem("memory")
  status, page, _ = command("memory://dry/run")
  rows = {_label(line): line[9:] for line in page}
  assert status == 0 and rows["workdir"] == "memory://dry/run can be written, is new or empty"
  assert "free" not in rows["saves"] and not files.find("/dry")
  saip_jax.pretrain(_config(), "memory://dry/run", devices=jax.devices()[:1])
  before = files.find("/dry")
  status, page, _ = command("memory://dry/run", "total_steps=8")
  rows = {_label(line): line[9:] for line in page}
  assert status == 0 and rows["state"].startswith("resuming at step 2") and files.find("/dry") == before


def test_the_function_returns_the_page(tmp_path, capsys):
  page = dry_run(_config(), tmp_path / "run", devices=jax.devices()[:1])
  assert capsys.readouterr().out.splitlines() == page and [_label(line) for line in page] == LABELS


# Gloo writes to the standard output of the process, in the midst of Python's lines: here it is Python's alone.
_PYTHON_ALONE = "import os, sys\nsys.stdout = os.fdopen(os.dup(1), 'w')\nos.dup2(os.open(os.devnull, os.O_WRONLY), 1)\n"


@pytest.mark.slow
@pytest.mark.distributed
def test_several_processes(tmp_path):
  code = f"{_PYTHON_ALONE}from saip_jax.cli import main; sys.exit(main())"
  command = [sys.executable, "-c", code, "pretrain", "--config=mae_demo", f"--workdir={tmp_path / 'run'}"]
  first, second = map(str.splitlines, run([*command, "--dry-run", *_flags()], 2, timeout=500))
  assert [_label(line) for line in first] == LABELS and not second
  rows = {_label(line): line[9:] for line in first}
  assert rows["batch"].startswith("4 samples of 2 host(s) each") and "8 x cpu" in rows["devices"]
  assert not list(tmp_path.iterdir())
  with started([*command, "--dry-run", *_flags("data.source=folder", "data.path=nowhere")], 2) as processes:
    results = finished(processes, timeout=500)
  assert all(status == 2 and "nowhere" in error.splitlines()[-1] for status, _, error in results)


@pytest.mark.slow
@pytest.mark.distributed
def test_an_error_of_one_process_is_raised_on_all():
  code = _PYTHON_ALONE + (
    "import jax; from saip_jax.training.distributed import initialize, on_all_hosts\n"
    "initialize()\n"
    "def fail():\n  if jax.process_index() == 1: raise OSError('disk gone')\n  return 'fine'\n"
    "try:\n  on_all_hosts(fail)\nexcept (ValueError, OSError) as e:\n  print(type(e).__name__, e)"
  )
  first, second = map(str.splitlines, run([sys.executable, "-c", code], 2))
  assert (first, second) == (["ValueError on process 1: disk gone"], ["OSError disk gone"])
