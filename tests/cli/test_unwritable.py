"""Places that cannot be written, or are URLs: the message names the option that helps, and no result is lost."""

import dataclasses
import json
import pathlib

import cv2
import numpy as np
import pytest

from input_pipeline import storage
from input_pipeline.people import prepare
from input_pipeline.people.dataset import open_people
from input_pipeline.people.spec import SetSpec
from input_pipeline.scenes import open_scenes
from input_pipeline.sources.containers.folder import FolderSource
from saip_jax import cli
from saip_jax.evaluation.encoders import open_encoder
from saip_jax.evaluation.feature_files import feature_file
from saip_jax.evaluation.tasks import TASKS
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.reporting.report import write_report
from saip_jax.run_folder.folder import claim_workdir
from saip_jax.run_folder.lock import holding
from tests.support.toy_people import toy_picture

REPO = pathlib.Path(__file__).resolve().parents[2]
RECIPE = f"--config={REPO / 'configs' / 'mae_demo.py'}"
ENCODER, DATA = "--checkpoint=random:vit_nano", "--data=people"


LOCAL = [
  ["pretrain", "--config=URL", "--workdir=w"],
  ["compile", "--config=URL", "--topology=v5e-8"],
  ["prepare", "people", "--count=4", "--out=URL"],
  ["prepare", "people", "--preview=URL"],
  ["evaluate", ENCODER, "--task=reid", DATA, "--finetune=URL", "--workdir=w"],
]
REMOTE = [
  ["pretrain", RECIPE, "--workdir=URL"],
  ["pretrain", RECIPE, "--workdir=w", "--config.init_from=URL", "--config.data.people_count=24"],
  ["embed", ENCODER, "--images=i", "--out=URL"],
  ["embed", "--checkpoint=URL", "--images=i", "--out=f.npz"],
  ["evaluate", "--checkpoint=URL", "--task=reid", DATA],
  ["evaluate", ENCODER, "--task=reid", DATA, "--finetune=finetune_reid", "--workdir=URL"],
  ["export", "--checkpoint=URL", "--dialect=timm", "--out=o"],
  ["export", "--checkpoint=c", "--dialect=timm", "--out=URL"],
  ["import", "--from=URL", "--out=o"],
  ["import", "--from=f", "--out=URL"],
  ["report", "URL"],
  ["report", "w", "--compare", "w2", "URL"],
  ["report", "w", "--out=URL"],
]


def refused(command, url, capsys):
  """Runs a command that ends with one line; returns the line."""
  try:
    status = cli.main([word.replace("URL", url) for word in command])
  except SystemExit as stopped:  # by a flag itself
    status = stopped.code
  error = capsys.readouterr().err
  assert status == 2 and error.startswith(f"saip {command[0]}") and error.count("\n") == 1, error
  return error


@pytest.mark.parametrize("command", LOCAL, ids=lambda command: " ".join(command)[:60])
@pytest.mark.parametrize("url", ["gs://bucket/w", "file:/tmp/w"])
def test_a_url_where_only_local_paths_work_is_refused(tmp_path, monkeypatch, capsys, command, url):
  monkeypatch.chdir(tmp_path)
  assert f"{url} is a URL: expected a path on this machine" in refused(command, url, capsys)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", REMOTE, ids=lambda command: " ".join(command)[:60])
def test_a_url_of_an_unknown_scheme_is_refused(tmp_path, monkeypatch, capsys, command):
  monkeypatch.chdir(tmp_path)
  error = refused(command, "ftp://bucket/w", capsys)
  assert "ftp://bucket/w" in error and "gs://, s3://, hf://" in error, error
  assert not any(path.name.startswith("ftp") for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
  "call", [lambda url: prepare.prepare_people(url, SetSpec("crops", (64, 32), 0, 2), 4), lambda url: load_recipe(url)]
)
@pytest.mark.parametrize("url", ["s3://bucket/w", pathlib.Path("s3://bucket/w")])
def test_the_library_refuses_it_as_the_command_does(tmp_path, monkeypatch, call, url):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match="s3:/.*bucket/w is a URL"):
    call(url)
  assert not list(tmp_path.iterdir())


def test_data_and_compiled_programs_may_lie_at_a_url(monkeypatch):
  places = {"data.path": "set", "data.scene_path": "scenes", "data.subset": "names", "compile_cache": "compiled"}
  settings = [f"--config.{name}=gs://b/{place}" for name, place in places.items()]
  config = parse_config(apply_overrides(load_recipe(REPO / "configs" / "mae_demo.py"), settings))
  assert config.data.path == "gs://b/set"
  monkeypatch.setenv("SAIP_CACHE", "gs://b/cache")
  with pytest.raises(ValueError, match="SAIP_CACHE=gs://b/cache is a URL"):
    storage.cache_folder()


@pytest.fixture
def blocked(tmp_path):
  """A folder that can hold nothing: it is a file."""
  path = tmp_path / "blocked"
  path.write_text("")
  return path


def test_the_advice_is_about_what_decides_the_place(tmp_path, blocked, monkeypatch):
  cv2.imwrite(str(tmp_path / "0.png"), np.zeros((8, 8, 3), np.uint8))
  monkeypatch.setenv("SAIP_CACHE", str(blocked))
  with pytest.raises(ValueError, match=f"index {blocked}.* cannot be written .*; set SAIP_CACHE to a folder") as caught:
    FolderSource(tmp_path, blocked / "indices")
  assert "--workdir" not in str(caught.value)
  for make in (lambda: open_people(None, 16, None), lambda: open_scenes(tmp_path, (8, 8), tmp_path / "other")):
    with pytest.raises(ValueError, match=f"{blocked}/.* cannot be written .*; set SAIP_CACHE to a folder") as caught:
      make()
    assert "--out" not in str(caught.value)
  monkeypatch.delenv("SAIP_CACHE")
  with pytest.raises(ValueError, match="cannot be written .*TMPDIR") as caught:
    FolderSource(tmp_path, blocked)
  assert "--workdir" not in str(caught.value)
  with pytest.raises(ValueError, match="--workdir=.*blocked/run cannot be written .*; choose a folder"):
    claim_workdir(blocked / "run", {})
  with pytest.raises(ValueError, match="--out=.*blocked/f.npz cannot be written .*; choose another place"):
    with feature_file(blocked / "f.npz", []):
      pass
  run = claim_workdir(tmp_path / "run", {}).path
  with pytest.raises(ValueError, match="page .*blocked/page.html cannot be written .*--out"):
    write_report(run, out=blocked / "page.html")


def test_a_run_folder_in_the_index_advice(tmp_path):
  run = claim_workdir(tmp_path / "run", {}).path
  cv2.imwrite(str(tmp_path / "0.png"), np.zeros((8, 8, 3), np.uint8))
  with holding(run), pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(storage.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ValueError, match="index .* cannot be written .No space.*; choose a --workdir"):
      FolderSource(tmp_path, run)


def test_why_a_file_cannot_be_written_is_not_hidden(tmp_path, monkeypatch):
  def read_only(*_, **__):
    raise OSError(30, "Read-only file system")

  monkeypatch.setattr(pathlib.Path, "unlink", read_only)
  with pytest.raises(ValueError, match="the reason"):
    with storage.written_whole(str(tmp_path / "a.txt")):
      raise ValueError("the reason")


@pytest.mark.parametrize("as_json", [True, False])
def test_scores_are_printed_before_they_are_kept(tmp_path, monkeypatch, capsys, as_json):
  monkeypatch.setattr(prepare, "render_picture", toy_picture)
  prepare.prepare_people(tmp_path / "people", SetSpec("crops", (64, 32), 0, 20), 160, progress=False, processes=1)
  run = claim_workdir(tmp_path / "run", {}).path
  (run / "checkpoints" / "4").mkdir(parents=True)
  (run / "evaluations.jsonl").mkdir()  # cannot be appended to
  histogram = lambda *_: open_encoder("histogram", image_hw=(64, 32))
  monkeypatch.setitem(TASKS, "reid", dataclasses.replace(TASKS["reid"], open=histogram))
  command = ["evaluate", f"--checkpoint={run}", "--task=reid", f"--data=people:{tmp_path / 'people'}"]
  assert cli.main(command + ["--json"] * as_json) == 0
  output, errors = capsys.readouterr()
  if as_json:
    assert 0 < json.loads(output)["scores"]["mAP"] <= 1
  else:
    assert "mAP" in output
  assert errors.startswith("warning: ") and errors.count("\n") == 1, errors
  assert "evaluations.jsonl cannot be written (Is a directory)" in errors and "--compare" in errors


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--finetune=nope.py", "--workdir=w"], ["--finetune=nope.py", "no such file"]),
    (["--finetune=finetune_keypoints", "--workdir=w"], ["recipe of finetune keypoints", "--task=reid"]),
    (["--finetune=finetune_reid"], ["--workdir is needed"]),
    (["--finetune=finetune_reid", "--workdir=w", "--config.batchsize=8"], ["did you mean 'batch_size'"]),
    (["--finetune=finetune_reid", "--workdir=w", "--config.seed=1"], ["--config.seed", "--seed"]),
  ],
)
def test_what_is_wrong_with_fine_tuning_shows_before_data_are_opened(monkeypatch, capsys, flags, words):
  def opened(*_, **__):
    raise AssertionError("the data were opened")

  monkeypatch.setattr("saip_jax.evaluation.splits.open_source", opened)
  assert cli.main(["evaluate", ENCODER, "--task=reid", DATA, *flags]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and all(word in error for word in words), error
