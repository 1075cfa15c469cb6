"""Measures what a user waits for around a training: python scripts/bench_evaluation.py --run=RUN [--code=DIR ...]

tasks     `saip evaluate` of each of --tasks on the default 2,048 built-in people, each in a process of its own
together  the same in one process
report    `saip report` of the run
start     `saip pretrain --config=--recipe` until its first update is in metrics.jsonl, with an empty compilation cache
          and again with the one that this left
import    `import saip_jax.pretraining`

RUN is the folder of a run of saip_nano. Several --code take turns and --repeats repeats all, so that versions of the
code share what the machine does; each is a checkout, such as that of `git worktree add DIR COMMIT`. A version that
cannot do a part has no figures for it. Each line has the least and the median seconds, and the processor time of the
process and its children. The built-in people are rendered and the scores are compared before the last line, which is
JSON. Use a machine that does nothing else.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

HERE = pathlib.Path(__file__).resolve().parent.parent
PARTS = ("import", "tasks", "together", "report", "start")
_POLL, _LONGEST = 0.02, 900  # seconds


@dataclasses.dataclass(frozen=True)
class Measured:
  """One command.

  Attributes:
    seconds: until its end, or until its first update.
    processor: seconds of the processor, its children included.
    output: what it printed.
  """

  seconds: float
  processor: float
  output: str


def measure(
  code: pathlib.Path, arguments: list[str], until: Callable[[], bool] | None = None, cache: str | None = None
) -> Measured | None:
  """Runs Python with the package of a checkout; None if the command fails.

  Args:
    code: the checkout.
    arguments: of Python.
    until: ends the command once it returns True; None waits for its end.
    cache: folder of the compilation cache; None has none.
  """
  environment = os.environ | {"PYTHONPATH": str(code)}
  environment.pop("JAX_COMPILATION_CACHE_DIR", None)
  if cache:
    environment["JAX_COMPILATION_CACHE_DIR"] = cache
  used = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
  before, start = used(), time.perf_counter()
  with tempfile.TemporaryFile("w+") as output:
    process = subprocess.Popen(
      [sys.executable, *arguments], cwd=code, env=environment, stdout=output, stderr=sys.stderr
    )
    try:
      while process.poll() is None and not (until and until()):
        if time.perf_counter() - start > _LONGEST:
          return None
        time.sleep(_POLL)
      seconds, failed = time.perf_counter() - start, process.poll() not in (None, 0)
    finally:
      if process.poll() is None:
        process.kill()
      process.wait()
    output.seek(0)
    return None if failed else Measured(seconds, used() - before, output.read())


def measure_all(code: pathlib.Path, run: str, recipe: str, tasks: list[str], parts: list[str], note) -> None:
  """Measures one version once; `note` gets the name of each figure and its `Measured`."""
  saip = ["-m", "saip_jax"]
  evaluate = [*saip, "evaluate", f"--checkpoint={run}", "--data=people", "--json"]
  if "import" in parts:
    note("import", measure(code, ["-c", "import saip_jax.pretraining"]))
  if "tasks" in parts:
    for column in tasks:
      task, _, protocol = column.partition(":")
      flags = [f"--task={task}"] + ([f"--protocol={protocol}"] if protocol else [])
      note(f"task {column}", measure(code, [*evaluate, *flags]))
  if "together" in parts:
    note("tasks together", measure(code, [*evaluate, f"--task={','.join(tasks)}"]))
  with tempfile.TemporaryDirectory() as folder:
    if "report" in parts:
      note("report", measure(code, [*saip, "report", run, "--data=people", f"--out={folder}/report.html"]))
    if "start" in parts:
      for kind in ("cold", "warm"):
        workdir = pathlib.Path(folder) / kind
        metrics = workdir / "metrics.jsonl"
        first = lambda: metrics.exists() and metrics.stat().st_size > 0
        command = [*saip, "pretrain", f"--config={recipe}", f"--workdir={workdir}", "--config.log_every=1"]
        note(f"start, {kind}", measure(code, command, first, f"{folder}/compiled"))


def scores_of(output: str) -> dict[str, dict[str, float]]:
  """Returns task -> scores from the output of `saip evaluate --json`: records, one after the other."""
  decoder, found, at = json.JSONDecoder(), {}, 0
  while (at := len(output) - len(output[at:].lstrip())) < len(output):
    record, at = decoder.raw_decode(output, at)
    found[f"{record['task']}:{record['protocol']}"] = record["scores"]
  return found


def largest_difference(scores: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
  """Returns task -> the largest difference of a score between versions, from version -> `scores_of`."""
  by_task: dict[str, list[dict[str, float]]] = {}
  for of_version in scores.values():
    for task, values in of_version.items():
      by_task.setdefault(task, []).append(values)
  spread = lambda rows: max(max(row[name] for row in rows) - min(row[name] for row in rows) for name in rows[0])
  return {task: spread(rows) for task, rows in by_task.items() if len(rows) > 1}


def table(figures: dict[str, dict[str, list[Measured]]]) -> str:
  """Returns Markdown from name -> version -> its repeats: least (median) seconds, processor seconds."""
  versions = list(dict.fromkeys(version for row in figures.values() for version in row))
  lines = [f"| | {' | '.join(versions)} |", "|---|" + "---:|" * len(versions)]
  for name, row in figures.items():
    cells = []
    for version in versions:
      found = row.get(version)
      seconds = [one.seconds for one in found or []]
      cells.append(
        f"{min(seconds):.1f} ({statistics.median(seconds):.1f}) s, cpu {min(one.processor for one in found):.1f} s"
        if found
        else "-"
      )
    lines.append(f"| {name} | {' | '.join(cells)} |")
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--run", required=True, type=pathlib.Path, help="folder of a run of saip_nano")
  parser.add_argument("--code", action="append", type=pathlib.Path, help="a checkout (that of this script)")
  parser.add_argument("--tasks", default="reid,attributes:stripes,keypoints:coordinates,parsing")
  parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
  parser.add_argument("--recipe", default="saip_demo", help="of the part start")
  parser.add_argument("--repeats", type=int, default=1)
  args = parser.parse_args()
  parts = args.parts.split(",")
  if unknown := set(parts) - set(PARTS):
    parser.error(f"--parts={args.parts}: {', '.join(unknown)} unknown; expected some of {', '.join(PARTS)}")
  codes = [code.resolve() for code in args.code or [HERE]]
  labels = {code: f"version {k}" if len(codes) > 1 else "this version" for k, code in enumerate(codes, 1)}

  figures: dict[str, dict[str, list[Measured]]] = {}
  scores: dict[str, dict[str, dict[str, float]]] = {}
  people = "from input_pipeline.people.dataset import open_people; open_people(None, 2048); open_people(None, 512)"
  measure(codes[0], ["-c", people])
  for _ in range(args.repeats):
    for code in codes:

      def note(name: str, found: Measured | None) -> None:
        print(f"{labels[code]}, {name}: {found and round(found.seconds, 1)} s", file=sys.stderr, flush=True)
        if found is None:
          return
        figures.setdefault(name, {}).setdefault(labels[code], []).append(found)
        if name.startswith("task"):
          place = labels[code] + (", together" if name == "tasks together" else "")
          scores.setdefault(place, {}).update(scores_of(found.output))

      measure_all(code, str(args.run.resolve()), args.recipe, args.tasks.split(","), parts, note)
  print(table(figures))
  differences = largest_difference(scores)
  for task, difference in differences.items():
    print(f"largest difference of a score of {task}: {difference:.1e}")
  plain = {
    name: {v: [dataclasses.astuple(one)[:2] for one in found] for v, found in row.items()}
    for name, row in figures.items()
  }
  print(json.dumps({"seconds, processor": plain, "scores": scores, "differences": differences}))


if __name__ == "__main__":
  main()
