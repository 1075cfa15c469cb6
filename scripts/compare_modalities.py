"""Measures what HCMoCo's losses teach about parts across modalities, and writes a page of the records.

  python scripts/compare_modalities.py --work=runs/modalities --out=results/modalities --seeds=3

`saip pretrain` runs --recipe on built-in people from each seed: with the sample loss alone, with more losses, and with
crops of more sizes, in which the place says less. Then, as in `saip evaluate --task=cross_modality`, a linear probe of
body parts is fitted on the dense maps of one modality, or of both, and tested on another: mean IoU on the pixels of the
person. Baselines: the networks before training, the place in the image without any network, and the commonest part
everywhere. Every record is a file in --out; what exists is not run again. The page is written beside the folder.
"""

import argparse
import concurrent.futures
import functools
import pathlib
import sys

import jax
import numpy as np

REPO = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO), str(REPO / "scripts")]

from bench_methods import stated  # noqa: E402
from compare_presets import Run, plan_runs, pretrain  # noqa: E402

from input_pipeline.storage import cache_folder  # noqa: E402
from saip_jax.evaluation.splits import Data  # noqa: E402
from saip_jax.evaluation.tasks.cross_modality import (  # noqa: E402
  RgbdPeople,
  chance_score,
  maps_of,
  modality_encoders,
  open_hcmoco_run,
  place_score,
  read_people,
  transfer_scores,
)
from saip_jax.methods import METHODS  # noqa: E402

_WEIGHT = "--config.method.weights."
ARMS = {
  "samples": f"{_WEIGHT}dense=0 {_WEIGHT}nodes=0 {_WEIGHT}joints=0",
  "samples, dense": f"{_WEIGHT}nodes=0 {_WEIGHT}joints=0",
  "samples, joints": f"{_WEIGHT}dense=0",
  "all": "",
  "all, wide crops": "--config.method.crop_area=(0.08,1.0)",
}
"""Row -> settings that differ from the recipe."""

START = "all, no pre-training"


def measure(run: Run, started: bool, people: int) -> dict[str, float]:
  """Returns the scores of a run, or of its initial network."""
  method, params, method_state, _ = open_hcmoco_run(run.workdir)
  if started:
    params, method_state = jax.jit(method.init)(jax.random.key(run.config.seed))
  encoders, (train, test) = modality_encoders(method, params, method_state, {}), sets(people, run.config.model.image_hw)
  return transfer_scores(maps_of(encoders, train), train, maps_of(encoders, test), test)


@functools.cache
def sets(people: int, image_hw: tuple[int, int]) -> tuple[RgbdPeople, RgbdPeople]:
  """Returns the people that probes are fitted on, and others that they are tested on."""
  parts = Data.parse("people", cache_dir=cache_folder(), people_count=people).train_and_test()
  return tuple(read_people(part, image_hw, []) for part in parts)


def table(rows: dict[str, list[dict[str, float]]], alone: dict[str, float]) -> str:
  """Returns Markdown in percent, from row -> scores of each seed, and scores shared by all modalities."""
  columns = list(next(iter(rows.values()))[0])
  lines = [f"| fitted -> tested | {' | '.join(columns)} | seeds |", "|---|" + "---:|" * (len(columns) + 1)]
  for name, seeds in rows.items():
    values = [100 * np.array([scores[column] for scores in seeds]) for column in columns]
    spread = lambda v: f" +- {v.std(ddof=1):.1f}" if len(v) > 1 else ""
    lines.append(f"| {name} | {' | '.join(f'{v.mean():.1f}{spread(v)}' for v in values)} | {len(seeds)} |")
  return "\n".join(lines + [f"| {name} |{f' {100 * score:.1f} |' * len(columns)} |" for name, score in alone.items()])


def page(rows: dict[str, list[dict[str, float]]], alone: dict[str, float], recipe: str, updates: int) -> str:
  """Returns the page, from row -> scores of each seed, and scores shared by all modalities."""
  parts = [
    "# Parts across modalities",
    "Made by `scripts/compare_modalities.py`; no figure is typed. A linear probe of body parts is fitted on the dense"
    " maps of one modality and tested on another: mean IoU in percent, on the pixels of people never trained on."
    f" `{recipe}`, {updates:,} updates; `samples`, `dense`, `nodes` and `joints` are its losses, wide crops have 0.08"
    " to 1 of the image. Cells: mean +- deviation over seeds.",
    table(rows, alone),
    "What the maps tell about parts is what they tell beyond the place in the picture, which needs no network.",
  ]
  return "\n\n".join(parts) + "\n"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--work", required=True, type=pathlib.Path, help="folder of the runs")
  parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the records")
  parser.add_argument("--recipe", default="hcmoco_nano")
  parser.add_argument("--arms", default=";".join(ARMS), help="rows, separated by semicolons")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--people", type=int, default=2048, help="images of the evaluation set, all splits")
  parser.add_argument("--processes", type=int, default=1, help="runs at a time; 2 on two cores, 1 on an accelerator")
  args, common = parser.parse_known_args()
  arms = args.arms.split(";")
  if unknown := [arm for arm in arms if arm not in ARMS]:
    raise ValueError(f"--arms={args.arms}: {unknown[0]!r} is unknown; choose from: {'; '.join(ARMS)}")
  runs = []
  for arm in arms:
    name = arm.replace(", ", "_").replace(" ", "_")
    runs += [(arm, run) for run in plan_runs(f"{name}={args.recipe} {ARMS[arm]}", common, args.seeds, args.work)]
  with concurrent.futures.ThreadPoolExecutor(args.processes) as pool:  # before this process takes the device
    list(pool.map(pretrain, [run for _, run in runs]))

  rows: dict[str, list[dict[str, float]]] = {}
  for arm, run in [*runs, *((START, run) for arm, run in runs if arm == "all")]:
    started = arm == START
    facts = {"row": arm, "recipe": run.recipe, "settings": run.settings, "people": args.people}
    file = args.out / f"{run.workdir.name}{'_start' * started}.json"
    record = stated(file, facts, lambda: {"scores": measure(run, started, args.people)})
    rows.setdefault(arm, []).append(record["scores"])
  config = runs[0][1].config
  train, test = sets(args.people, config.model.image_hw)
  grid = METHODS["hcmoco"].build(config).grid
  alone = {
    "place in the picture": place_score(train, test, grid),
    "commonest part everywhere": chance_score(train, test),
  }
  args.out.with_suffix(".md").write_text(page(rows, alone, args.recipe, config.total_steps))


if __name__ == "__main__":
  try:
    main()
  except ValueError as error:
    sys.exit(f"compare_modalities: error: {error}")
