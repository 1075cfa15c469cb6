"""Recipes: Python files whose `get_config()` returns nested mappings, and settings of the command line on top."""

import ast
import pathlib
import runpy
import sys
import types
from typing import Any, Mapping, Sequence

from saip_jax.typed import require


def load_recipe(path, flag: str = "--config") -> dict[str, Any]:
  """Returns what the `get_config()` of a recipe file gives, as plain nested dicts.

  Args:
    path: a Python file, as those in configs/.
    flag: what named it, for errors.

  Raises:
    ValueError: no such file, or a file that gives no config.
  """
  path = pathlib.Path(path)
  require(path.is_file(), f"{flag}={path}: no such file; recipes are Python files, as in configs/")
  try:
    import ml_collections  # noqa: F401
  except ImportError:
    # Recipes write ConfigDict; a bare accelerator machine has only jax, and for reading a dict does as well.
    sys.modules["ml_collections"] = types.ModuleType("ml_collections")
    sys.modules["ml_collections"].ConfigDict = dict
  try:
    recipe = runpy.run_path(str(path))
    config = recipe["get_config"]() if "get_config" in recipe else None
  except Exception as e:
    raise ValueError(f"{flag}={path}: cannot be executed: {type(e).__name__}: {e}") from e
  require("get_config" in recipe, f"{flag}={path}: defines no get_config(); recipes look as those in configs/")
  require(hasattr(config, "items"), f"{flag}={path}: get_config() returned {type(config).__name__}, not a mapping")
  return plain(config)


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
