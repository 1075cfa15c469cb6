"""Recipes: Python files whose `get_config()` returns nested mappings, and settings of the command line on top."""

import ast
import contextlib
import difflib
import importlib
import pathlib
import runpy
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from input_pipeline.checks import require
from input_pipeline.storage import local_path

# Where our own recipes are: beside the packages, or where `pip install` puts them.
_CHECKOUT = pathlib.Path(__file__).resolve().parent.parent / "configs"
_INSTALLED = pathlib.Path(sysconfig.get_path("data")) / "share" / "saip_jax" / "configs"


def load_recipe(path, flag: str = "--config") -> dict[str, Any]:
  """Returns what the `get_config()` of a recipe file gives, as plain nested dicts.

  Args:
    path: a Python file; or the name of one of our own, with or without its folder: saip_demo, configs/saip_demo.py.
    flag: what named it, for errors.

  Raises:
    ValueError: no such file, or a file that gives no config.
  """
  path = _found(local_path(path, flag), flag)
  try:
    import ml_collections  # noqa: F401
  except ImportError:
    # Recipes write ConfigDict; a bare accelerator machine has only jax, and for reading a dict does as well.
    sys.modules["ml_collections"] = types.ModuleType("ml_collections")
    sys.modules["ml_collections"].ConfigDict = dict
  try:
    with _siblings_importable(path.resolve().parent):
      recipe = runpy.run_path(str(path))
      config = recipe["get_config"]() if "get_config" in recipe else None
  except Exception as e:
    raise ValueError(f"{flag}={path}: cannot be executed: {type(e).__name__}: {e}") from e
  require("get_config" in recipe, f"{flag}={path}: defines no get_config(); recipes look as those in configs/")
  require(hasattr(config, "items"), f"{flag}={path}: get_config() returned {type(config).__name__}, not a mapping")
  return plain(config)


@contextlib.contextmanager
def _siblings_importable(folder: pathlib.Path) -> Iterator[None]:
  """Lets a recipe import the files beside it by name, and forgets them afterwards: another folder may use the names."""
  before, writes_bytecode = set(sys.modules), sys.dont_write_bytecode
  sys.path.insert(0, str(folder))
  sys.dont_write_bytecode = True  # its time stamp would hide a recipe that is edited twice within a second
  importlib.invalidate_caches()
  try:
    yield
  finally:
    sys.path.remove(str(folder))
    sys.dont_write_bytecode = writes_bytecode
    for name in set(sys.modules) - before:
      file = getattr(sys.modules[name], "__file__", None)
      if "." not in name and file and pathlib.Path(file).resolve().parent == folder:
        del sys.modules[name]


def _found(path: pathlib.Path, flag: str) -> pathlib.Path:
  """Returns the file that a path or a name of a recipe means."""
  if path.is_file():
    return path
  folder = next((place for place in (_CHECKOUT, _INSTALLED) if place.is_dir()), None)
  ours = {file.stem: file for file in sorted(folder.glob("*.py"))} if folder else {}
  named = path.parent.name == "configs" or path.parent == pathlib.Path() and not path.suffix
  if named and path.stem in ours:
    return ours[path.stem]
  close = difflib.get_close_matches(path.stem, ours, n=1)
  where = f"{folder}, where a name alone finds them" if ours else "the folder configs of its repository"
  meant = f", did you mean {flag}={close[0]}?" if close else ""
  raise ValueError(
    f"{flag}={path}: no such file{meant or ';'} recipes are Python files, those of this program are in {where}"
  )


def plain(value):
  """Returns nested mappings, ConfigDict or not, as dicts; anything else as it is."""
  return {str(k): plain(v) for k, v in value.items()} if hasattr(value, "items") else value


def apply_overrides(recipe: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
  """Returns the recipe with `--config.a.b=value` settings on top.

  A value is read as a Python literal (`8`, `1e-3`, `(256, 128)`, `None`, `True`), or else as the string it is.
  Another `method.name` empties `method` first: the numbers of one method's recipe say nothing about another. So does a
  `data.source` other than "mixture" with `data.mixture`.

  Args:
    recipe: nested mappings, from `load_recipe`.
    overrides: arguments of the form `--config.a.b=value`.

  Raises:
    ValueError: an argument of another form, or one inside what is no section. Whether section and key exist is for
      `parse_config` to say, which knows the optional ones.
  """
  result = plain(recipe)
  settings = []
  for argument in overrides:
    name, equals, text = argument.partition("=")
    if not (name.startswith("--config.") and equals):
      raise ValueError(f"unknown argument {argument!r}: settings are written --config.key=value")
    try:
      value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
      value = text
    settings.append((name.removeprefix("--config.").split("."), value))
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
