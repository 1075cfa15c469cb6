"""One run in one folder: the second is refused, and a run that is killed leaves no lock behind."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from input_pipeline.prepared import one_writer
from saip_jax.run_folder.files import LOCK
from saip_jax.run_folder.lock import holding
from tests.support.processes import TOY, finished, started
from tests.support.toy_method import train_toy

_HOLD = (
  "import pathlib, sys, time; from saip_jax.run_folder.lock import holding\n"
  "with holding(pathlib.Path(sys.argv[1])):\n  print('held', flush=True); time.sleep(600)"
)


@pytest.fixture
def other(tmp_path):
  """Another process, which holds the folder."""
  process = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
  assert process.stdout.readline() == "held\n"
  yield process
  process.kill()
  process.wait()


def test_the_second_run_names_the_holder(tmp_path, other):
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(ValueError) as caught:
    train_toy(tmp_path)
  message, year = str(caught.value), time.strftime("%Y-")
  for words in (
    f"--workdir={tmp_path} is in use by process {other.pid} on host {socket.gethostname()} since {year}",
    "choose another --workdir",
  ):
    assert words in message, message
  assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", LOCK]
  other.send_signal(signal.SIGKILL)
  other.wait()
  with holding(tmp_path):  # what a killed process held is free; its name stays in the file until then
    assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()


def test_a_run_lets_go_however_it_ends(tmp_path):
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(ValueError, match="config.batch_size"):
    train_toy(tmp_path, "batch_size=12", devices=8)
  with holding(tmp_path), holding(tmp_path):  # the command holds it already when the loop does
    pass
  command = [sys.executable, "-c", _HOLD.replace("600", "0"), str(tmp_path)]
  again = subprocess.run(command, capture_output=True, text=True)
  assert again.stdout == "held\n", again.stderr


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_locks_is_warned_of(tmp_path, monkeypatch, capsys, code):
  def refuse(*_):
    raise OSError(code, os.strerror(code))

  monkeypatch.setattr(fcntl, "flock", refuse)
  with holding(tmp_path):
    pass
  error = capsys.readouterr().err
  assert error.startswith("warning: ") and f"{LOCK} cannot be locked ({os.strerror(code)})" in error
  assert error.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
  (tmp_path / LOCK).mkdir()
  with pytest.raises(ValueError, match=f"--workdir={tmp_path} cannot be written .*; choose a folder"):
    with holding(tmp_path):
      pass


@pytest.mark.distributed
def test_all_processes_of_a_run_are_refused(tmp_path, other):
  """The first of them has the lock for all; where it is refused, no other waits or fails in its own way."""
  (tmp_path / "config.json").write_text("{}")
  with started([*TOY, f"--workdir={tmp_path}"], 2) as processes:
    results = finished(processes, timeout=90)
  for status, _, errors in results:
    assert status == 1 and f"is in use by process {other.pid}" in errors, errors
  assert not (tmp_path / "checkpoints").exists()


def test_a_second_writer_of_a_set_reports_that_it_waits(tmp_path, capsys):
  wrote = []

  def write():
    with one_writer(str(tmp_path)):
      wrote.append(1)

  second = threading.Thread(target=write)
  with one_writer(str(tmp_path)):
    second.start()
    printed = ""
    for _ in range(500):
      printed += capsys.readouterr().err
      if printed:
        break
      time.sleep(0.01)
    assert printed == f"waiting for another process that writes {tmp_path}\n" and not wrote
  second.join(10)
  assert wrote
