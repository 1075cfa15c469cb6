"""Recipes: Python files with a `get_config()`, settings of the command line on top, and the `RunConfig` of both."""

import ast
import contextlib
import difflib
import importlib
import json
import os
import pathlib
import runpy
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from input_pipeline.checks import choices_hint, require, require_sizes
from input_pipeline.schema import from_dict
from input_pipeline.storage import local_path, write_file, writing
from saip_jax.config import RunConfig

# The recipes of this program: inside the package, where setup.py installs them, or in a checkout beside it.
_PACKAGE = pathlib.Path(__file__).resolve().parent
_FOLDER = next((f for f in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if f.is_dir()), _PACKAGE / "configs")


def open_recipe(path, overrides: Sequence[str] = (), flag: str = "--config") -> RunConfig:
  """Returns the config of a recipe file with `--config.key=value` settings on top.

  >>> config = open_recipe("mae_demo", ["--config.batch_size=8", "--config.model.image_hw=(64,32)"])
  >>> config.batch_size, config.model.image_hw, config.method.mae.mask_ratio
  (8, (64, 32), 0.75)

  Args:
    path: as in `load_recipe`.
    overrides: as in `apply_overrides`.
    flag: the option that named the recipe, for errors.

  Raises:
    ValueError: as `load_recipe`, `apply_overrides` and `parse_config` raise it.
  """
  return parse_config(apply_overrides(load_recipe(path, flag), overrides))


def load_recipe(path, flag: str = "--config") -> dict[str, Any]:
  """Returns the config that the `get_config()` of a recipe file returns, as plain nested dicts.

  A recipe may import the recipes beside it, and those of this program, by plain name:
  `from saip_demo import get_config as demo`.

  >>> recipe = load_recipe("mae_demo")
  >>> recipe["method"]["name"], recipe["optimizer"]["learning_rate"]
  ('mae', 0.0005)

  Args:
    path: a Python file; or the name of a recipe of this program, see `shipped_recipe`.
    flag: the option that named the recipe, for errors.

  Raises:
    ValueError: no such file, or a file that returns no config.
  """
  path = local_path(path, flag)
  path = path if path.is_file() else shipped_recipe(path, f"{flag}=", "file or recipe")
  try:
    with _importable(path.absolute().parent), _config_dict():
      recipe = runpy.run_path(str(path))
      config = recipe["get_config"]() if "get_config" in recipe else None
  except Exception as e:
    raise ValueError(f"{flag}={path}: cannot be executed: {type(e).__name__}: {e}") from e
  require("get_config" in recipe, f"{flag}={path}: defines no get_config(); `saip recipes NAME` prints one that does")
  require(hasattr(config, "items"), f"{flag}={path}: get_config() returned {type(config).__name__}, not a mapping")
  return plain(config)


def recipe_files() -> dict[str, pathlib.Path]:
  """Returns the recipes of this program in alphabetical order: name -> file."""
  return {file.stem: file for file in sorted(_FOLDER.glob("*.py"))}


def summary(recipe: pathlib.Path) -> str:
  """Returns the first line of the docstring of a recipe's file."""
  return (ast.get_docstring(_parsed(recipe)) or "").partition("\n")[0]


def shipped_recipe(name: str | os.PathLike, flag: str = "", kind: str = "recipe") -> pathlib.Path:
  """Returns the file of a recipe of this program.

  Args:
    name: with or without the folder, from anywhere: saip_demo, configs/saip_demo.py.
    flag: the text before the name in errors: "--config=".
    kind: what the name could have been, for errors.

  Raises:
    ValueError: no such recipe; the message names the closest one.
  """
  path, ours = pathlib.Path(name), recipe_files()
  if path.stem in ours and (path.parent.name == "configs" or path.parent == pathlib.Path() and not path.suffix):
    return ours[path.stem]
  close = difflib.get_close_matches(path.stem, ours, n=1)
  meant = f", did you mean {flag}{close[0]}?" if close else ";"
  raise ValueError(f"{flag}{name}: no such {kind}{meant} `saip recipes` lists those of this program")


def copy_recipe(name: str, out: str | os.PathLike, flag: str = "--out") -> pathlib.Path:
  """Copies a recipe of this program, to be changed; returns the file.

  The recipes that it imports stay in this program: `load_recipe` finds them from any folder.

  Args:
    name: as in `shipped_recipe`.
    out: the file to make.
    flag: the option that named it, for errors.

  Raises:
    ValueError: no such recipe; `out` exists, cannot be written, or has the name of a recipe that this one imports.
  """
  recipe, out = shipped_recipe(name), local_path(out, flag)
  require(not os.path.lexists(out), f"{flag}={out} exists and is not replaced; choose another name")
  imported = {node.module for node in ast.walk(_parsed(recipe)) if isinstance(node, ast.ImportFrom)}
  require(out.stem not in imported, f"{flag}={out}: the recipe imports another one of this name; choose another name")
  with writing(out, f"{flag}=", "choose a folder that exists and can be written"):
    write_file(str(out), recipe.read_bytes())
  return out


def _parsed(recipe: pathlib.Path) -> ast.Module:
  return ast.parse(recipe.read_bytes())


@contextlib.contextmanager
def _importable(folder: pathlib.Path) -> Iterator[None]:
  """Makes the Python files of a folder, then the recipes of this program, importable by plain name in a block.

  They come before other modules of these names.
  """
  folders = list(dict.fromkeys([str(folder), str(_FOLDER)]))
  siblings = {file.stem for place in folders for file in pathlib.Path(place).glob("*.py")} - sys.stdlib_module_names
  hidden = {name: sys.modules.pop(name) for name in siblings & sys.modules.keys()}
  bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
  sys.path[:0] = folders
  importlib.invalidate_caches()
  try:
    yield
  finally:
    for place in folders:
      sys.path.remove(place)
    sys.dont_write_bytecode = bytecode
    for name in siblings:
      sys.modules.pop(name, None)
    sys.modules.update(hidden)


@contextlib.contextmanager
def _config_dict() -> Iterator[None]:
  """Lets recipes import ConfigDict in a block on an accelerator machine without ml_collections; a dict suffices."""
  try:
    import ml_collections  # noqa: F401
  except ImportError:
    missing = {name: sys.modules[name] for name in ("ml_collections",) if name in sys.modules}
    sys.modules["ml_collections"] = types.ModuleType("ml_collections")
    sys.modules["ml_collections"].ConfigDict = dict  # type: ignore[attr-defined]
    try:
      yield
    finally:
      del sys.modules["ml_collections"]
      sys.modules.update(missing)
  else:
    yield


def plain(value):
  """Returns nested mappings, ConfigDict or not, as dicts; any other value unchanged."""
  return {str(k): plain(v) for k, v in value.items()} if hasattr(value, "items") else value


def _literal(text: str) -> Any:
  """Returns the value of a Python literal or of JSON, otherwise the text."""
  for read in (ast.literal_eval, lambda text: json.loads(text, parse_constant=ast.literal_eval)):  # refuses NaN
    with contextlib.suppress(ValueError, SyntaxError):
      return read(text)
  return text


def apply_overrides(recipe: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
  """Returns the recipe with `--config.a.b=value` settings on top.

  A value is read as a Python literal (`8`, `1e-3`, `(256, 128)`, `None`, `True`) or as JSON (`true`, `{"a": null}`),
  otherwise as a string.
  Another `method.name` empties `method` first: the numbers of one method do not carry over to another. Likewise a
  `data.source` other than "mixture" removes `data.mixture`.

  >>> recipe = {"batch_size": 8, "optimizer": {"learning_rate": 1e-3}}
  >>> apply_overrides(recipe, ["--config.batch_size=16", "--config.optimizer.learning_rate=5e-4"])
  {'batch_size': 16, 'optimizer': {'learning_rate': 0.0005}}

  Args:
    recipe: nested mappings, from `load_recipe`.
    overrides: arguments of the form `--config.a.b=value`.

  Raises:
    ValueError: an argument of another form, or a setting inside a value that is no section. `parse_config` checks
      whether section and key exist, as it knows the optional ones.
  """
  result = plain(recipe)
  settings = []
  for argument in overrides:
    name, equals, text = argument.partition("=")
    if not (name.startswith("--config.") and equals):
      raise ValueError(f"unknown argument {argument!r}: settings are written --config.key=value")
    settings.append((name.removeprefix("--config.").split("."), _literal(text)))
  for path, value in settings:
    if path == ["method", "name"] and value != result.get("method", {}).get("name"):
      result["method"] = {}
    if path == ["data", "source"] and value != "mixture":
      result.get("data", {}).pop("mixture", None)
  for path, value in settings:
    section, at = result, "config"
    for key in path[:-1]:
      section, at = section.setdefault(key, {}), f"{at}.{key}"
      if not isinstance(section, dict):
        raise ValueError(f"{at} is {section!r}: it has no settings inside it")
    if isinstance(section.get(path[-1]), dict):
      raise ValueError(f"{at}.{path[-1]} is a section: set one of {', '.join(section[path[-1]])} inside it")
    section[path[-1]] = value
  return result


def parse_config(recipe: Mapping[str, Any], methods: Mapping[str, Any] | None = None) -> RunConfig:
  """Returns the typed config of a run.

  >>> parse_config(load_recipe("mae_demo")).method.mae.mask_ratio
  0.75

  Args:
    recipe: nested mappings, from `load_recipe` and `apply_overrides`.
    methods: name -> `saip_jax.methods.base.Method` class; None uses `saip_jax.methods.METHODS`.

  Raises:
    ValueError: unknown or missing key, wrong type, unknown method or backbone, or settings that exclude each other;
      the message names the setting and its choices.
  """
  from saip_jax.backbones import BACKBONES, check_attributes  # imports JAX: errors of a recipe come before

  if methods is None:
    from saip_jax.methods import METHODS

    methods = METHODS
  recipe = plain(recipe)
  method = recipe.get("method")
  if not isinstance(method, dict) or "name" not in method:
    raise ValueError("config.method.name is missing: it names the method")
  name = method["name"]
  if name not in methods:
    raise ValueError(f"config.method.name is {name!r}: no such method{choices_hint(name, list(methods))}")
  config = from_dict(RunConfig, recipe, "config", {"method": methods[name].Config})
  backbone = config.model.backbone
  if backbone not in BACKBONES:
    raise ValueError(
      f"config.model.backbone is {backbone!r}: no such backbone{choices_hint(backbone, list(BACKBONES))}"
    )
  patch = getattr(BACKBONES[backbone](), "patch", 1)
  require_sizes("config.model.image_hw", config.model.image_hw, multiple=patch)
  check_attributes(backbone, "config.model.", **config.model.own_attributes)
  return config
