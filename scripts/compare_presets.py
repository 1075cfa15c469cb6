"""Compares ways of pre-training on the built-in people: prints a Markdown table, mean +- deviation over seeds.

  python scripts/compare_presets.py --out=runs/presets --seeds=3 --config.total_steps=200 \\
      --preset="official=configs/saip_demo.py" \\
      --preset="improved=configs/saip_demo.py --config.method.fidelity=improved"

`saip pretrain` runs each preset from each seed. Then the frozen features are measured on --tasks as in `saip evaluate`,
by the first score of each task. `--encoder` adds others, such as the expert of a preset. Baselines: each network before
training, color histograms, and one constant feature for every image, which gives chance level. Finished results stay in
--out; the same command continues where it stopped. After a change of the code use a new --out.
"""

import argparse
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Callable

import jax
import numpy as np

REPO = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from input_pipeline.schema import to_dict  # noqa: E402
from input_pipeline.storage import cache_folder  # noqa: E402
from saip_jax.config import RunConfig  # noqa: E402
from saip_jax.evaluation.encoders import Encoder, encoder_of, open_encoder  # noqa: E402
from saip_jax.evaluation.evaluate import find_protocol, measure, score_text  # noqa: E402
from saip_jax.evaluation.splits import Data  # noqa: E402
from saip_jax.interop.weights import LoadedBackbone, Preprocessing  # noqa: E402
from saip_jax.methods import METHODS  # noqa: E402
from saip_jax.recipes import apply_overrides, load_recipe, parse_config  # noqa: E402
from saip_jax.run_folder.integrity import checkpoint_steps  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Run:
  """One preset with one seed."""

  preset: str
  recipe: str
  settings: list[str]
  config: RunConfig
  workdir: pathlib.Path


def plan_runs(text: str, common: list[str], seeds: int, out: pathlib.Path) -> list[Run]:
  """Returns the runs of "NAME=FILE --config.key=value ..."; its settings override those common to all presets."""
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


def named_checkpoint(text: str) -> tuple[str, str]:
  """Returns name and checkpoint of `--encoder="NAME=CHECKPOINT"`."""
  name, _, checkpoint = text.partition("=")
  if not (name and checkpoint):
    raise ValueError(f'--encoder="{text}": expected "NAME=CHECKPOINT"')
  return name, checkpoint


def pretrain(run: Run) -> None:
  """Runs `saip pretrain`, unless it is finished, in its own process, which frees the device at its end."""
  done = lambda: max(checkpoint_steps(run.workdir), default=0) >= run.config.total_steps
  if done():
    return
  flags = [f"--config={run.recipe}", f"--workdir={run.workdir}", *run.settings]
  command = [sys.executable, "-m", "saip_jax", "pretrain", *flags]
  path = os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH")]))
  if subprocess.run(command, stdout=sys.stderr, env=os.environ | {"PYTHONPATH": path}).returncode:
    raise ValueError(f"command failed: {shlex.join(command)}")
  if not done():
    raise ValueError(f"{run.workdir} was stopped before update {run.config.total_steps}; the same command continues")


def initial_backbone(run: Run) -> LoadedBackbone:
  """Returns the initial backbone of a run, in float32."""
  method = METHODS[run.config.method.name].build(dataclasses.replace(run.config, precision="float32"))
  params = jax.jit(lambda key: method.export_params(*method.init(key), "student"))(jax.random.key(run.config.seed))
  return LoadedBackbone(method.backbone, params, Preprocessing(run.config.model.image_hw))


def cached_record(file: pathlib.Path, run: Callable[[], dict], indent: int | None = 2) -> dict:
  """Returns the record in a file; computes and writes it, with `indent` or in one line, if the file is missing."""
  if not file.exists():
    print(f"measuring {file.stem}", file=sys.stderr, flush=True)
    record = run()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".part").write_text(json.dumps(record, indent=indent) + "\n")
    os.replace(file.with_suffix(".part"), file)
  return json.loads(file.read_text())


def table(rows: dict[str, dict[str, list[dict]]]) -> str:
  """Returns Markdown from row -> task or task:protocol -> records of each seed: mean, deviation of the first score."""
  tasks = list(next(iter(rows.values())))
  name_of = lambda task: f"{task} {next(iter(next(iter(rows.values()))[task][0]['scores']))}"
  lines = [f"| preset | {' | '.join(map(name_of, tasks))} | seeds |", "|---|" + "---:|" * (len(tasks) + 1)]
  for row, by_task in rows.items():
    cells = []
    for task in tasks:
      name, *_ = by_task[task][0]["scores"]
      values = np.array([record["scores"][name] for record in by_task[task]])
      spread = f" +- {score_text(name, values.std(ddof=1))}" if len(values) > 1 else ""
      cells.append(score_text(name, values.mean()) + spread)
    lines.append(f"| {row} | {' | '.join(cells)} | {len(by_task[tasks[0]])} |")
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--preset", action="append", required=True, help='"NAME=FILE --config.key=value ..."; repeat it')
  parser.add_argument("--encoder", action="append", default=[], help="NAME=CHECKPOINT, measured beside them; repeat it")
  parser.add_argument("--out", required=True, type=pathlib.Path, help="folder for runs and scores")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--tasks", default="reid,attributes,keypoints:coordinates,parsing", help="TASK or TASK:PROTOCOL")
  parser.add_argument("--data", default="people", help="the evaluation data, as in saip evaluate")
  parser.add_argument("--hold-out", action="store_true", help="as in saip evaluate")
  parser.add_argument("--people", type=int, default=2048, help="images of the default set of people, all splits")
  parser.add_argument("--which", choices=["student", "teacher"], default="student")
  args, common = parser.parse_known_args()
  tasks = {}
  for column in args.tasks.split(","):
    task, _, protocol = column.partition(":")
    tasks[column] = task, find_protocol(task, protocol or None)[0]
  data = Data.parse(args.data, cache_dir=cache_folder(), people_count=args.people, hold_out=args.hold_out)
  runs = [run for text in args.preset for run in plan_runs(text, common, args.seeds, args.out)]
  for run in runs:  # before this process takes the device
    pretrain(run)

  measured = hashlib.sha256(f"{args.data} {args.hold_out} {args.people}".encode()).hexdigest()[:8]
  rows: dict[str, dict[str, list[dict]]] = {}

  def add(row: str, name: str, open_it: Callable[[], Encoder]) -> None:
    opened = functools.cache(open_it)  # once for all tasks, which then share what it compiles
    for column, (task, protocol) in tasks.items():
      file = args.out / "scores" / f"{name}_{task}_{protocol}_{measured}.json"
      record = cached_record(file, lambda: measure(opened(), task, data, protocol))
      rows.setdefault(row, {}).setdefault(column, []).append(record)

  for run in runs:
    add(run.preset, f"{run.workdir.name}_{args.which}", lambda: open_encoder(str(run.workdir), args.which))
  for text in args.encoder:
    name, checkpoint = named_checkpoint(text)
    add(name, f"encoder_{name}", lambda: open_encoder(checkpoint))
  for run in runs:
    add(f"{run.preset}, no pre-training", f"{run.workdir.name}_start", lambda: encoder_of(initial_backbone(run), {}))
  for hw in sorted({run.config.model.image_hw for run in runs}):
    for kind in ("histogram", "constant"):
      add(f"{kind}, {hw[0]}x{hw[1]}", f"{kind}_{hw[0]}x{hw[1]}", lambda: open_encoder(kind, image_hw=hw))
  print(table(rows))


if __name__ == "__main__":
  try:
    main()
  except ValueError as error:
    sys.exit(f"compare_presets: error: {error}")
