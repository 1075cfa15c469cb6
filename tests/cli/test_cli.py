"""The command: one line for a user error, the right library call otherwise."""

import pathlib
import subprocess
import sys

import pytest

import saip_jax
from saip_jax import cli, pretraining
from saip_jax.methods import METHODS
from tests.support.toy_method import TOY_METHODS, ToyData, toy_recipe

pytestmark = pytest.mark.compile


@pytest.fixture
def recipe(tmp_path):
  path = tmp_path / "recipe.py"
  path.write_text(f"def get_config():\n  return {toy_recipe()!r}\n")
  return path


@pytest.fixture
def toy(monkeypatch):
  """Lets the command train the toy method on toy images; returns what reaches the pipeline."""
  calls = []

  def build_train_data(settings, **options):
    calls.append((settings, options))
    return ToyData(options["batch_size"], options["seed"])

  monkeypatch.setattr(pretraining, "build_train_data", build_train_data)
  monkeypatch.setitem(METHODS, "toy", TOY_METHODS["toy"])
  return calls


def test_pretrain_trains_and_resumes(tmp_path, recipe, toy, capsys):
  command = ["pretrain", f"--config={recipe}", f"--workdir={tmp_path / 'run'}", "--config.data.threads=3"]
  assert cli.main([*command, "--config.total_steps=4"]) == 0
  assert (tmp_path / "run" / "checkpoints" / "4").is_dir()
  settings, options = toy[0]
  assert settings.threads == 3 and settings.canvas_hw == (320, 160) and options["cache_dir"] == tmp_path / "run"
  assert set(options["fields"]) == {"image", "index"}  # what the method asks for, and no more
  assert cli.main([*command, "--config.total_steps=6"]) == 0
  assert "resuming at step 4" in capsys.readouterr().out


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--config=missing.py"], ["missing.py", "no such file"]),
    (["--config.batch_size=7"], ["config.batch_size is 7", "8 devices"]),
    (["--config.batchsize=8"], ["did you mean 'batch_size'"]),
    (["--batch_size=8"], ["--batch_size=8", "--config.key=value"]),
    (["--config.method.name=simclr"], ["simclr", "toy"]),
    (["--workdir={tmp}/recipe.py"], ["recipe.py is a file"]),
    (["--workdir={tmp}"], ["no config.json"]),
    (["--workdir=/proc/nowhere/run"], ["/proc/nowhere"]),
  ],
)
def test_an_error_is_one_line(tmp_path, recipe, toy, capsys, arguments, words):
  arguments = [argument.format(tmp=tmp_path) for argument in arguments]
  assert cli.main(["pretrain", f"--config={recipe}", f"--workdir={tmp_path / 'run'}", *arguments]) == 2
  error = capsys.readouterr().err
  assert error.startswith("saip pretrain: error: ") and error.count("\n") == 1, error
  assert all(word in error for word in words), error


def test_a_wrong_data_path_can_be_mended_in_the_same_workdir(tmp_path, recipe, toy, monkeypatch, capsys):
  command = ["pretrain", f"--config={recipe}", f"--workdir={tmp_path / 'run'}"]
  with monkeypatch.context() as context:

    def missing(settings, cache_dir, **_):
      (cache_dir / "index.json").touch()
      raise FileNotFoundError(2, "No such file or directory", "/data/typo")

    context.setattr(pretraining, "build_train_data", missing)
    assert cli.main(command) == 2
  assert "/data/typo" in capsys.readouterr().err
  assert cli.main(command) == 0


def test_the_traceback_is_there_on_request(tmp_path, recipe, monkeypatch):
  command = ["pretrain", "--config=missing.py", f"--workdir={tmp_path}"]
  with pytest.raises(ValueError):
    cli.main([*command, "--traceback"])
  monkeypatch.setenv("SAIP_TRACEBACK", "1")
  with pytest.raises(ValueError):
    cli.main(command)


def test_bugs_keep_their_traceback(recipe, tmp_path, monkeypatch, toy):
  def bug(*_, **__):
    raise TypeError("a bug")

  monkeypatch.setattr("saip_jax.running.train", bug)
  with pytest.raises(TypeError):
    cli.main(["pretrain", f"--config={recipe}", f"--workdir={tmp_path / 'run'}"])


@pytest.mark.parametrize(
  "arguments, words",
  [
    ([], "COMMAND"),
    (["train"], "pretrain"),
    (["pretrain", "--config=a.py"], "--workdir"),
    (["prepare"], "KIND"),
    (["prepare", "people", "--out=x", "--count=many"], "many"),
    (["prepare", "people", "--out=x", "--count=3", "--image-hw=64"], "256x128"),
  ],
)
def test_wrong_flags_are_one_line(capsys, arguments, words):
  with pytest.raises(SystemExit) as caught:
    cli.main(arguments)
  error = capsys.readouterr().err
  assert caught.value.code == 2 and words in error and error.count("\n") == 1 and "--help" in error, error


@pytest.fixture
def prepared(monkeypatch):
  """Lets `saip prepare people` render nothing; returns the arguments of the calls it makes."""
  calls = []
  prepare = pytest.importorskip("input_pipeline.people.prepare")
  preview = pytest.importorskip("input_pipeline.people.preview")
  monkeypatch.setattr(prepare, "prepare_people", lambda *arguments: calls.append(arguments))
  monkeypatch.setattr(preview, "draw_preview", lambda *arguments: calls.append(arguments) or [arguments[0]])
  return calls


@pytest.mark.parametrize(
  "flags, composition, image_hw, seed, identities, count, export",
  [
    (["--count=9"], "crops", (256, 128), 0, 2, 9, None),
    (["--count=8", "--image-hw=64x32", "--seed=5", "--identities=3"], "crops", (64, 32), 5, 3, 8, None),
    (["--count=8", "--composition=clips"], "clips", (256, 128), 0, 1, 8, None),
    (["--count=7", "--composition=scenes"], "scenes", (480, 640), 0, 120, 7, None),
    (["--count=500", "--export=coco"], "scenes", (480, 640), 0, 500, 500, "coco"),
    (["--count=8", "--export=coco", "--composition=crops"], "crops", (256, 128), 0, 1, 8, "coco"),
    (["--count=8", "--export=market1501"], "crops", (256, 128), 0, 1, 8, "market1501"),
  ],
)
def test_prepare_people_passes_its_flags_on(
  prepared, capsys, flags, composition, image_hw, seed, identities, count, export
):
  from input_pipeline.people.spec import SetSpec

  assert cli.main(["prepare", "people", "--out=x", *flags]) == 0
  assert prepared == [("x", SetSpec(composition, image_hw, seed, identities), count, export)]
  assert capsys.readouterr().out == f"{count} images in x\n"


def test_preview_needs_no_set_and_shows_the_start_of_one(prepared, capsys):
  assert cli.main(["prepare", "people", "--preview=sheet.png"]) == 0
  assert cli.main(["prepare", "people", "--preview=sheet.png", "--count=3", "--out=x"]) == 0
  (path, alone, alone_count), (_, shown, shown_count), (out, written, count, export) = prepared
  assert path == "sheet.png" and alone_count == alone.identities == 40
  assert (out, count, shown_count, export) == ("x", 3, 3, None) and shown == written
  assert capsys.readouterr().out.splitlines() == ["sheet.png", "sheet.png", "3 images in x"]


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--out=x"], ["--out=DIR and --count=N are needed", "--preview"]),
    (["--count=3"], ["--out=DIR and --count=N are needed", "--preview"]),
    (["--out=x", "--count=0"], ["--count=0"]),
    (["--preview=x.png", "--count=-1"], ["--count=-1"]),
    (["--out=x", "--count=3", "--image-hw=8x4"], ["8x4"]),
    (["--out=x", "--count=3", "--seed=-1"], ["seed=-1"]),
    (["--out=x", "--count=3", "--identities=0"], ["identities=0"]),
    (["--out=x", "--count=3", "--composition=zoo"], ["zoo", "crops, views, clips, scenes"]),
    (["--out=x", "--count=6", "--composition=views"], ["--count=6", "groups of 4"]),
    (["--out=x", "--count=3", "--export=voc"], ["--export=voc", "coco, market1501"]),
    (["--out=x", "--count=4", "--export=market1501", "--composition=views"], ["views", "--composition=crops"]),
    (["--out=x", "--count=3", "--sed=5"], ["--sed=5", "--help"]),
  ],
)
def test_an_impossible_set_is_one_line(prepared, capsys, flags, words):
  assert cli.main(["prepare", "people", *flags]) == 2
  error = capsys.readouterr().err
  assert error.startswith("saip prepare: error: ") and error.count("\n") == 1, error
  assert all(word in error for word in words) and not prepared, error


def test_an_interrupted_preparation_is_one_line(prepared, monkeypatch, capsys):
  def interrupted(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr("input_pipeline.people.prepare.prepare_people", interrupted)
  assert cli.main(["prepare", "people", "--out=x", "--count=3"]) == 130
  assert capsys.readouterr().err == "saip prepare: interrupted\n"


def test_help_is_quick_and_complete():
  """`saip --help` must not wait for JAX, nor claim an accelerator."""
  code = "import sys; from saip_jax.cli import main\ntry: main(['--help'])\nfinally: print('jax' in sys.modules)"
  root = pathlib.Path(saip_jax.__file__).parent.parent
  output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root).stdout
  assert "pretrain" in output and "prepare" in output and output.strip().endswith("False")
  module = subprocess.run([sys.executable, "-m", "saip_jax", "--version"], capture_output=True, text=True, cwd=root)
  assert module.stdout == f"saip {saip_jax.__version__}\n"
