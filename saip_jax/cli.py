"""The `saip` command: flags in, one library call out. Nothing heavy is imported before a command needs it."""

import argparse
import os
import sys
from typing import Sequence

import saip_jax


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs a command and returns its exit status; a person's mistake is one line on standard error and status 2."""
  options, rest = _parser().parse_known_args(arguments)
  if options.traceback:
    return options.run(options, rest)
  try:
    return options.run(options, rest)
  except (ValueError, OSError) as e:  # what a person can mend; anything else is our bug and shows its traceback
    print(f"saip {options.command}: error: {' '.join(str(e).split())}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print(f"saip {options.command}: interrupted", file=sys.stderr)
    return 130


class _Parser(argparse.ArgumentParser):
  """argparse with errors of one line."""

  def error(self, message):
    self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
      prog="saip", description=saip_jax.__doc__, allow_abbrev=False,
      epilog="saip COMMAND --help tells the flags of a command.",
  )
  parser.add_argument("--version", action="version", version=f"saip {saip_jax.__version__}")
  commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

  pretrain = _add_command(
      commands, "pretrain", _pretrain, "pre-train a model; started again, the same command goes on where it stopped",
      epilog="Any setting of the recipe can be changed: --config.batch_size=8 --config.optimizer.learning_rate=1e-3",
  )
  pretrain.add_argument("--config", required=True, metavar="FILE", help="recipe, as configs/saip_demo.py")
  pretrain.add_argument("--workdir", required=True, metavar="DIR", help="folder for all outputs of this run")

  prepare = _add_command(commands, "prepare", None, "make a data set")
  kinds = prepare.add_subparsers(dest="kind", required=True, metavar="KIND")
  people = _add_command(kinds, "people", _prepare_people, "render built-in people")
  people.add_argument("--out", required=True, metavar="DIR", help="folder for the images")
  people.add_argument("--count", type=int, required=True, help="number of images")
  people.add_argument("--image-hw", type=_size, default=(256, 128), metavar="HxW", help="size in pixels (256x128)")
  people.add_argument("--seed", type=int, default=0, help="seed of the people (0)")
  return parser


def _add_command(commands, name: str, run, summary: str, **options) -> argparse.ArgumentParser:
  command = commands.add_parser(
      name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False, **options
  )
  if run:
    command.set_defaults(run=run)
    command.add_argument(
        "--traceback", action="store_true", default=bool(os.environ.get("SAIP_TRACEBACK")),
        help="show where an error comes from (or set SAIP_TRACEBACK=1)",
    )
  return command


def _size(text: str) -> tuple[int, int]:
  try:
    height, width = (int(part) for part in text.split("x"))
  except ValueError:
    raise argparse.ArgumentTypeError(f"{text!r} is no size; write height x width, as 256x128") from None
  return height, width


def _pretrain(options, overrides) -> int:
  from input_pipeline.pipeline import build_train_data
  from saip_jax.config import apply_overrides, load_recipe, parse_config
  from saip_jax.methods import METHODS
  from saip_jax.training.checkpoint import claim_workdir
  from saip_jax.training.loop import pretrain
  from saip_jax.typed import to_dict

  config = parse_config(apply_overrides(load_recipe(options.config), overrides))
  method = METHODS[config.method.name].build(config)
  workdir = claim_workdir(options.workdir, to_dict(config))
  data = build_train_data(
      source=config.data.source,
      path=config.data.path,
      scene_path=config.data.scene_path,
      cache_dir=workdir,
      canvas_hw=config.data.canvas_hw,
      scene_canvas_hw=config.data.scene_canvas_hw,
      batch_size=config.batch_size,
      seed=config.seed,
      workers=config.data.workers,
      threads=config.data.threads,
      max_damaged_fraction=config.data.max_damaged_fraction,
      people_count=config.data.people_count,
  )
  pretrain(config, method, data, workdir)
  return 0


def _prepare_people(options, rest) -> int:
  from input_pipeline.people.prepare import prepare_people

  if rest:
    raise ValueError(f"unknown argument {rest[0]!r}; see saip prepare people --help")
  prepare_people(options.out, options.count, options.image_hw, options.seed)
  print(f"{options.count} images in {options.out}")
  return 0
