"""Compares the methods at the size of `saip_nano`: methods x seeds x tasks, at equal images and at equal time.

  python scripts/bench_methods.py --work=runs/methods --seeds=3

Each method trains for --updates ("equal images"), and for as many updates as take the time that SAIP needs ("equal
time"; the speeds of all methods are measured first, in turns, on an otherwise idle machine). The last student is
measured on all of TASKS with frozen features, beside untrained networks, a color histogram and a constant. Protocols
are fixed below and the same for all. Every record is a file in --out; what exists is not run again: the same command
goes on where it stopped, and --seeds=5 adds two to three, without the runs of the first three. --methods also takes
variants of SAIP: its objectives alone and in pairs ("CSM", "CSM+CSR"), its behavior as published ("official"), or one
setting of it as published ("official-tokens"); and a small search: a recipe with one setting changed ("MAE-rate2x").
`scripts/methods_page.py` writes the page from the records, `scripts/bench_encoders.py` measures other encoders.

--data, and settings such as --config.data.path=PATH, compare on other pictures:

  python scripts/bench_methods.py --work=runs/market --out=runs/market/records --data=market1501:MARKET \\
      --tasks=reid:nearest --config.data.source=market1501 --config.data.path=MARKET
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import itertools
import json
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Callable

from compare_presets import REPO, Run, cached_record, initial_backbone, plan_runs, pretrain
from methods_page import MONITORS, REFERENCE, best_seconds

from input_pipeline.storage import cache_folder
from saip_jax.evaluation.encoders import Encoder, encoder_of, open_encoder
from saip_jax.evaluation.evaluate import find_protocol, measure
from saip_jax.evaluation.splits import Data
from saip_jax.methods.saip.behavior import FIDELITIES
from saip_jax.recipes import load_recipe

METHODS = {
  "SAIP": "saip_nano",
  "MAE": "mae_nano",
  "DINO": "dino_nano",
  "DINO+MAE": "dino_mae_nano",
  "HAP": "hap_nano",
  "CroCo-Human": "croco_human_nano",
  "HCMoCo": "hcmoco_nano",
}
"""Name -> recipe."""

WEIGHTS = {"CSM": "csm.weight", "CSR": "csr.weight", "CSS": "css.weight"}
SUBSETS = [names for count in (1, 2) for names in itertools.combinations(WEIGHTS, count)]
PUBLISHED = {
  name: value
  for name, value in dataclasses.asdict(FIDELITIES["official"]).items()
  if value != getattr(FIDELITIES["improved"], name) and name != "statistics"  # of batch norm; a ViT has none
}
VARIANTS = {
  **{
    "+".join(kept): " ".join(["saip_nano", *(f"--config.method.{WEIGHTS[n]}=0" for n in WEIGHTS if n not in kept)])
    for kept in SUBSETS
  },
  "official": "saip_nano --config.method.fidelity=official",
  **{
    f"official-{name}": "saip_nano " + shlex.quote(f"--config.method.behavior.{name}={value}")
    for name, value in PUBLISHED.items()
  },
}
"""Name -> recipe and settings: SAIP's objectives alone and in pairs; its published behavior, whole and one by one."""

RATES = {"rate0.5x": "--config.optimizer.learning_rate=7.5e-4", "rate2x": "--config.optimizer.learning_rate=3e-3"}
CROPS = {"crops": "--config.method.crop_area=(0.6,1.0)"}  # recipes: 0.2 to 1, 0.77 (CroCo-Human), 0.3 to 1 (HCMoCo)
MATCHING = {
  "crops": "--config.method.global_area=(0.8,1.0) --config.method.local_area=(0.05,0.8)",  # those of SAIP
  "momentum": "--config.method.teacher_momentum=0.99",
  "prototypes": "--config.method.prototypes=1024",
}
CHANGES = {
  "SAIP": {},  # `saip_nano` comes from a search of its own
  "MAE": CROPS,
  "DINO": MATCHING,
  "DINO+MAE": MATCHING,
  "HAP": {"crops": "--config.method.crop_area=(0.4,1.0)"},  # the recipe: 0.8 to 1
  "CroCo-Human": CROPS,
  "HCMoCo": CROPS,
}
SEARCH = {
  f"{name}-{label}": f"{METHODS[name]} {setting}"
  for name, changes in CHANGES.items()
  for label, setting in (RATES | changes).items()
}
"""Name -> recipe and what differs: twice or half the learning rate, crops, momentum of the teacher, prototypes."""

TASKS = (
  "reid:nearest",
  "reid:stripes",
  "text:linear",
  "attributes:linear",
  "attributes:stripes",
  "keypoints:heatmap",
  "keypoints:coordinates",
  "wholebody:heatmap",
  "parsing:linear",
  "multi_parsing:linear",
  "detection:linear",
  "joints3d:linear",
  "depth:linear",
  "correspondence:nearest",
)
# All start from a network of the first kind, except where tokens start as published.
STARTS = {REFERENCE: ("untrained", "baseline"), "official-tokens": ("official-tokens-untrained", "variant")}
SCENES = 512  # images of the default set of people for tasks on whole photos
WHOLE_PHOTOS = ("multi_parsing", "detection")
SPEED_UPDATES, SPEED_TURNS = 60, 2


def speed_of(name: str, train: int, settings: list[str], work: pathlib.Path) -> float:
  """Returns seconds per update of a method, the last figure of a short run, without compilation."""
  (run,) = plan_runs(f"{name}={METHODS[name]}", [*people_settings(METHODS[name], train), *settings], 1, work)
  pretrain(run)
  last = (run.workdir / "metrics.jsonl").read_text().splitlines()[-1]
  return json.loads(last)["time/step_s"]


def speeds(names: list[str], train: int, settings: list[str], work: pathlib.Path) -> dict:
  """Returns the record of the seconds per update of all methods, measured in turns."""
  short = [*settings, f"--config.total_steps={SPEED_UPDATES}", "--config.panel_every=0", "--config.log_every=20"]
  seconds: dict[str, list[float]] = {name: [] for name in names}
  for turn in range(SPEED_TURNS):
    for name in names:
      seconds[name].append(speed_of(name, train, short, work / f"turn{turn}"))
  return {"seconds_per_update": seconds, "commit": commit()}


def commit() -> str:
  """Returns the commit of the code, with a + if files differ from it."""
  git = lambda *command: subprocess.run(["git", *command], cwd=REPO, capture_output=True, text=True).stdout.strip()
  return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def updates_at_equal_time(record: dict, updates: int) -> dict[str, int]:
  """Returns method -> the number of updates that take as long as `updates` of SAIP, by the best turns."""
  best = best_seconds(record)
  return {name: round(updates * best[REFERENCE] / seconds) for name, seconds in best.items()}


def measured(encoder: Encoder, column: str, data: Data, scenes: Data) -> dict:
  """Returns the record of a task, TASK:PROTOCOL, with the scores of resampled test sets."""
  task, _, protocol = column.partition(":")
  return measure(encoder, task, scenes if task in WHOLE_PHOTOS else data, protocol, keep_draws=True)


def stated(file: pathlib.Path, facts: dict, run: Callable[[], dict]) -> dict:
  """Returns the record in a file: `facts`, the commit, and what `run` returns if the file is missing.

  Raises:
    ValueError: the record has other facts.
  """
  record = cached_record(file, lambda: facts | {"commit": commit()} | run(), indent=None)  # 500 draws
  if any(record.get(key) != value for key, value in facts.items()):
    raise ValueError(f"{file} is of other settings or data: delete it, or choose another --out")
  return record


def recorded(file: pathlib.Path, facts: dict, run: Callable[[], dict]) -> dict:
  """Returns the record of an evaluation, see `stated`: of what `run` returns, the parts that pages need."""
  kept = ("task", "protocol", "scores", "uncertainty", "seconds", "time")
  return stated(file, facts, lambda: {key: value for key, value in run().items() if key in kept})


def people_settings(recipe: str, count: int) -> list[str]:
  """Returns the settings for so many built-in people, which the parts of a recipe's mixture share."""
  parts = [f"mixture.{name}." for name in load_recipe(recipe)["data"].get("mixture", {})] or [""]
  return [f"--config.data.{part}people_count={count // len(parts)}" for part in parts]


def plan(args, settings: list[str]) -> list[tuple[Run, str, str, int]]:
  """Returns the runs, each with its method, its view ("images", "time", "variant" or "search") and its seed."""
  known = METHODS | VARIANTS | SEARCH
  view_of = lambda name: "images" if name in METHODS else "variant" if name in VARIANTS else "search"
  chosen = args.methods.split(",")
  unknown = [name for name in chosen if name not in known]
  if unknown:
    raise ValueError(f"--methods={args.methods}: {unknown[0]!r} is unknown; choose from: {', '.join(known)}")
  lengths = {(view_of(name), name): args.updates for name in chosen}
  names = [name for name in chosen if name in METHODS]
  if args.equal_time and names:
    needed = [REFERENCE, *(name for name in names if name != REFERENCE)]
    record = cached_record(args.out / "speeds.json", lambda: speeds(needed, args.train, settings, args.work / "speeds"))
    missing = [name for name in needed if name not in record["seconds_per_update"]]
    if missing:
      raise ValueError(f"{args.out / 'speeds.json'} lacks {missing[0]}: delete it to measure all methods again")
    at_equal_time = updates_at_equal_time(record, args.updates)
    lengths |= {("time", name): at_equal_time[name] for name in names if name != REFERENCE}
  runs = []
  for (view, name), updates in lengths.items():
    of_run = [*people_settings(known[name].split()[0], args.train), *settings]
    of_run += [f"--config.total_steps={updates}", f"--config.monitor_every={max(1, updates // args.points)}"]
    planned = plan_runs(f"{name}={known[name]}", of_run, args.seeds, args.work)
    runs += [(run, name, view, seed) for seed, run in enumerate(planned)]
  return sorted(runs, key=lambda each: (each[3], each[2]))  # all methods of a seed first


def curve(run: Run) -> list[dict]:
  """Returns the monitors of a run: update -> scores."""
  lines = map(json.loads, (run.workdir / "metrics.jsonl").read_text().splitlines())
  names = [f"monitor/{name}" for name in MONITORS]
  return [{"step": line["step"]} | {n: line[n] for n in names} for line in lines if names[0] in line]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--work", required=True, type=pathlib.Path, help="folder of the runs")
  parser.add_argument("--out", type=pathlib.Path, default=REPO / "results" / "methods", help="folder of the records")
  parser.add_argument(
    "--methods", default=",".join(METHODS), help=f"also, at equal images: {','.join(VARIANTS | SEARCH)}"
  )
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--updates", type=int, default=1500, help="updates at equal images")
  parser.add_argument("--points", type=int, default=5, help="measurements during a run, for the curves")
  parser.add_argument("--equal-time", action=argparse.BooleanOptionalAction, default=True)
  parser.add_argument("--train", type=int, default=8192, help="built-in people to train on, all splits")
  parser.add_argument("--workers", type=int, default=1, help="runs at the same time")
  parser.add_argument("--tasks", default=",".join(TASKS))
  parser.add_argument("--data", default="people", help="the evaluation data, as in saip evaluate")
  parser.add_argument("--hold-out", action="store_true", help="as in saip evaluate")
  parser.add_argument("--people", type=int, default=2048, help="images of the default set of people to measure on")
  args, common = parser.parse_known_args()
  columns = args.tasks.split(",")
  for column in columns:
    find_protocol(*column.partition(":")[::2])
  of = lambda count: Data.parse(args.data, cache_dir=cache_folder(), people_count=count, hold_out=args.hold_out)
  data, scenes = of(args.people), of(SCENES)
  runs = plan(args, common)
  stem_of = lambda name, view, seed: f"{name}_{view}_seed{seed}"
  file_of = lambda stem, column: args.out / f"{stem}_{column.replace(':', '_')}.json"
  curve_of = lambda stem: args.out / "curves" / f"{stem}.json"

  def is_recorded(stem: str) -> bool:
    return all(file.exists() for file in (curve_of(stem), *(file_of(stem, column) for column in columns)))

  with concurrent.futures.ThreadPoolExecutor(args.workers) as pool:
    list(pool.map(pretrain, [run for run, *of_run in runs if not is_recorded(stem_of(*of_run))]))

  def add(name: str, open_it: Callable[[], Encoder], facts: dict) -> None:
    opened = functools.cache(open_it)  # and compiled once for all tasks
    facts = facts | {"data": args.data, "hold_out": args.hold_out, "people": args.people}
    for column in columns:
      recorded(file_of(name, column), facts, lambda: measured(opened(), column, data, scenes))

  for kind in ("histogram", "constant"):
    hw = runs[0][0].config.model.image_hw
    add(kind, lambda: open_encoder(kind, image_hw=hw), {"method": kind, "view": "baseline", "seed": 0})
  for run, name, view, seed in runs:
    images = run.config.total_steps * run.config.batch_size
    facts = {"method": name, "view": view, "seed": seed, "recipe": run.recipe, "step": run.config.total_steps}
    facts |= {"images": images, "settings": run.settings}
    if name in STARTS:
      row, its_view = STARTS[name]
      start = facts | {"method": row, "view": its_view, "step": 0, "images": 0}
      add(f"{row}_seed{seed}", lambda: encoder_of(initial_backbone(run), {}), start)
    stem = stem_of(name, view, seed)
    cached_record(curve_of(stem), lambda: facts | {"curve": curve(run)})
    add(stem, lambda: open_encoder(str(run.workdir)), facts)


if __name__ == "__main__":
  try:
    main()
  except ValueError as error:
    sys.exit(f"bench_methods: error: {error}")
