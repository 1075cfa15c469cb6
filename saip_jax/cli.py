"""The `saip` command: parses the flags and runs a command. Nothing heavy is imported before a command needs it."""

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from types import ModuleType

import saip_jax
from input_pipeline.names import ESCAPED, shown_error
from input_pipeline.sources.kinds import SOURCE_KINDS
from saip_jax.commands import (
  compile,
  doctor,
  embed,
  evaluate,
  export_weights,
  import_weights,
  prepare,
  prepare_people,
  pretrain,
  recipes,
  report,
)

_WITH_SETTINGS = (pretrain.run, compile.run, evaluate.run)


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs a command and returns its exit status.

  A user error is one line on standard error, which ends with a page of the documentation, and status 2.
  """
  for stream in (sys.stdout, sys.stderr):  # whatever the locale, a name in a message never ends a command
    if hasattr(stream, "reconfigure"):
      stream.reconfigure(errors=ESCAPED)
  options, rest = make_parser().parse_known_args(arguments)
  if options.traceback:
    return _run(options, rest)
  try:
    return _run(options, rest)
  except (ValueError, OSError) as e:  # user errors; any other error is a bug and shows its traceback
    print(f"saip {options.command}: error: {_with_urls(shown_error(e))} (help: {options.page})", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print(f"saip {options.command}: interrupted", file=sys.stderr)
    return 130


def _with_urls(text: str) -> str:
  """Returns a message with the URLs that the user gave instead of the paths of their local copies."""
  remote = sys.modules.get("saip_jax.run_folder.remote")  # there are no copies if nothing has imported it
  return remote.with_urls(text) if remote else text


def _run(options: argparse.Namespace, rest: list[str]) -> int:
  """Runs the command; arguments that are no flags are settings of the recipe, or an error if it has none."""
  if rest and options.run not in _WITH_SETTINGS:
    raise ValueError(f"unknown argument {rest[0]!r}; see {options.prog} --help")
  return options.run(options, rest)


class _Parser(argparse.ArgumentParser):
  """argparse with errors of one line."""

  def error(self, message):
    self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
  """Returns the parser; in what it parses, `run` is the function of the command."""
  parser = _Parser(
    prog="saip",
    description=saip_jax.__doc__,
    allow_abbrev=False,
    epilog="saip COMMAND --help lists the flags of a command.",
  )
  parser.add_argument("--version", action="version", version=f"saip {saip_jax.__version__}")
  commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
  goes_on = "the same command resumes it"
  _add_command(commands, "pretrain", pretrain, f"pre-train a model; {goes_on} if it was stopped")
  _add_command(commands, "recipes", recipes, "list the recipes of this program, print one, or copy one to change it")
  _add_command(commands, "compile", compile, "compile the step for TPUs or GPUs without one: memory and least time")
  kinds = _add_parser(commands, "prepare", "make a data set").add_subparsers(dest="kind", required=True, metavar="KIND")
  _add_command(kinds, "people", prepare_people, f"render built-in people; {goes_on}")
  for kind in SOURCE_KINDS:
    if kind != "people":
      _add_command(kinds, kind, prepare, f"{kind} data to ArrayRecord shards; {goes_on}")
  _add_command(commands, "doctor", doctor, "examine a data set: problems, and how to fix them")
  _add_command(commands, "import", import_weights, "make published weights ready for pre-training from them")
  _add_command(
    commands,
    "export",
    export_weights,
    "write the encoder for PyTorch or ONNX, and check that it computes the same there",
  )
  _add_command(commands, "embed", embed, "write the features of a folder of images into one file")
  _add_command(commands, "evaluate", evaluate, "measure a checkpoint on a human-centric task, frozen or fine-tuned")
  _add_command(commands, "report", report, "one HTML page about a run: curves, pictures, scores; opens offline")
  return parser


def _add_parser(commands, name: str, summary: str) -> argparse.ArgumentParser:
  description = summary[0].upper() + summary[1:] + "."
  layout = argparse.RawDescriptionHelpFormatter  # an example is one line, however long
  return commands.add_parser(name, help=summary, description=description, formatter_class=layout, allow_abbrev=False)


def _add_command(commands, name: str, command: ModuleType, summary: str) -> None:
  """Adds a module of `saip_jax.commands` under a name."""
  parser = _add_parser(commands, name, summary)
  parser.add_argument(
    "--traceback",
    action="store_true",
    default=bool(os.environ.get("SAIP_TRACEBACK")),
    help="show the traceback of an error (or set SAIP_TRACEBACK=1)",
  )
  command.add_flags(parser)
  notes = "" if parser.epilog is None else "\n\n" + textwrap.fill(parser.epilog, width=80, break_on_hyphens=False)
  page = f"docs/{command.PAGE}.md"
  parser.epilog = f"example:\n  {command.EXAMPLE.format(kind=name)}{notes}\n\ndocumentation: {page}"
  parser.set_defaults(run=command.run, prog=parser.prog, page=page)
