"""Recipes by name from any folder: `saip recipes` lists, prints and copies them, and a copy works where it lies."""

import pathlib
import sys

import pytest

from saip_jax import cli
from saip_jax.recipes import load_recipe, recipe_files

REPO = pathlib.Path(__file__).resolve().parents[2]
_IMPORTING = sorted(name for name, file in recipe_files().items() if " import get_config as " in file.read_text())


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
  """A folder outside of the checkout."""
  monkeypatch.chdir(tmp_path)
  return tmp_path


def saip(capsys, *arguments):
  """Runs a command; returns its exit status, output and errors."""
  status = cli.main(["recipes", *arguments])
  return status, *capsys.readouterr()


@pytest.mark.parametrize("name", ["saip_demo", "configs/saip_demo.py", "/elsewhere/configs/saip_demo.py"])
def test_a_name_is_enough_anywhere(name):
  assert load_recipe(name) == load_recipe(REPO / "configs" / "saip_demo.py")


@pytest.mark.parametrize(
  "name, words",
  [
    ("saip_dmo", "did you mean --config=saip_demo?"),
    ("saip_demo.py", "did you mean --config=saip_demo?"),
    ("my/saip_demo", "did you mean --config=saip_demo?"),
    ("nothing_of_the_kind", "`saip recipes` lists"),
  ],
)
def test_a_missing_recipe_names_the_closest(name, words):
  """A recipe of this program does not replace a missing file of the user."""
  with pytest.raises(ValueError, match=f"--config={name}: no such file") as caught:
    load_recipe(name)
  assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_of_the_user_comes_before_a_name(elsewhere):
  (elsewhere / "saip_demo").write_text("def get_config():\n  return {'seed': 7}\n")
  assert load_recipe("saip_demo") == {"seed": 7}


def test_the_list_has_every_recipe_and_what_it_is(capsys):
  status, output, _ = saip(capsys)
  lines = [line.split(maxsplit=1) for line in output.splitlines() if line.startswith("  ")]
  listed = dict(lines)
  assert status == 0 and len(lines) == len(listed)
  assert listed.keys() == {file.stem for file in (REPO / "configs").glob("*.py")}
  assert listed["saip_vit_tiny"].startswith("SAIP as published: ViT-Ti/16")
  assert max(map(len, output.splitlines())) <= 120
  assert all(len(text) > 30 and text.endswith(".") for text in listed.values())


def test_a_recipe_is_printed_as_it_is(capsys):
  assert saip(capsys, "dino_demo") == (0, (REPO / "configs" / "dino_demo.py").read_text(), "")


def test_a_copy_is_changed_and_still_imports_from_this_program(elsewhere, capsys):
  assert saip(capsys, "dino_mae_demo", "--out=my.py") == (0, "my.py is a copy of dino_mae_demo\n", "")
  assert load_recipe("my.py") == load_recipe("dino_mae_demo")
  copy = elsewhere / "my.py"
  copy.write_text(copy.read_text().replace('["weight"] = 1.0', '["weight"] = 0.25'))
  assert load_recipe("my.py")["method"]["mae"]["weight"] == 0.25
  assert load_recipe("dino_mae_demo")["method"]["mae"]["weight"] == 1.0


@pytest.mark.parametrize("name", _IMPORTING)
def test_every_copy_that_imports_another_recipe_loads(elsewhere, capsys, name):
  before = list(sys.path), set(sys.modules)
  assert saip(capsys, name, "--out=sub.py")[0] == 0
  assert load_recipe("sub.py") == load_recipe(name)
  assert sys.path == before[0]
  assert not {module for module in sys.modules if module in recipe_files()} - before[1]
  assert sorted(p.name for p in elsewhere.iterdir()) == ["sub.py"]  # no bytecode of recipes


def test_a_recipe_beside_the_copy_comes_first(elsewhere, capsys):
  saip(capsys, "dino_mae_demo", "--out=my.py")
  (elsewhere / "dino_demo.py").write_text("def get_config():\n  return {'method': {'mae': {}}}\n")
  assert load_recipe("my.py") == {"method": {"mae": {"weight": 1.0}}}


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["saip_dmo"], ["saip_dmo: no such recipe", "did you mean saip_demo?"]),
    (["saip_dmo", "--out=my.py"], ["saip_dmo: no such recipe", "did you mean saip_demo?"]),
    (["zebra"], ["zebra: no such recipe", "`saip recipes` lists"]),
    (["--out=my.py"], ["--out=my.py", "NAME"]),
    (["saip_demo", "--out=there.py"], ["--out=there.py exists"]),
    (["saip_demo", "--out=dangling.py"], ["--out=dangling.py exists"]),
    (["saip_demo", "--out=."], ["--out=. exists"]),
    (["saip_demo", "--out=no/folder/my.py"], ["--out=no/folder/my.py", "No such file or directory"]),
    (["dino_mae_demo", "--out=dino_demo.py"], ["--out=dino_demo.py", "imports another"]),
    (["saip_demo", "--config.seed=1"], ["--config.seed=1"]),
  ],
)
def test_an_error_is_one_line_and_writes_nothing(elsewhere, capsys, arguments, words):
  (elsewhere / "there.py").write_text("mine")
  (elsewhere / "dangling.py").symlink_to("nowhere.py")
  status, output, error = saip(capsys, *arguments)
  assert status == 2 and output == "" and error.startswith("saip recipes: error: ") and error.count("\n") == 1, error
  assert all(word in error for word in words), error
  assert sorted(p.name for p in elsewhere.iterdir()) == ["dangling.py", "there.py"]
  assert (elsewhere / "there.py").read_text() == "mine"
