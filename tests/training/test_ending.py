"""How runs end: everything is closed, and the error that is raised is the one that ended the run."""

import json

import jax
import pytest

from saip_jax.running import train_in_folder
from saip_jax.training.checkpoint import CheckpointError, Checkpoints
from saip_jax.training.ending import Ending
from saip_jax.training.metrics import MetricsWriter
from saip_jax.training.telemetry import NonFiniteLoss
from tests.support.toy_method import Toy, ToyData, toy_config, train_toy


def _fail(error):
  def fail(*_, **__):
    raise error

  return fail


def test_all_is_closed_the_newest_first_and_the_first_error_is_raised(capsys):
  calls = []
  with pytest.raises(ValueError, match="of the block"):
    with Ending() as ending:
      ending.then("closing a", lambda: calls.append("a"))
      ending.then("closing b", _fail(OSError(28, "No space left on device")))
      ending.then("closing c", lambda: calls.append("c"))
      raise ValueError("of the block")
  assert calls == ["c", "a"]
  assert capsys.readouterr().err == "warning: as the run ended, closing b failed: [Errno 28] No space left on device\n"


def test_without_an_error_the_first_failure_is_raised(capsys):
  with pytest.raises(OSError, match="first"):
    with Ending() as ending:
      ending.then("closing a", _fail(KeyError("second")))
      ending.then("closing b", _fail(OSError("first")))
  assert capsys.readouterr().err == "warning: as the run ended, closing a failed: 'second'\n"
  ending = Ending()
  ending.then("closing a", _fail(OSError("early")))
  with pytest.raises(OSError, match="early"):
    ending.close()
  with ending:
    pass  # closed once


def test_nothing_replaces_a_non_finite_loss(tmp_path, monkeypatch, capsys):
  for owner, name in ((MetricsWriter, "close"), (Checkpoints, "close"), (Checkpoints, "wait")):
    monkeypatch.setattr(owner, name, _fail(CheckpointError(f"{owner.__name__}.{name} failed")))
  (tmp_path / "run" / "nonfinite_step_5_host_0.json").mkdir(parents=True)  # cannot be written
  (tmp_path / "run" / "config.json").write_text("{}")
  (tmp_path / "run" / "damaged_images.txt").mkdir()
  with pytest.raises(NonFiniteLoss) as caught:
    train_toy(tmp_path / "run", "panel_every=0", black_step=4, damage=["a.jpg: cut"])
  message, errors = str(caught.value), capsys.readouterr().err
  for words in (
    "non-finite loss at step 5",
    "nonfinite_step_5_host_0.json cannot be written (Is a directory)",
    "checkpoints/3",
    "learning_rate",
    "Checkpoints.wait failed",
  ):
    assert words in message, message
  for words in (
    "closing the records failed: MetricsWriter.close failed",
    "closing the checkpoints failed: ",
    "damaged_images.txt cannot be written (Is a directory)",
  ):
    assert errors.count(words) == 1, errors


def test_nothing_replaces_the_error_of_the_data(tmp_path, monkeypatch):
  class Data(ToyData):
    def batches(self, *args):
      try:
        yield from (batch for _, batch in zip(range(4), super().batches(*args)))
        raise ValueError("too many damaged images")
      finally:
        raise_in_close()

  raise_in_close = lambda: None
  monkeypatch.setattr(MetricsWriter, "close", _fail(OSError("no space")))
  config = toy_config()
  with pytest.raises(ValueError, match="too many damaged images"):
    train_in_folder(config, Toy.build(config), lambda _: Data(8), tmp_path, devices=jax.devices()[:1])


def test_a_list_that_cannot_be_written_ends_no_run(tmp_path, capsys):
  (tmp_path / "run" / "damaged_images.txt").mkdir(parents=True)
  (tmp_path / "run" / "config.json").write_text("{}")
  assert train_toy(tmp_path / "run", damage=["a.jpg: cut"]).step == 6
  output, errors = capsys.readouterr()
  assert "a.jpg: cut" in output and errors.count("damaged_images.txt cannot be written") == 1
  assert train_toy(tmp_path / "run", damage=["a.jpg: cut"]).step == 6  # complete: tries again


def test_records_that_are_none_do_not_stop_a_run(tmp_path):
  train_toy(tmp_path, "total_steps=3")
  with (tmp_path / "metrics.jsonl").open("ab") as file:
    file.write(b'{}\n[1]\n7\n{"step": "x"}\n\xff\xfe\n')
  assert train_toy(tmp_path).step == 6
  steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert steps == [1, 2, 3, 4, 5, 6]
