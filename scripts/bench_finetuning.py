"""Fine-tunes encoders on a task with few and with all labels, and writes a page of the records.

  python scripts/bench_finetuning.py --work=runs/finetuning --out=results/finetuning --image-hw=64x32 --hold-out \\
      --encoder=saip_nano_people=saip_nano_people --encoder=untrained=random:vit_nano \\
      --on="Market-1501=market1501:MARKET@reid=expert_people" --on="LSPET=lsp:LSPET@keypoints=finetune_keypoints_demo"

Each encoder is fine-tuned as in `saip evaluate --finetune`, by the same recipe, from each of --seeds seeds, on each of
--fractions of the identities (or photos) of the training part, and measured on the same test part. Settings such as
--config.total_steps=300 change the recipes; behind a recipe, that one alone. Every record is a file in --out; what
exists is not run again, and a training that was stopped goes on. The page is written beside the folder.
"""

import argparse
import functools
import pathlib
import re
import shlex
import sys
from typing import NamedTuple

from bench_encoders import PEOPLE, titled_data
from bench_methods import recorded
from compare_presets import REPO, named_checkpoint
from methods_page import WHAT_COUNTS, Results, scores_of, table, verdicts

from input_pipeline.storage import cache_folder
from saip_jax.commands.flags import size_flag
from saip_jax.evaluation.evaluate import find_protocol
from saip_jax.evaluation.finetune import finetune
from saip_jax.evaluation.splits import Data


class Tuning(NamedTuple):
  """A task, and the recipe and settings it is learned by."""

  title: str
  place: str
  task: str
  recipe: str
  settings: list[str]


def parse_task(text: str) -> Tuning:
  """Returns what "TITLE=DATA@TASK=RECIPE --config.key=value ..." names."""
  form = "TASK=RECIPE --config.key=value ..."
  title, place, of_task = titled_data(text, form)
  task, _, recipe = of_task.partition("=")
  if not (task and recipe.strip()):
    raise ValueError(f'--on="{text}": expected "TITLE=DATA@{form}"')
  find_protocol(task, None)
  recipe, *settings = shlex.split(recipe)
  return Tuning(title, place, task, recipe, settings)


def results_on(tuning: Tuning, args, settings: list[str]) -> Results:
  """Returns the scores of all encoders on one task; trains and measures what has no record."""
  title, place, task, recipe, own = tuning
  settings = [*settings, *own]
  results: Results = {}
  for name, checkpoint in map(named_checkpoint, args.encoder):
    for fraction in args.fractions:
      data = Data.parse(
        place, cache_dir=cache_folder(), people_count=PEOPLE, hold_out=args.hold_out, train_fraction=fraction
      )
      facts = {"method": name, "view": "finetuning", "data": title, "hold_out": args.hold_out, "fraction": fraction}
      facts |= {"recipe": recipe, "settings": settings}
      records = []
      for seed in range(args.seeds):
        stem = re.sub(r"\W+", "_", f"{title} {task} {name} {fraction} seed{seed}")
        seeded = settings if checkpoint.startswith("random:") else [*settings, f"--config.seed={seed}"]
        run = functools.partial(
          finetune, checkpoint, task, data, recipe, seeded, str(args.work / stem), args.image_hw, seed, keep_draws=True
        )
        records.append(recorded(args.out / f"{stem}.json", facts | {"seed": seed}, run))
      results.setdefault(name, {})[f"{100 * fraction:g} % of the labels"] = scores_of(records)
  return results


def page(args, settings: list[str]) -> str:
  """Returns the page; trains and measures what has no record."""
  first, _ = named_checkpoint(args.encoder[0])
  parts = [
    f"# {args.title}",
    "Made by `scripts/bench_finetuning.py`; no figure is typed. All encoders by the same recipe, on the same share of"
    f" the identities (or photos) of the training part. Cells: mean +- deviation over {args.seeds} seeds.",
  ]
  for tuning in map(parse_task, args.on):
    results = results_on(tuning, args, settings)
    columns = list(results[first])
    title = f"## {tuning.title}: {tuning.task}, by `{tuning.recipe}`"
    parts += [title, table(results, columns), verdicts(results, first, columns)]
  parts.append(WHAT_COUNTS.format("encoders"))
  return "\n\n".join(parts) + "\n"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--work", required=True, type=pathlib.Path, help="folder of the runs")
  parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the records")
  parser.add_argument("--title", default="Fine-tuning with few labels", help="title of the page")
  parser.add_argument("--encoder", action="append", required=True, help="NAME=CHECKPOINT; repeat it")
  parser.add_argument(
    "--on", action="append", required=True, help='"TITLE=DATA@TASK=RECIPE --config.key=value ..."; repeat it'
  )
  parser.add_argument("--image-hw", required=True, type=size_flag, metavar="HxW", help="size of the input")
  parser.add_argument("--fractions", default="0.1,1", type=lambda text: [float(part) for part in text.split(",")])
  parser.add_argument("--hold-out", action="store_true", help="as in saip evaluate")
  parser.add_argument("--seeds", type=int, default=3)
  args, settings = parser.parse_known_args()
  args.out = REPO / args.out
  args.out.with_suffix(".md").write_text(page(args, settings))


if __name__ == "__main__":
  try:
    main()
  except ValueError as error:
    sys.exit(f"bench_finetuning: error: {error}")
