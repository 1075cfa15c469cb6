"""Compares ways of pre-training on the built-in people: prints a Markdown table, mean +- deviation over seeds.

  python scripts/compare_presets.py --out=runs/presets --seeds=3 --config.total_steps=200 \\
      --preset="official=configs/saip_demo.py" \\
      --preset="improved=configs/saip_demo.py --config.method.fidelity=improved"

`saip pretrain` runs each preset from each seed; then `evaluation/people_probe.py` measures the frozen features:
identity retrieval, and a ridge regression of keypoints. Beside them: each network at its start, colour histograms, and
the same feature for every picture, which gives the mean pose. What is finished is kept in --out, and the same command
goes on where it stopped; after a change of the code take a new --out.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
from typing import Callable

import jax
import numpy as np

REPO = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from saip_jax.config import RunConfig, apply_overrides, load_recipe, parse_config  # noqa: E402
from saip_jax.evaluation.people_probe import (  # noqa: E402
    People, backbone_features, colour_features, no_features, probe_people,
)
from saip_jax.interop.weights import LoadedBackbone, Preprocessing, load_backbone  # noqa: E402
from saip_jax.methods import METHODS  # noqa: E402
from saip_jax.training.checkpoint import checkpoint_steps  # noqa: E402
from saip_jax.typed import to_dict  # noqa: E402

COLUMNS = {"mAP": "identity mAP, %", "keypoint_error": "keypoint error, % of height", "PCK@0.1": "PCK@0.1, %"}


@dataclasses.dataclass(frozen=True)
class Run:
  """One preset from one seed."""

  preset: str
  recipe: str
  settings: list[str]
  config: RunConfig
  workdir: pathlib.Path


def plan_runs(text: str, common: list[str], seeds: int, out: pathlib.Path) -> list[Run]:
  """Returns the runs of "NAME=FILE --config.key=value ..."; its own settings overrule those common to all presets."""
  name, equals, rest = text.partition("=")
  if not (name and equals and rest.strip()):
    raise ValueError(f'--preset="{text}": expected "NAME=FILE --config.key=value ..."')
  recipe, *settings = shlex.split(rest)
  runs = []
  for seed in range(seeds):
    of_seed = [*common, *settings, f"--config.seed={seed}"]
    config = parse_config(apply_overrides(load_recipe(recipe), of_seed))
    digest = hashlib.sha256(json.dumps(to_dict(config), sort_keys=True).encode()).hexdigest()[:12]
    runs.append(Run(name, recipe, of_seed, config, out / "runs" / f"{name}_seed{seed}_{digest}"))
  return runs


def pretrain(run: Run) -> None:
  """Runs `saip pretrain`, unless it is done, in a process of its own, which gives the device back at its end."""
  done = lambda: max(checkpoint_steps(run.workdir), default=0) >= run.config.total_steps
  if done():
    return
  flags = [f"--config={run.recipe}", f"--workdir={run.workdir}", *run.settings]
  command = [sys.executable, "-m", "saip_jax", "pretrain", *flags]
  path = os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH")]))
  if subprocess.run(command, stdout=sys.stderr, env=os.environ | {"PYTHONPATH": path}).returncode:
    raise ValueError(f"this failed: {shlex.join(command)}")
  if not done():
    raise ValueError(f"{run.workdir} was stopped before update {run.config.total_steps}; the same command goes on")


def start_of(run: Run) -> LoadedBackbone:
  """Returns the backbone that a run starts from, in float32."""
  method = METHODS[run.config.method.name].build(dataclasses.replace(run.config, precision="float32"))
  params = jax.jit(lambda key: method.export_params(*method.init(key), "student"))(jax.random.key(run.config.seed))
  return LoadedBackbone(method.backbone, params, Preprocessing(run.config.model.image_hw))


def kept(file: pathlib.Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
  """Returns the scores in a file, measured now if it is not there."""
  if not file.exists():
    print(f"measuring {file.stem}", file=sys.stderr, flush=True)
    scores = measure()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".part").write_text(json.dumps(scores, indent=2) + "\n")
    os.replace(file.with_suffix(".part"), file)
  return json.loads(file.read_text())


def table(rows: dict[str, list[dict[str, float]]]) -> str:
  """Returns Markdown of row -> scores of each seed."""
  lines = [f"| preset | {' | '.join(COLUMNS.values())} | seeds |", "|---|" + "---:|" * (len(COLUMNS) + 1)]
  for name, seeds in rows.items():
    values = [100 * np.array([scores[column] for scores in seeds]) for column in COLUMNS]
    spread = lambda v: f" +- {v.std(ddof=1):.2f}" if len(v) > 1 else ""
    lines.append(f"| {name} | {' | '.join(f'{v.mean():.2f}{spread(v)}' for v in values)} | {len(seeds)} |")
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--preset", action="append", required=True, help='"NAME=FILE --config.key=value ..."; repeat it')
  parser.add_argument("--out", required=True, type=pathlib.Path, help="folder for runs and scores")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--people", type=int, default=2048, help="pictures of the set that is measured on, all splits")
  parser.add_argument("--which", choices=["student", "teacher"], default="student")
  args, common = parser.parse_known_args()
  runs = [run for text in args.preset for run in plan_runs(text, common, args.seeds, args.out)]
  for run in runs:  # all before this process takes the device
    pretrain(run)

  train, test = People("train", args.people), People("test", args.people)
  rows: dict[str, list[dict[str, float]]] = {}

  def add(row: str, name: str, extract: Callable) -> None:
    file = args.out / "scores" / f"{name}_people{args.people}.json"
    rows.setdefault(row, []).append(kept(file, lambda: probe_people(extract(), train, test)))

  for run in runs:
    add(run.preset, f"{run.workdir.name}_{args.which}",
        lambda: backbone_features(load_backbone(run.workdir, args.which)))
  for run in runs:
    add(f"{run.preset}, no pre-training", f"{run.workdir.name}_start", lambda: backbone_features(start_of(run)))
  for height, width in sorted({run.config.model.image_hw for run in runs}):
    add(f"colour histogram, {height}x{width}", f"colours_{height}x{width}", lambda: colour_features((height, width)))
  add("same feature for all", "none", lambda: no_features)
  print(table(rows))


if __name__ == "__main__":
  try:
    main()
  except ValueError as error:
    sys.exit(f"compare_presets: error: {error}")
