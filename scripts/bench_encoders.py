"""Measures encoders side by side on built-in people and on other pictures, and writes a page of the records.

  python scripts/bench_encoders.py --out=results/people_model --untrained=saip_nano \\
      --encoder=saip_nano_people=saip_nano_people --encoder=expert=runs/people_model/expert \\
      --on="Built-in people=people@reid:nearest,keypoints:heatmap" --on="Market-1501=market1501:MARKET@reid:nearest"

Frozen features, protocols of `saip evaluate`. Beside the encoders: untrained networks from --seeds seeds, a color
histogram, and one constant feature. Every record is a file in --out; what exists is not measured again. --hold-out
splits a set without a test split 7 : 3, by identities or photos. The page is written beside the folder.
"""

import argparse
import dataclasses
import functools
import pathlib
import re
import sys
from collections.abc import Callable

from bench_methods import SCENES, measured, recorded
from compare_presets import REPO, initial_backbone, named_checkpoint, plan_runs
from methods_page import Results, gain_of_encoders, scores_of, table, verdicts

from input_pipeline.storage import cache_folder
from saip_jax.evaluation.encoders import Encoder, encoder_of, open_encoder
from saip_jax.evaluation.evaluate import find_protocol
from saip_jax.evaluation.splits import Data

PEOPLE = 2048  # images of the default set of people


def titled_data(text: str, form: str) -> tuple[str, str, str]:
  """Returns title, data and tasks of "TITLE=DATA@TASKS"; raises ValueError, which shows `form`, if one is missing."""
  title, _, rest = text.partition("=")
  place, _, tasks = rest.rpartition("@")
  if not (title and place and tasks):
    raise ValueError(f'--on="{text}": expected "TITLE=DATA@{form}"')
  return title, place, tasks


@dataclasses.dataclass(frozen=True)
class Pictures:
  """Pictures to measure on.

  Attributes:
    title: their name on the page and in the records.
    place: as --data of `saip evaluate`.
    columns: TASK:PROTOCOL of each task.
  """

  title: str
  place: str
  columns: list[str]

  @classmethod
  def parse(cls, text: str) -> "Pictures":
    """Returns the pictures of "TITLE=DATA@TASK:PROTOCOL,..."."""
    title, place, tasks = titled_data(text, "TASK:PROTOCOL,...")
    for column in tasks.split(","):
      find_protocol(*column.partition(":")[::2])
    return cls(title, place, tasks.split(","))

  def data(self, whole: bool, hold_out: bool) -> Data:
    """Returns what the tasks read; tasks on whole photos use fewer built-in people, which have splits of their own."""
    hold_out = hold_out and self.place != "people"
    return Data.parse(self.place, cache_dir=cache_folder(), people_count=SCENES if whole else PEOPLE, hold_out=hold_out)


def encoders(args) -> list[tuple[str, int, Callable[[], Encoder]]]:
  """Returns (name, seed, function that opens it) of everything that is measured."""
  found = []
  for text in args.encoder:
    name, checkpoint = named_checkpoint(text)
    found.append((name, 0, functools.partial(open_encoder, checkpoint)))
  runs = plan_runs(f"untrained={args.untrained}", [], args.seeds, args.out)  # none is trained
  for seed, run in enumerate(runs):
    found.append(("untrained", seed, lambda run=run: encoder_of(initial_backbone(run), {})))
  for kind in ("histogram", "constant"):
    found.append((kind, 0, functools.partial(open_encoder, kind, image_hw=runs[0].config.model.image_hw)))
  return found


def results_on(pictures: Pictures, args) -> Results:
  """Returns the scores on one set of pictures; measures what has no record."""
  whole, crops = (pictures.data(whole, args.hold_out) for whole in (True, False))
  records: dict[str, dict[str, list[dict]]] = {}
  for name, seed, open_it in encoders(args):
    opened = functools.cache(open_it)  # and compiled once for all tasks
    facts = {"method": name, "view": "encoder", "seed": seed, "data": pictures.title, "hold_out": args.hold_out}
    for column in pictures.columns:
      stem = re.sub(r"\W+", "_", f"{pictures.title} {name} seed{seed} {column}")
      record = recorded(args.out / f"{stem}.json", facts, lambda: measured(opened(), column, crops, whole))
      records.setdefault(name, {}).setdefault(column, []).append(record)
  return {name: {column: scores_of(of) for column, of in by_task.items()} for name, by_task in records.items()}


def page(args) -> str:
  """Returns the page; measures what has no record."""
  first, _ = named_checkpoint(args.encoder[0])
  parts = [
    f"# {args.title}",
    "Made by `scripts/bench_encoders.py`; no figure is typed. Frozen features of pictures that no stage was trained on."
    f" Untrained: mean +- deviation over {args.seeds} seeds. Errors (mm) are better if smaller.",
  ]
  for pictures in map(Pictures.parse, args.on):
    results = results_on(pictures, args)
    parts += [
      f"## {pictures.title}",
      table(results, pictures.columns),
      verdicts(results, first, pictures.columns, gain_of_encoders),
    ]
  parts.append(
    "A difference counts only if zero is outside its 95 % interval, by 500 resampled test sets (persons, or photos), on"
    " which both are measured alike; the scores of untrained networks are averaged over their seeds."
  )
  return "\n\n".join(parts) + "\n"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the records")
  parser.add_argument("--title", default="Encoders side by side", help="title of the page")
  parser.add_argument("--encoder", action="append", required=True, help="NAME=CHECKPOINT; repeat it")
  parser.add_argument("--on", action="append", required=True, help="TITLE=DATA@TASK:PROTOCOL,...; repeat it")
  parser.add_argument("--untrained", required=True, help="recipe whose first weights are the untrained networks")
  parser.add_argument("--hold-out", action="store_true", help="as in saip evaluate, for all but built-in people")
  parser.add_argument("--seeds", type=int, default=3, help="of the untrained networks")
  args = parser.parse_args()
  args.out = REPO / args.out
  args.out.with_suffix(".md").write_text(page(args))


if __name__ == "__main__":
  try:
    main()
  except ValueError as error:
    sys.exit(f"bench_encoders: error: {error}")
