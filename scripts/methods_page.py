"""Writes the page of scripts/bench_methods.py from its records: python scripts/methods_page.py results/methods

Tables of the main score of each task, curves, and which differences are real: one counts only if zero is outside its
95 % interval, from the spread of seeds and the bootstrap over test images together.
"""

import argparse
import collections
import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import t as student_t

REPO = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from saip_jax.evaluation.evaluate import score_text  # noqa: E402
from saip_jax.evaluation.tasks.base import split_unit  # noqa: E402

REFERENCE = "SAIP"
MONITORS = {"reid_mAP": "mAP of identities", "attributes_mA": "mA of attributes", "parts_mIoU": "mIoU of parts"}
WHAT_COUNTS = (
  "A difference counts only if zero is outside its 95 % interval. The variance is that of the means over seeds plus"
  " that of 500 resampled test sets (persons, or photos), on which both {} are measured alike."
)
"""What `gain` decides, in the words of a page, for a plural."""


@dataclasses.dataclass(frozen=True)
class Scores:
  """The main score of a method on a task.

  Attributes:
    name: of the score.
    values: one for each seed.
    draws: (seeds, draws) the scores of resampled test sets; None if the task has none.
  """

  name: str
  values: np.ndarray
  draws: np.ndarray | None

  @property
  def sign(self) -> int:
    """-1 for errors, which have units and are better if smaller, else 1."""
    return -1 if split_unit(self.name)[1] else 1

  @property
  def text(self) -> str:
    spread = f" +- {score_text(self.name, self.values.std(ddof=1))}" if len(self.values) > 1 else ""
    return score_text(self.name, self.values.mean()) + spread


def scores_of(records: Sequence[dict]) -> Scores:
  """Returns the main score of the records of one method and task, one for each seed."""
  name = next(iter(records[0]["scores"]))
  values = np.array([record["scores"][name] for record in records])
  known = all(record["uncertainty"] and record["uncertainty"]["score"] == name for record in records)
  return Scores(name, values, np.array([record["uncertainty"]["draws"] for record in records]) if known else None)


def gain(a: Scores, b: Scores, single_runs: bool = False) -> tuple[float, float]:
  """Returns by how much `a` is better than `b`, and half the width of its 95 % interval; inf if seeds are too few.

  The variance is that of the means over seeds plus that of resampled test sets, on which both are measured alike. A
  single value has no variance; with `single_runs` it is of one of many possible seeds, and has that of the other.
  """
  spread = [scores.values.var(ddof=1) for scores in (a, b) if len(scores.values) > 1]
  freedom = sum(len(scores.values) - 1 for scores in (a, b))
  difference = a.sign * float(a.values.mean() - b.values.mean())
  if not freedom:
    return difference, float("inf")
  of_one = spread[0] if single_runs else 0.0
  variances = (scores.values.var(ddof=1) if len(scores.values) > 1 else of_one for scores in (a, b))
  variance = sum(variance / len(scores.values) for variance, scores in zip(variances, (a, b)))
  if a.draws is not None and b.draws is not None:
    variance += np.var(a.draws.mean(0) - b.draws.mean(0))
  return difference, float(student_t.ppf(0.975, freedom) * np.sqrt(variance))


Results = dict[str, dict[str, Scores]]
"""Row -> task:protocol -> scores."""


def read(folder: pathlib.Path) -> dict[str, Results]:
  """Returns view -> results; the baselines are in "baseline"."""
  found = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
  for file in sorted(folder.glob("*_*.json")):
    record = json.loads(file.read_text())
    row = record["method"] + (f", {record['step']:,} updates" if record["view"] == "time" else "")
    found[record["view"]][row][f"{record['task']}:{record['protocol']}"].append(record)
  first = lambda row: (row[0] != REFERENCE, row[0])
  read_tasks = lambda by_task: {column: scores_of(records) for column, records in by_task.items()}
  return {
    view: {method: read_tasks(by_task) for method, by_task in sorted(of.items(), key=first)}
    for view, of in found.items()
  }


def table(results: Results, columns: Sequence[str]) -> str:
  """Returns Markdown of the scores, a line for each task and protocol; the best of each line is bold."""
  lines = ["| | " + " | ".join(results) + " |", "|---|" + "---:|" * len(results)]
  for column in columns:
    of = {name: by_task[column] for name, by_task in results.items() if column in by_task}
    if not of:
      continue
    score = next(iter(of.values())).name
    best = max(of, key=lambda name: of[name].sign * of[name].values.mean())
    texts = [of[name].text if name in of else "-" for name in results]
    cells = [f"**{text}**" if name == best else text for name, text in zip(results, texts)]
    lines.append(f"| {column.replace(':', ', ')}: {split_unit(score)[0]} | {' | '.join(cells)} |")
  return "\n".join(lines)


def gain_of_encoders(a: Scores, b: Scores) -> tuple[float, float]:
  """As `gain`, for encoders as they are: test images alone are random. inf if the task has no draws."""
  difference = a.sign * float(a.values.mean() - b.values.mean())
  if a.draws is None or b.draws is None:
    return difference, float("inf")
  return difference, 1.96 * float(np.std(a.draws.mean(0) - b.draws.mean(0)))


def verdicts(results: Results, reference: str, columns: Sequence[str], gain: Callable = gain) -> str:
  """Returns, for each other row, the columns on which the reference is better, worse, or neither, by `gain`."""
  lines = [f"| {reference} against | better | worse | undecided |", "|---|---|---|---|"]
  for row, by_task in results.items():
    if row == reference:
      continue
    cells: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
    for column in columns:
      if column in by_task and column in results[reference]:
        difference, half = gain(results[reference][column], by_task[column])
        verdict = "undecided" if abs(difference) <= half else ("better" if difference > 0 else "worse")
        cells[verdict].append(column.replace(":", " "))
    shown = [f"{len(names)}: {', '.join(names)}" if names else "0" for names in cells.values()]
    lines.append(f"| {row} | {' | '.join(shown)} |")
  return "\n".join(lines)


def best_seconds(record: dict) -> dict[str, float]:
  """Returns method -> seconds per update in its best turn."""
  return {name: min(values) for name, values in record["seconds_per_update"].items()}


def speed_table(record: dict, batch: int) -> str:
  """Returns Markdown of the speeds of scripts/bench_methods.py."""
  lines = ["| | images/s | updates in the time of one of SAIP |", "|---|---:|---:|"]
  best = best_seconds(record)
  for name, seconds in best.items():
    lines.append(f"| {name} | {batch / seconds:.0f} | {best[REFERENCE] / seconds:.1f} |")
  return "\n".join(lines)


def plot_curves(folder: pathlib.Path) -> list[str]:
  """Draws the monitors of all runs over images seen; returns the names of the pictures."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  records = [json.loads(file.read_text()) for file in sorted((folder / "curves").glob("*.json"))]
  records = [record for record in records if record["view"] in ("images", "time")]
  if not records:
    return []
  figure = Figure(figsize=(11, 3.4), layout="constrained")
  FigureCanvasAgg(figure)
  methods = list(dict.fromkeys(record["method"] for record in records))
  for axes, (monitor, title) in zip(figure.subplots(1, len(MONITORS)), MONITORS.items()):
    for record in records:
      per_update = record["images"] / record["step"]
      points = [(point["step"] * per_update, 100 * point[f"monitor/{monitor}"]) for point in record["curve"]]
      first = record["seed"] == 0 and record["view"] == "images"
      style = {"color": f"C{methods.index(record['method'])}", "label": record["method"] if first else None}
      axes.plot(*zip(*points), "-" if record["view"] == "images" else ":", alpha=0.8, linewidth=1.2, **style)
    axes.set(xlabel="images seen", ylabel="%", title=title)
    axes.set_xscale("symlog", linthresh=5000)
    axes.grid(alpha=0.2)
  axes.legend(fontsize=7)
  figure.savefig(folder / "curves.png", dpi=110, metadata={"Software": None})
  return ["curves.png"]


def against_single_runs(rows: Results, reference: str, columns: Sequence[str]) -> list[str]:
  """Returns the verdicts on rows that may be of one seed, see `gain`; none if the reference is of one seed too."""
  seeds = max(len(scores.values) for scores in rows[reference].values())
  return [verdicts(rows, reference, columns, functools.partial(gain, single_runs=True))] if seeds > 1 else []


def variants(reference: dict[str, Scores], found: Results, columns: Sequence[str]) -> list[str]:
  """Returns the paragraphs on variants of `REFERENCE`: by objectives, then by behavior."""
  parts = [
    f"`{REFERENCE}` has all three objectives and the improved behavior. Equal images. Columns without a deviation are"
    f" of one seed; the spread of {REFERENCE}'s seeds stands for theirs."
  ]
  of_behavior = lambda name: name.startswith("official")
  for title, text, chosen in (
    ("Objectives", "The others have the objectives in their name.", lambda name: not of_behavior(name)),
    ("Behavior", "`official` is the published behavior, `official-tokens` one setting of it, and so on.", of_behavior),
  ):
    rows = {REFERENCE: reference} | {name: by_task for name, by_task in found.items() if chosen(name)}
    if len(rows) > 1:
      parts += [f"### {title}", text, table(rows, columns), *against_single_runs(rows, REFERENCE, columns)]
  return parts


def search(methods: Results, found: Results, columns: Sequence[str]) -> list[str]:
  """Returns the paragraphs on the search: each method beside itself with one setting changed."""
  parts = [
    "Each recipe beside itself with one setting changed; `SEARCH` in the script has the values. Columns without a"
    " deviation are of one seed; the spread of the recipe's seeds stands for theirs. Settings were compared on the"
    " people of all other tables, which can only favor the one that looks best."
  ]
  method_of = lambda row: row.rpartition("-")[0]
  for name, by_task in methods.items():
    changed = {row: of for row, of in found.items() if method_of(row) == name}
    if changed:
      rows = {name: by_task} | changed
      parts += [f"### {name}", table(rows, columns), *against_single_runs(rows, name, columns)]
  others = {row: of for row, of in found.items() if method_of(row) != REFERENCE}
  if others:
    rows = {REFERENCE: methods[REFERENCE]} | others
    parts += [f"### {REFERENCE} beside them", *against_single_runs(rows, REFERENCE, columns)]
  return parts


def page(folder: pathlib.Path) -> str:
  """Returns the page; draws the curves into the folder."""
  found = read(folder)
  if REFERENCE not in found.get("images", {}):
    raise ValueError(f"{folder} holds no records of {REFERENCE} at equal images: run scripts/bench_methods.py")
  columns = list(dict.fromkeys(c for by_task in found["images"].values() for c in by_task))
  baselines = found.get("baseline", {})
  records = [json.loads(file.read_text()) for file in folder.glob("*_images_*.json")]
  batch, images = records[0]["images"] // records[0]["step"], max(record["images"] for record in records)
  seeds_of = collections.Counter(m for m, _ in {(record["method"], record["seed"]) for record in records})
  seeds = seeds_of[REFERENCE]
  others = "".join(f", {name}: {count}" for name, count in sorted(seeds_of.items()) if count != seeds)
  parts = [
    "# What pre-training is worth: methods at equal images and at equal time",
    "Made by `scripts/bench_methods.py` and `scripts/methods_page.py`; no figure is typed. Encoders of the size of"
    f" `saip_nano` (`vit_nano`, 0.47 M parameters, 64x32) are pre-trained on built-in people (seeds: {seeds}{others})"
    " and measured with frozen features on people they have never seen. Protocols were fixed before, the same for all;"
    " `saip_nano`'s own settings were chosen earlier with `attributes stripes` and `reid stripes` in view. Cells: mean"
    " +- deviation over seeds; errors (mm) are better if smaller.",
    f"## Equal images: {images:,}",
    table(found["images"] | baselines, columns),
  ]
  if seeds > 1:
    parts += [verdicts(found["images"] | baselines, REFERENCE, columns), WHAT_COUNTS.format("methods")]
  else:
    parts.append("One seed decides nothing: these are first figures.")
  if found.get("variant"):
    parts += [f"## Variants of {REFERENCE}", *variants(found["images"][REFERENCE], found["variant"], columns)]
  if found.get("search"):
    parts += ["## Search of settings", *search(found["images"], found["search"], columns)]
  if found.get("time"):
    timed = {REFERENCE: found["images"][REFERENCE]} | found["time"]
    parts += [
      f"## Equal time: that of {images:,} images of {REFERENCE}",
      f"Methods without a deviation are of one seed; the spread of {REFERENCE}'s seeds stands for theirs.",
      table(timed | baselines, columns),
    ]
    parts += against_single_runs(timed, REFERENCE, columns)
  if (folder / "speeds.json").exists():
    speed = json.loads((folder / "speeds.json").read_text())
    parts += ["## Speed", speed_table(speed, batch), "The best of some turns on two CPU cores, without compilation."]
  for name in plot_curves(folder):
    parts += ["## Curves", f"![Monitors over images seen]({folder.name}/{name})", "Dotted: the runs at equal time."]
  return "\n\n".join(parts) + "\n"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("folder", type=pathlib.Path)
  folder = parser.parse_args().folder
  folder.with_suffix(".md").write_text(page(folder))


if __name__ == "__main__":
  try:
    main()
  except ValueError as error:
    sys.exit(f"methods_page: error: {error}")
