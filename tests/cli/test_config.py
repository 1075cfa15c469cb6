"""Recipes: the settings that are accepted, and the messages of errors."""

import json
import pathlib
import sys

import pytest

from input_pipeline.schema import differences, to_dict
from saip_jax.recipes import apply_overrides, load_recipe, open_recipe, parse_config
from tests.support.toy_method import TOY_METHODS, toy_config, toy_recipe


def test_overrides_reach_every_level():
  config = toy_config(
    "batch_size=16",
    "data.canvas_hw=(64, 32)",
    "optimizer.learning_rate=1",
    "keep_every=10",
    "method.width=7",
    "data.source=folder",
    "data.path=/some where/a=b",
    "data.pairs.gap=(0.5, 3)",
  )
  assert config.batch_size == 16
  assert config.data.canvas_hw == (64, 32)
  assert config.data.path == "/some where/a=b"
  assert config.optimizer.learning_rate == 1.0 and isinstance(config.optimizer.learning_rate, float)
  assert config.data.pairs.gap == (0.5, 3.0)  # a section that the recipe does not state
  assert config.keep_every == 10  # an optional setting that the recipe does not state
  assert config.method.width == 7 and config.method.noise == 0.1


def test_values_are_read_as_python_or_as_json():
  part = lambda true: f'{{"a": {{"source": "market1501", "path": "/x", "hold_out": {true}}}}}'
  for true, none in (("True", "None"), ("true", "null")):
    recipe = apply_overrides(toy_recipe(), ["--config.data.source=mixture", f"--config.data.mixture={part(true)}"])
    assert recipe["data"]["mixture"] == {"a": {"source": "market1501", "path": "/x", "hold_out": True}}
    assert apply_overrides(toy_recipe(), [f"--config.keep_every={none}"])["keep_every"] is None
  for text in ("NaN", "-Infinity", "nul", "{", "1 2", "true story"):
    assert apply_overrides(toy_recipe(), [f"--config.data.path={text}"])["data"]["path"] == text


def test_the_recipe_is_left_as_it_was():
  recipe = toy_recipe()
  apply_overrides(recipe, ["--config.data.path=x"])
  assert recipe == toy_recipe()


@pytest.mark.parametrize(
  "override, words",
  [
    ("batchsize=8", ["config", "batchsize", "batch_size"]),
    ("data.sorce=people", ["config.data", "sorce", "source"]),
    ("dta.source=people", ["config", "dta", "data"]),
    ("data=people", ["config.data", "section", "source"]),
    ("batch_size.images=3", ["config.batch_size is 8", "no settings inside"]),
    ("method.name=siap", ["config.method.name", "siap", "toy"]),
    ("method.widht=3", ["config.method", "widht", "width"]),
    ("model.backbone=vit_tny", ["config.model.backbone", "vit_tny", "vit_tiny"]),
    ("data.source=webdatset", ["config.data.source", "webdatset", "webdataset", "people", "mixture"]),
    ("data.people_count=0", ["config.data.people_count", "0"]),
    ("data.canvas_hw=64", ["config.data.canvas_hw", "64", "tuple"]),
    ("data.canvas_hw=(64, 0)", ["config.data.canvas_hw", "positive"]),
    ("data.max_damaged_fraction=2", ["config.data.max_damaged_fraction", "0 to 1"]),
    ("batch_size=eight", ["config.batch_size", "'eight'", "int"]),
    ("batch_size=8.0", ["config.batch_size", "float", "int"]),
    ("batch_size=True", ["config.batch_size", "bool", "int"]),
    ("batch_size=0", ["config.batch_size", "positive"]),
    ("accumulate=3", ["config.batch_size", "config.accumulate", "3"]),
    ("total_steps=0", ["config.total_steps", "positive"]),
    ("checkpoint_every=-1", ["config.checkpoint_every", "positive"]),
    ("panel_every=-1", ["config.panel_every"]),
    ("fsdp=0", ["config.fsdp", "positive"]),
    ("watchdog_minutes=-1", ["config.watchdog_minutes", "-1", "0 for no watchdog"]),
    ("profile_steps=15:10", ["config.profile_steps", "15:10", "FIRST:LAST"]),
    ("profile_steps=10", ["config.profile_steps", "10"]),
    ("keep_every=0", ["config.keep_every", "None"]),
    ("seed=-1", ["config.seed"]),
    ("precision=fp16", ["config.precision", "fp16", "bfloat16", "float32"]),
    ("model.image_hw=(250, 128)", ["config.model.image_hw", "250", "16"]),
    ("optimizer.warmup_fraction=1.5", ["config.optimizer.warmup_fraction", "1.5", "0 to 1"]),
    ("optimizer.learning_rate=0", ["config.optimizer.learning_rate"]),
    ("optimizer.min_learning_rate=1", ["config.optimizer.min_learning_rate", "learning_rate"]),
    ("optimizer.b2=1", ["config.optimizer.b2"]),
    ("optimizer.grad_clip_norm=0", ["config.optimizer.grad_clip_norm", "None"]),
    ("optimizer.grad_clip_norm=much", ["config.optimizer.grad_clip_norm", "float", "None"]),
  ],
)
def test_errors_name_the_setting(override, words):
  with pytest.raises(ValueError) as caught:
    toy_config(override)
  message = str(caught.value)
  assert all(word in message for word in words) and "\n" not in message, message


@pytest.mark.parametrize("argument", ["--batch_size=8", "--config.batch_size", "8", "--config.=8"])
def test_what_is_no_setting_is_refused(argument):
  with pytest.raises(ValueError, match="setting|no key"):
    parse_config(apply_overrides(toy_recipe(), [argument]), TOY_METHODS)


def test_missing_settings_are_all_named():
  recipe = toy_recipe()
  del recipe["total_steps"], recipe["seed" if "seed" in recipe else "batch_size"]
  with pytest.raises(ValueError, match="config.batch_size, config.total_steps"):
    parse_config(recipe, TOY_METHODS)


def test_another_method_starts_from_no_numbers():
  """The numbers of one method never become those of another in silence."""
  recipe = apply_overrides(toy_recipe(), ["--config.method.width=3", "--config.method.name=other"])
  assert recipe["method"] == {"name": "other", "width": 3}


def test_config_survives_json():
  config = toy_config()
  stored = json.loads(json.dumps(to_dict(config)))
  assert parse_config(stored, TOY_METHODS) == config
  assert differences(stored, to_dict(toy_config("seed=1", "data.path=x"))) == [
    "data.path was None, now 'x'",
    "seed was 0, now 1",
  ]


def test_recipe_files(tmp_path, monkeypatch):
  recipe = tmp_path / "recipe.py"
  recipe.write_text(
    "from ml_collections import ConfigDict\n"
    "def get_config():\n"
    "  config = ConfigDict({'a': 1})\n"
    "  config.data = ConfigDict(dict(path=None))\n"
    "  return config\n"
  )
  assert load_recipe(recipe) == {"a": 1, "data": {"path": None}}

  recipe.write_text("from ml_collections import ConfigDict\ndef get_config():\n  return ConfigDict(dict(a=1))\n")
  monkeypatch.setitem(__import__("sys").modules, "ml_collections", None)  # as on a machine without it
  assert load_recipe(recipe) == {"a": 1}


@pytest.mark.parametrize(
  "text, words",
  [
    (None, "no such file"),
    ("x = 1", "no get_config"),
    ("def get_config(): return 3", "int, not a mapping"),
    ("def get_config(: pass", "SyntaxError"),
    ("import not_installed_here", "not_installed_here"),
    ("def get_config(): return {}['a']", "KeyError"),
  ],
)
def test_broken_recipe_files_are_named(tmp_path, text, words):
  path = tmp_path / "recipe.py"
  if text is not None:
    path.write_text(text)
  with pytest.raises(ValueError, match=words) as caught:
    load_recipe(path)
  assert str(path) in str(caught.value)


def test_every_recipe_of_the_project_is_valid():
  for path in sorted((pathlib.Path(__file__).resolve().parents[2] / "configs").glob("*.py")):
    parse_config(load_recipe(path))


def test_a_recipe_imports_its_siblings_and_leaves_no_trace(tmp_path):
  (tmp_path / "small.py").write_text("def get_config():\n  return {'a': 1}\n")
  (tmp_path / "large.py").write_text(
    "from small import get_config as small\ndef get_config():\n  return small() | {'b': 2}\n"
  )
  before = list(sys.path), set(sys.modules)
  assert load_recipe(tmp_path / "large.py") == {"a": 1, "b": 2}
  assert (list(sys.path), set(sys.modules)) == before
  (tmp_path / "small.py").write_text("def get_config():\n  return {'a': 3}\n")  # read anew at each call
  assert load_recipe(tmp_path / "large.py") == {"a": 3, "b": 2}
  assert sorted(path.name for path in tmp_path.iterdir()) == ["large.py", "small.py"]


def test_open_recipe_composes_a_config():
  config = open_recipe("saip_demo", ["--config.batch_size=4"])
  assert config == parse_config(apply_overrides(load_recipe("saip_demo"), ["--config.batch_size=4"]))
  assert config.batch_size == 4 and config.head_counts == {
    "csr_heads": config.method.csr.heads,
    "css_heads": config.method.css.heads,
  }
