"""Pages of the reference that are written from the program: every setting from its dataclass, every command's help."""

import argparse
import dataclasses
import functools
import inspect
import pathlib
import re
import types
import typing
from collections.abc import Iterator

from input_pipeline.settings import MixturePart
from saip_jax.cli import make_parser
from saip_jax.config import RunConfig
from saip_jax.methods import METHODS

PREPARE = "prepare KIND"
"""The commands `saip prepare lmdb`, `coco` and so on, which have the same flags."""

_UNIONS = (types.UnionType, typing.Union)


def write_reference_pages(folder: pathlib.Path) -> None:
  """Writes settings*.md and cli*.md; files that would not change keep their time, so that a build can reuse them."""
  sections = {name: list(_sections(entry.Config, "config.method")) for name, entry in METHODS.items()}
  run = list(_sections(RunConfig, "config"))
  data = [s for s in run if s[0].startswith("config.data")]
  data.append(("config.data.mixture.NAME", MixturePart))
  pages = {
    "settings_run": ("Settings: run", [s for s in run if s not in data]),
    "settings_data": ("Settings: data", data),
    **{f"settings_{name}": (f"Settings: {name}", s) for name, s in sections.items()},
  }
  texts = {name: "\n\n".join([f"# {title}", *map(_section_text, s)]) for name, (title, s) in pages.items()}
  texts["settings"] = _INDEX_OF_SETTINGS + _toctree(texts)
  parsers = command_parsers()
  commands = {f"cli_{name.lower().replace(' ', '_')}": _help_page(name, parser) for name, parser in parsers.items()}
  texts |= commands | {"cli": _INDEX_OF_COMMANDS + _toctree(commands)}
  folder.mkdir(parents=True, exist_ok=True)
  for file in folder.glob("*.md"):
    if file.stem not in texts:
      file.unlink()  # of an earlier build
  for name, text in texts.items():
    file = folder / f"{name}.md"
    if not file.is_file() or file.read_text("utf-8") != text + "\n":
      file.write_text(text + "\n", "utf-8")


def setting_names() -> set[str]:
  """Returns the dotted names of all settings of all methods: config.batch_size, config.method.csm.weight, ..."""
  classes = [("config", RunConfig)] + [("config.method", entry.Config) for entry in METHODS.values()]
  sections = [section for at, cls in classes for section in _sections(cls, at)]
  return {f"{at}.{field.name}" for at, cls in sections for field in dataclasses.fields(cls)}


def command_parsers() -> dict[str, argparse.ArgumentParser]:
  """Returns the commands of `saip` by name: pretrain, "prepare people", ...; other kinds of prepare are one."""
  found = {}
  for name, parser in _subparsers(make_parser()).items():
    for kind, inner in _subparsers(parser).items():
      found.setdefault(f"prepare {kind}" if kind == "people" else PREPARE, inner)
    if not _subparsers(parser):
      found[name] = parser
  return found


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
  actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
  return dict(actions[0].choices) if actions else {}


def _sections(cls: type, at: str) -> Iterator[tuple[str, type]]:
  """Yields (name, dataclass) of a section of settings and of those inside it."""
  yield at, cls
  for name, hint in typing.get_type_hints(cls).items():
    for choice in typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else [hint]:
      if dataclasses.is_dataclass(choice):
        yield from _sections(typing.cast(type, choice), f"{at}.{name}")


def _section_text(section: tuple[str, type]) -> str:
  at, cls = section
  summary, meanings = _documented(cls)
  hints, lines = typing.get_type_hints(cls), [f"## `{at}`", summary]
  for field in dataclasses.fields(cls):
    hint = hints[field.name]
    if dataclasses.is_dataclass(hint) or hint is typing.Any:
      continue  # a section of its own
    value = "required" if field.default is dataclasses.MISSING else f"default `{field.default!r}`"
    meaning = meanings[field.name].replace("\n", "\n  ")
    lines.append(f"`{field.name}` ({_type_text(hint)}; {value})\n: {meaning}")
  return "\n\n".join(lines)


def _documented(cls: type) -> tuple[str, dict[str, str]]:
  """Returns the first paragraph of a dataclass's docstring and the meaning of each attribute."""
  text, _, rest = (inspect.getdoc(cls) or "").partition("\nAttributes")
  base = cls.__base__
  meanings = _documented(base)[1] if dataclasses.is_dataclass(base) else {}
  for entry in re.split(r"\n  (?=\w+: )", "\n" + rest.partition("\n")[2])[1:]:
    name, _, meaning = entry.partition(": ")
    meanings[name] = _escaped(inspect.cleandoc(meaning))
  return _escaped(text.partition("\n\n")[0]), meanings


def _escaped(text: str) -> str:
  """Returns text of a docstring as Markdown: stars and angle brackets outside of code mean themselves."""
  parts = re.split(r"(`[^`]*`)", text)
  return "".join(part if part.startswith("`") else re.sub(r"([*<$])", r"\\\1", part) for part in parts)


def _type_text(hint) -> str:
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin is typing.Literal:
    return " or ".join(f"`{choice!r}`" for choice in arguments) if len(arguments) < 6 else "a name"
  if dataclasses.is_dataclass(hint):
    return "a section, below"
  if origin in _UNIONS:
    return " or ".join(map(_type_text, arguments))
  if origin is tuple:
    return f"any number of: {_type_text(arguments[0])}" if arguments[-1] is Ellipsis else f"{len(arguments)} numbers"
  if origin is dict:
    return "name to section"
  return {"NoneType": "None", "str": "text", "int": "integer", "float": "number", "bool": "True or False"}.get(
    hint.__name__, hint.__name__
  )


def _help_page(name: str, parser: argparse.ArgumentParser) -> str:
  parser.formatter_class = functools.partial(argparse.RawDescriptionHelpFormatter, width=100)
  text = parser.format_help()
  if name == PREPARE:
    text = text.replace(parser.prog, f"saip {PREPARE}")
  return f"# `saip {name}`\n\n```text\n{text}```"


def _toctree(pages) -> str:
  return "\n".join(["", "```{toctree}", ":maxdepth: 1", "", *pages, "```"])


_INDEX_OF_SETTINGS = """# Settings

A recipe is a Python file whose `get_config()` returns these settings. The command line changes any of them:
`--config.batch_size=64 --config.optimizer.learning_rate=1e-3`. Values are Python literals; what is no literal is text.
"required" are settings that every recipe states. These pages are made from the dataclasses that check a recipe.
"""
_INDEX_OF_COMMANDS = """# Commands

`saip COMMAND --help` prints the same pages. `python -m saip_jax` is the same program.
"""
