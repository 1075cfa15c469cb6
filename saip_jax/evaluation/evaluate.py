"""`saip evaluate`: measures one encoder on one task and one data set, and records the scores."""

import dataclasses
import functools
import json
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from input_pipeline.checks import choices_hint
from input_pipeline.sources.annotated.categories import categories_text
from input_pipeline.storage import as_place
from saip_jax.evaluation.encoders import Encoder, flip_tested
from saip_jax.evaluation.metrics.similarity import Variation
from saip_jax.evaluation.resampling import Resampling, bootstrap, interval
from saip_jax.evaluation.splits import Data
from saip_jax.evaluation.tasks import TASKS
from saip_jax.evaluation.tasks.base import Protocol, split_unit
from saip_jax.interop.onnx_file import onnx_path
from saip_jax.run_folder.files import CONFIG, EVALUATIONS
from saip_jax.run_folder.integrity import checkpoint_steps
from saip_jax.run_folder.remote import append_line, joined, local, with_urls

_DRAWS = 500  # resampled test sets


def evaluate(
  checkpoint: str,
  task: str,
  data: Data,
  protocol: str | None = None,
  which: str = "student",
  image_hw: tuple[int, int] | None = None,
  seed: int = 0,
  flip_test: bool = False,
  show: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
  """Returns the record of `evaluate_tasks` for one task and protocol; None for its default."""
  return evaluate_tasks(checkpoint, [(task, protocol)], data, which, image_hw, seed, flip_test, show)[0]


def evaluate_tasks(
  checkpoint: str,
  tasks: Sequence[tuple[str, str | None]],
  data: Data,
  which: str = "student",
  image_hw: tuple[int, int] | None = None,
  seed: int = 0,
  flip_test: bool = False,
  show: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
  """Measures an encoder on tasks, one after the other; it is opened and compiled once for each size of its input.

  Args:
    checkpoint: a checkpoint that `encoders.open_encoder` reads.
    tasks: keys of `TASKS`, each with one of its protocols or None for its default.
    data: the data set.
    which: "student" or "teacher".
    image_hw: size in pixels of the input; None for that of the task, or else of the weights; for an ONNX file, its own.
    seed: seed of random weights.
    flip_test: average over each image and its mirror image.
    show: called with each record before it is saved.

  Returns:
    A JSON-able record of each task: task, protocol, encoder, scores, the uncertainty of the main score, facts to
    compare them (with a warning if all features are equal), and images left out. If the checkpoint belongs to a run,
    it is appended to W/evaluations.jsonl.

  Raises:
    ValueError: a task, protocol, checkpoint or data set that does not exist or does not fit.
  """
  for task, protocol in tasks:  # before weights are read
    name, _ = find_protocol(task, protocol)
    if flip_test and name not in TASKS[task].flip_tests:
      able = [f"{other} ({', '.join(t.flip_tests)})" for other, t in TASKS.items() if t.flip_tests]
      raise ValueError(f"--flip-test is not supported by {task}, protocol {name}; expected one of: {', '.join(able)}")
  fixed_hw = onnx_path(local(checkpoint, "--checkpoint")) is not None  # not that of a task
  opened = functools.cache(lambda open_it, hw: open_it(checkpoint, which, hw, seed))
  records = []
  for task, protocol in tasks:
    encoder = opened(TASKS[task].open, image_hw or (None if fixed_hw else TASKS[task].image_hw))
    record = measure(flip_tested(encoder) if flip_test else encoder, task, data, protocol)
    records.append(save_record(checkpoint, record, show))
  return records


def save_record(
  checkpoint: str, record: dict[str, Any], show: Callable[[dict[str, Any]], None] | None
) -> dict[str, Any]:
  """Shows a record, appends it to W/evaluations.jsonl if the checkpoint belongs to a run, and returns it.

  If that file cannot be written, a warning is printed to standard error, because computing the scores took long.
  """
  if show:
    show(record)
  run = run_of(checkpoint)
  if run:
    try:
      append_line(run, EVALUATIONS, json.dumps(record))
    except OSError as e:
      print(
        f"warning: {joined(run, EVALUATIONS)} cannot be written ({e.strerror or e}): these scores are not saved in"
        " the run; `saip report --compare FILE` reads the output of --json from FILE",
        file=sys.stderr,
        flush=True,
      )
  return record


def measure(
  encoder: Encoder, task: str, data: Data, protocol: str | None = None, keep_draws: bool = False
) -> dict[str, Any]:
  """Returns a record of `evaluate_tasks` for an open encoder, without saving it.

  Args:
    encoder: the encoder.
    task: a key of `TASKS`.
    data: the data set.
    protocol: one of the task's protocols; None for its default.
    keep_draws: keep the scores of all resampled test sets, to subtract those of another encoder on the same data.
  """
  return run_protocol(task, *find_protocol(task, protocol), encoder, data, keep_draws)


def run_protocol(
  task: str, protocol: str, run: Protocol, encoder: Encoder, data: Data, keep_draws: bool = False
) -> dict[str, Any]:
  """Runs a protocol on an open encoder; returns the record."""
  started = time.perf_counter()
  encoder = dataclasses.replace(encoder, variation=Variation())
  result = run(encoder, data)
  return {
    "task": task,
    "protocol": protocol,
    "encoder": encoder.facts,
    "scores": result.scores,
    "uncertainty": _uncertainty(result.resampling, keep_draws),
    "facts": result.facts | {"flip_test": encoder.facts.get("flip_test", False)} | _warning(encoder),
    "left_out": result.damaged,
    "seconds": round(time.perf_counter() - started, 2),
    "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
  }


def _uncertainty(resampling: Resampling | None, keep_draws: bool) -> dict[str, Any] | None:
  """Returns the 95 % interval of the main score over resampled test sets; None if it cannot be resampled."""
  if resampling is None:
    return None
  draws = bootstrap(resampling, _DRAWS)
  low, high = interval(draws)
  facts = {"score": resampling.score, "low": low, "high": high, "groups": len(np.unique(resampling.groups))}
  return facts | {"draws": [float(f"{draw:.6g}") for draw in draws] if keep_draws else len(draws)}


def _warning(encoder: Encoder) -> dict[str, str]:
  """Returns a fact if the encoder gave equal features for all images, except for the encoder "constant"."""
  seen = encoder.variation
  if not seen.equal or seen.count < 2 or encoder.facts.get("checkpoint") == "constant":
    return {}
  return {
    "warning": f"all features are equal: the encoder gives the same ones for each of {seen.count:,} images, so "
    "the scores are those of chance"
  }


def named_tasks(names: str, protocol: str | None) -> list[tuple[str, str | None]]:
  """Returns the tasks of `--task=NAME[:PROTOCOL],...` with their protocols; `--protocol` is for a single one."""
  tasks = [(task, of_task or None) for task, _, of_task in (name.partition(":") for name in names.split(","))]
  if protocol is None:
    return tasks
  if len(tasks) > 1 or tasks[0][1]:
    raise ValueError(f"--protocol={protocol} is for one task, and --task={names}: write --task=NAME:PROTOCOL,...")
  return [(tasks[0][0], protocol)]


def find_protocol(task: str, protocol: str | None) -> tuple[str, Protocol]:
  """Returns the name and function of a protocol; raises ValueError if the task or protocol does not exist."""
  if task not in TASKS:
    raise ValueError(f"--task={task} is unknown{choices_hint(task, list(TASKS))}")
  protocols = TASKS[task].protocols
  protocol = protocol or next(iter(protocols))
  if protocol not in protocols:
    raise ValueError(f"--protocol={protocol} is not a protocol of {task}{choices_hint(protocol, list(protocols))}")
  return protocol, protocols[protocol]


def run_of(checkpoint: str) -> pathlib.Path | str | None:
  """Returns the folder of the run that a checkpoint belongs to, a path or a URL; None if it belongs to none."""
  place, path = as_place(checkpoint, "--checkpoint"), local(checkpoint, "--checkpoint")
  for folder in (path, *path.parents[:2]):
    if (folder / CONFIG).is_file() and checkpoint_steps(folder):
      return folder if isinstance(place, pathlib.Path) else with_urls(str(folder))
  return None


def evaluation_text(record: dict[str, Any]) -> str:
  """Returns a record as text."""
  encoder = record["encoder"]
  name = encoder["checkpoint"] + (f" ({encoder['which']})" if "which" in encoder else "")
  lines = [
    f"{TASKS[record['task']].summary}, protocol {record['protocol']}",
    f"encoder    {name}, input " + "x".join(map(str, encoder["image_hw"])),
  ]
  for part in ("train", "test", "query", "gallery"):
    if part in record["facts"]:
      facts = record["facts"][part]
      lines.append(f"{part:<10} {facts['length']:,} images of {facts['source']} {facts['name']!r}")
      if facts.get("left_out"):
        lines.append(f"           {facts['left_out']:,} of the set left out, the first: {facts['first_left_out']}")
      lines += [f"           {sentence}" for sentence in categories_text(facts.get("categories", {}))]
  known = {k: v for k, v in record["facts"].items() if isinstance(v, (str, bool, int, float))}
  lines += [f"{key.replace('_', ' '):<10} {value}" for key, value in known.items()]
  if record["left_out"]:
    lines.append(f"left out   {len(record['left_out'])} images that cannot be read, the first: {record['left_out'][0]}")
  width, known = max(len(name) for name in record["scores"]), record.get("uncertainty") or {}
  lines.append("")
  for name, value in record["scores"].items():
    limits = ""
    if name == known.get("score"):
      limits = f"  (95 %: {score_text(name, known['low'])} to {score_text(name, known['high'])})"
    lines.append(f"{name:<{width}}  {score_text(name, value)}{limits}")
  return "\n".join(lines)


def score_text(name: str, value: float) -> str:
  """Returns a score with its unit, percent for fractions; see `tasks.base.split_unit`."""
  _, unit = split_unit(name)
  return f"{value:.1f} {unit}" if unit else f"{100 * value:.2f} %"
