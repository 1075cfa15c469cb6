"""Compares HCMoCo's losses on the built-in people: prints a Markdown table, mean +- deviation over seeds.

  python scripts/compare_modalities.py --out=runs/modalities --seeds=3

`saip pretrain` runs configs/hcmoco_demo.py from each seed: with the sample loss alone, and with the dense and the joint
losses added. Then, as in `saip evaluate --task=cross_modality`, a linear probe of body parts is fitted on the dense
maps of one modality, or of both, and tested on another: mean IoU on the pixels of the person. Baselines: the networks
before training, the place in the image without any network, and the commonest part everywhere. Finished results are
kept in --out, as in compare_presets.py. On two cores --processes=2 --config.total_steps=80 takes about twelve minutes.
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

from compare_presets import Run, cached_record, plan_runs, pretrain  # noqa: E402

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

RECIPE = REPO / "configs" / "hcmoco_demo.py"
ARMS = {
  "samples": {"dense": 0.0, "nodes": 0.0, "joints": 0.0},
  "samples, dense": {"nodes": 0.0, "joints": 0.0},
  "samples, joints": {"dense": 0.0},
  "all": {},
}
"""Row -> loss weights that differ from the recipe."""

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


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", required=True, type=pathlib.Path, help="folder for runs and scores")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--people", type=int, default=512, help="images of the evaluation set, all splits")
  parser.add_argument("--processes", type=int, default=1, help="runs at a time; 2 on two cores, 1 on an accelerator")
  args, common = parser.parse_known_args()
  runs = []
  for arm, weights in ARMS.items():
    settings = " ".join(f"--config.method.weights.{name}={weight}" for name, weight in weights.items())
    name = arm.replace(", ", "_")
    runs += [(arm, run) for run in plan_runs(f"{name}={RECIPE} {settings}", common, args.seeds, args.out)]
  with concurrent.futures.ThreadPoolExecutor(args.processes) as pool:  # before this process takes the device
    list(pool.map(pretrain, [run for _, run in runs]))

  rows: dict[str, list[dict[str, float]]] = {}
  for arm, run in [*runs, *((START, run) for arm, run in runs if arm == "all")]:
    started = arm == START
    file = args.out / "scores" / f"{run.workdir.name}{'_start' * started}_people{args.people}.json"
    rows.setdefault(arm, []).append(cached_record(file, lambda: measure(run, started, args.people)))
  config = runs[0][1].config
  train, test = sets(args.people, config.model.image_hw)
  grid = METHODS["hcmoco"].build(config).grid
  alone = {
    "place in the picture": place_score(train, test, grid),
    "commonest part everywhere": chance_score(train, test),
  }
  print(table(rows, alone))


if __name__ == "__main__":
  try:
    main()
  except ValueError as error:
    sys.exit(f"compare_modalities: error: {error}")
