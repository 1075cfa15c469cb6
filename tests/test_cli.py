"""The command: one line for a mistake, the right library call otherwise."""

import pathlib
import subprocess
import sys

import pytest
from toy_method import TOY_METHODS, ToyData, toy_recipe

import saip_jax
from saip_jax import cli


@pytest.fixture
def recipe(tmp_path):
  path = tmp_path / "recipe.py"
  path.write_text(f"def get_config():\n  return {toy_recipe()!r}\n")
  return path


@pytest.fixture
def toy(monkeypatch):
  """Lets the command train the toy method on toy images; returns the settings that reach the pipeline."""
  calls = []
  pipeline = pytest.importorskip("input_pipeline.pipeline")

  def build_train_data(**settings):
    calls.append(settings)
    return ToyData(settings["batch_size"], settings["seed"])

  monkeypatch.setattr(pipeline, "build_train_data", build_train_data)
  monkeypatch.setattr("saip_jax.methods.METHODS", TOY_METHODS)
  return calls


def test_pretrain_trains_and_resumes(tmp_path, recipe, toy, capsys):
  command = ["pretrain", f"--config={recipe}", f"--workdir={tmp_path / 'run'}", "--config.data.threads=3"]
  assert cli.main([*command, "--config.total_steps=4"]) == 0
  assert (tmp_path / "run" / "checkpoints" / "4").is_dir()
  assert toy[0]["threads"] == 3 and toy[0]["canvas_hw"] == (320, 160) and toy[0]["cache_dir"] == tmp_path / "run"
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
def test_a_mistake_is_one_line(tmp_path, recipe, toy, capsys, arguments, words):
  arguments = [argument.format(tmp=tmp_path) for argument in arguments]
  assert cli.main(["pretrain", f"--config={recipe}", f"--workdir={tmp_path / 'run'}", *arguments]) == 2
  error = capsys.readouterr().err
  assert error.startswith("saip pretrain: error: ") and error.count("\n") == 1, error
  assert all(word in error for word in words), error


def test_a_wrong_data_path_can_be_mended_in_the_same_workdir(tmp_path, recipe, toy, monkeypatch, capsys):
  command = ["pretrain", f"--config={recipe}", f"--workdir={tmp_path / 'run'}"]
  import input_pipeline.pipeline as pipeline

  with monkeypatch.context() as context:
    def missing(cache_dir, **_):
      (cache_dir / "index.json").touch()
      raise FileNotFoundError(2, "No such file or directory", "/data/typo")
    context.setattr(pipeline, "build_train_data", missing)
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


def test_our_own_mistakes_keep_their_traceback(recipe, tmp_path, monkeypatch, toy):
  def bug(*_):
    raise TypeError("a bug")

  monkeypatch.setattr("saip_jax.training.loop.pretrain", bug)
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


def test_prepare_people_passes_its_flags_on(tmp_path, monkeypatch, capsys):
  calls = []
  people = pytest.importorskip("input_pipeline.people.prepare")
  monkeypatch.setattr(people, "prepare_people", lambda *arguments: calls.append(arguments))
  assert cli.main(["prepare", "people", "--out=x", "--count=3", "--image-hw=64x32", "--seed=5"]) == 0
  assert calls == [("x", 3, (64, 32), 5)]
  assert cli.main(["prepare", "people", "--out=x", "--count=3", "--sed=5"]) == 2
  assert "--sed=5" in capsys.readouterr().err


def test_help_is_quick_and_complete():
  """`saip --help` must not wait for JAX, nor claim an accelerator."""
  code = "import sys; from saip_jax.cli import main\ntry: main(['--help'])\nfinally: print('jax' in sys.modules)"
  root = pathlib.Path(saip_jax.__file__).parent.parent
  output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root).stdout
  assert "pretrain" in output and "prepare" in output and output.strip().endswith("False")
  module = subprocess.run([sys.executable, "-m", "saip_jax", "--version"], capture_output=True, text=True, cwd=root)
  assert module.stdout == f"saip {saip_jax.__version__}\n"
