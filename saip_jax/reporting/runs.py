"""What a run has written into its folder, read for a report: nothing of it needs to be whole."""

import dataclasses
import functools
import json
import math
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from input_pipeline.schema import flattened

_MOST_NAMED = 10  # lines that cannot be read


@dataclasses.dataclass(frozen=True)
class Series:
  """One metric over a run.

  Attributes:
    steps: (n,) int64, updates done.
    values: (n,) float64, all finite.
    left_out: how many were not.
  """

  steps: np.ndarray
  values: np.ndarray
  left_out: int


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
  """A run's folder.

  Attributes:
    name: what it is called beside others.
    path: the folder; None for a file of evaluations alone.
    config: its settings, as config.json has them.
    series: metric -> how it went.
    evaluations: records of `saip evaluate`, oldest first.
    goodput: what `training.goodput` keeps; {} where there is none.
    damaged: images that were skipped, one line each.
    faults: what could not be read, one line each.
    starts: what `training.starts` wrote at each start, oldest first.
  """

  name: str
  path: pathlib.Path | None
  config: dict[str, Any]
  series: dict[str, Series]
  evaluations: list[dict[str, Any]]
  goodput: dict[str, Any]
  damaged: list[str]
  faults: list[str]
  starts: list[dict[str, Any]] = dataclasses.field(default_factory=list)

  @functools.cached_property
  def settings(self) -> dict[str, Any]:
    """The settings by dotted path."""
    return flattened(self.config)

  @property
  def last_step(self) -> int:
    """The newest update that a record tells of; 0 without any."""
    return max((int(series.steps[-1]) for series in self.series.values()), default=0)

  def panels(self) -> dict[str, list[tuple[int, pathlib.Path]]]:
    """Returns kind of panel -> (step, file) of each picture of it, oldest first."""
    found: dict[str, list] = {}
    for path in (self.path / "panels").glob("*.png"):
      match = re.fullmatch(r"(\d+)_(.+)", path.stem)
      if match:
        found.setdefault(match[2], []).append((int(match[1]), path))
    return {kind: sorted(found[kind]) for kind in sorted(found)}


def read_run(path, setting: str = "W") -> Run:
  """Reads the folder of a run.

  Args:
    path: the folder.
    setting: what gave it, for messages.

  Raises:
    ValueError: no run there, or a config.json that cannot be read.
  """
  path = pathlib.Path(path).expanduser()
  if not (path / "config.json").is_file():
    what = "does not exist" if not path.exists() else "is no folder" if not path.is_dir() else "has no config.json"
    raise ValueError(f"{setting}={path} is no run: it {what}; expected what was the --workdir of saip pretrain")
  try:
    config = json.loads((path / "config.json").read_text("utf-8"))
  except ValueError as error:
    raise ValueError(f"{path / 'config.json'} cannot be read: {error}") from error
  if not isinstance(config, dict):
    raise ValueError(f"{path / 'config.json'} holds a {type(config).__name__}: expected the settings of a run")
  faults: list[str] = []
  goodput = next((record for _, record in _records(path / "goodput.json", faults)), {})
  starts = [record for _, record in _records(path / "starts.jsonl", faults)]
  damaged = sorted(path.glob("damaged_images*.txt"))
  return Run(
    name=path.absolute().name,
    path=path,
    config=config,
    series=_read_series(path / "metrics.jsonl", faults),
    evaluations=_evaluations(path / "evaluations.jsonl", faults),
    goodput=goodput,
    damaged=[line for file in damaged for line in file.read_text("utf-8", "replace").splitlines()],
    faults=faults,
    starts=starts,
  )


def read_compared(path) -> Run:
  """Reads what `--compare` names: a run, or a file of what `saip evaluate --json` printed, one or more times.

  Raises:
    ValueError: neither.
  """
  file = pathlib.Path(path).expanduser()
  if not file.is_file():
    if not file.exists():
      raise ValueError(
        f"--compare={path} does not exist; expected the folder of a run, or a file with what `saip "
        "evaluate --json` printed, as of --checkpoint=histogram"
      )
    return read_run(file, "--compare")
  text, decoder, records, at = file.read_text("utf-8", "replace"), json.JSONDecoder(), [], 0
  while text[at:].strip():
    at += len(text[at:]) - len(text[at:].lstrip())
    try:
      record, at = decoder.raw_decode(text, at)
    except ValueError as error:
      raise ValueError(
        f"--compare={path}, line {text.count(chr(10), 0, at) + 1}: {error}; expected what `saip evaluate"
        " --json` printed"
      ) from error
    if not _is_evaluation(record):
      raise ValueError(f"--compare={path} holds {str(record)[:60]}: expected what `saip evaluate --json` printed")
    records.append(record)
  return Run(file.name, None, {}, {}, records, {}, [], [])


def _records(path: pathlib.Path, faults: list[str]) -> Iterator[tuple[int, dict]]:
  """Yields (line number, object) of a file of JSON lines; lines that are none go to `faults`."""
  if not path.is_file():
    return
  lines, bad = path.read_text("utf-8", "replace").split("\n"), 0
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    try:
      record = json.loads(line)
    except ValueError:
      record = None
    if isinstance(record, dict):
      yield number, record
    elif number == len(lines):  # without the newline that ends a line
      faults.append(
        f"{path.name} ends in half a line, as of a run that was killed while it wrote, or is writing now: left out"
      )
    else:
      bad += 1
      if bad <= _MOST_NAMED:
        faults.append(f"{path.name}, line {number} is no record and is left out: {line[:80]}")
  if bad > _MOST_NAMED:
    faults.append(f"{path.name}: {bad - _MOST_NAMED:,} more lines are no records and are left out")


def _read_series(path: pathlib.Path, faults: list[str]) -> dict[str, Series]:
  steps: dict[str, list[int]] = {}
  values: dict[str, list[float]] = {}
  left_out: dict[str, int] = {}
  without_step = 0
  for _, record in _records(path, faults):
    step = record.get("step")
    if type(step) is not int:
      without_step += 1
      continue
    for name, value in record.items():
      if name == "step" or isinstance(value, bool) or not isinstance(value, (int, float)):
        continue
      if math.isfinite(value):
        steps.setdefault(name, []).append(step)
        values.setdefault(name, []).append(value)
      else:
        left_out[name] = left_out.get(name, 0) + 1
  if without_step:
    faults.append(f"{path.name}: {without_step:,} records say no step and are left out")
  for name in left_out.keys() - steps.keys():
    faults.append(f"{path.name}: none of the {left_out[name]:,} values of {name} is finite")
  return {
    name: Series(np.array(steps[name], np.int64), np.array(values[name], np.float64), left_out.get(name, 0))
    for name in steps
  }


def _evaluations(path: pathlib.Path, faults: list[str]) -> list[dict]:
  found = []
  for number, record in _records(path, faults):
    if _is_evaluation(record):
      found.append(record)
    else:
      faults.append(f"{path.name}, line {number} is no record of saip evaluate and is left out")
  return found


def _is_evaluation(record) -> bool:
  wanted = {"task": str, "protocol": str, "encoder": dict, "scores": dict, "facts": dict}
  if not isinstance(record, dict) or not all(isinstance(record.get(key), kind) for key, kind in wanted.items()):
    return False
  numbers = [v for v in record["scores"].values() if isinstance(v, (int, float)) and not isinstance(v, bool)]
  named = isinstance(record["encoder"].get("checkpoint"), str)
  return named and bool(numbers) and len(numbers) == len(record["scores"])
