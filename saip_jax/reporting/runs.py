"""Reading the folder of a run for a report; incomplete files are tolerated and listed."""

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
from saip_jax.run_folder.files import CONFIG, EVALUATIONS, GOODPUT, METRICS, PANELS, STARTS
from saip_jax.run_folder.remote import local, with_urls

_MOST_NAMED = 10  # unreadable lines that are listed


@dataclasses.dataclass(frozen=True)
class Series:
  """One metric over a run.

  Attributes:
    steps: (n,) int64, number of updates.
    values: (n,) float64, all finite.
    left_out: number of values that are not finite.
  """

  steps: np.ndarray
  values: np.ndarray
  left_out: int


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
  """A run's folder.

  Attributes:
    name: its name in the report.
    path: the folder; None for a file of evaluations.
    config: its settings, the content of config.json.
    series: metric -> its values.
    evaluations: records of `saip evaluate`, oldest first.
    goodput: the record of `training.goodput`; {} if there is none.
    damaged: skipped images, one line each.
    faults: unreadable content, one line each.
    starts: the records of `training.starts`, oldest first.
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
  def place(self) -> str:
    """The folder as the user named it, a local path or a URL."""
    return with_urls(str(self.path.absolute()))

  @property
  def last_step(self) -> int:
    """The last update with a record; 0 if there is none."""
    return max((int(series.steps[-1]) for series in self.series.values()), default=0)

  def panels(self) -> dict[str, list[tuple[int, pathlib.Path]]]:
    """Returns kind of panel -> (step, file) of each panel, oldest first."""
    found: dict[str, list] = {}
    for path in (self.path / PANELS).glob("*.png"):
      match = re.fullmatch(r"(\d+)_(.+)", path.stem)
      if match:
        found.setdefault(match[2], []).append((int(match[1]), path))
    return {kind: sorted(found[kind]) for kind in sorted(found)}


def read_run(path, setting: str = "W") -> Run:
  """Reads the folder of a run.

  Args:
    path: the folder, a local path or a URL.
    setting: the option that named it, for messages.

  Raises:
    ValueError: the folder has no run, or a config.json that cannot be read.
  """
  path = local(path, setting)
  if not (path / CONFIG).is_file():
    what = "does not exist" if not path.exists() else "is not a folder" if not path.is_dir() else "has no config.json"
    raise ValueError(f"{setting}={path} is not a run: it {what}; expected the --workdir of saip pretrain")
  try:
    config = json.loads((path / CONFIG).read_text("utf-8"))
  except ValueError as error:
    raise ValueError(f"{path / 'config.json'} cannot be read: {error}") from error
  if not isinstance(config, dict):
    raise ValueError(f"{path / 'config.json'} holds a {type(config).__name__}: expected the settings of a run")
  faults: list[str] = []
  goodput = next((record for _, record in _records(path / GOODPUT, faults)), {})
  starts = [record for _, record in _records(path / STARTS, faults)]
  damaged = sorted(path.glob("damaged_images*.txt"))
  return Run(
    name=path.absolute().name,
    path=path,
    config=config,
    series=_read_series(path / METRICS, faults),
    evaluations=_evaluations(path / EVALUATIONS, faults),
    goodput=goodput,
    damaged=[line for file in damaged for line in file.read_text("utf-8", "replace").splitlines()],
    faults=faults,
    starts=starts,
  )


def read_compared(path) -> Run:
  """Reads a value of `--compare`: a run, or a file with outputs of `saip evaluate --json`.

  Raises:
    ValueError: neither.
  """
  file = local(path, "--compare")
  if not file.is_file():
    if not file.exists():
      raise ValueError(
        f"--compare={path} does not exist; expected the folder of a run, or a file with the output of `saip "
        "evaluate --json`, such as of --checkpoint=histogram"
      )
    return read_run(file, "--compare")
  text, decoder, records, at = file.read_text("utf-8", "replace"), json.JSONDecoder(), [], 0
  while text[at:].strip():
    at += len(text[at:]) - len(text[at:].lstrip())
    try:
      record, at = decoder.raw_decode(text, at)
    except ValueError as error:
      raise ValueError(
        f"--compare={path}, line {text.count(chr(10), 0, at) + 1} is no JSON; expected the output of `saip evaluate"
        " --json`"
      ) from error
    if not _is_evaluation(record):
      raise ValueError(f"--compare={path} holds {str(record)[:60]}: expected the output of `saip evaluate --json`")
    records.append(record)
  return Run(file.name, None, {}, {}, records, {}, [], [])


def _records(path: pathlib.Path, faults: list[str]) -> Iterator[tuple[int, dict]]:
  """Yields (line number, object) of a file of JSON lines; other lines are appended to `faults`."""
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
    elif number == len(lines):  # without a final newline
      faults.append(f"{path.name} ends in an incomplete line, of a run that was killed or is running: left out")
    else:
      bad += 1
      if bad <= _MOST_NAMED:
        faults.append(f"{path.name}, line {number} is not a record and is left out: {line[:80]}")
  if bad > _MOST_NAMED:
    faults.append(f"{path.name}: {bad - _MOST_NAMED:,} more lines are not records and are left out")


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
    faults.append(f"{path.name}: {without_step:,} records have no step and are left out")
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
      faults.append(f"{path.name}, line {number} is not a record of saip evaluate and is left out")
  return found


def _is_evaluation(record) -> bool:
  wanted = {"task": str, "protocol": str, "encoder": dict, "scores": dict, "facts": dict}
  if not isinstance(record, dict) or not all(isinstance(record.get(key), kind) for key, kind in wanted.items()):
    return False
  numbers = [v for v in record["scores"].values() if isinstance(v, (int, float)) and not isinstance(v, bool)]
  named = isinstance(record["encoder"].get("checkpoint"), str)
  return named and bool(numbers) and len(numbers) == len(record["scores"])
