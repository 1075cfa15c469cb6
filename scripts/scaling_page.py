"""The page of scripts/bench_scaling.py: curves, fits and sentences, all of them computed from the records."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

LINEAR_WITHIN, FLAT_WITHIN = 0.1, 0.1  # of exponents
OWN_LOAD = 1  # by how much the point before may leave the load above the number of cores


@dataclasses.dataclass(frozen=True)
class Curve:
  """One quantity over one setting.

  Attributes:
    kind: of the points, "step" or "index".
    setting: what grows.
    quantity: what is measured, a key of the record's `quantities`.
    x_name: what one unit of `x` is, in the plural.
    y_name: what the quantity is, with its article.
    x: settings -> the number on the horizontal axis.
    per: by how much the quantity is divided, such as the batches of one repetition.
    measure: "s" for times, "mb" for memory.
  """

  kind: str
  setting: str
  quantity: str
  x_name: str
  y_name: str
  x: Callable[[Mapping], float]
  per: int = 1
  measure: str = "s"

  @property
  def name(self) -> str:
    return f"{self.quantity}_by_{self.setting}"


@dataclasses.dataclass(frozen=True)
class Point:
  """One point of a curve.

  Attributes:
    x: what grows.
    values: wall time or memory of each repetition.
    cpu: processor time of each repetition; empty for memory.
    load: the load average before the point.
    cores: of the machine.
  """

  x: float
  values: tuple[float, ...]
  cpu: tuple[float, ...]
  load: float
  cores: int = 2

  @property
  def beside_others(self) -> bool:
    """Whether other work ran."""
    return self.load > self.cores + OWN_LOAD


@dataclasses.dataclass(frozen=True)
class Fit:
  """What the least values of a curve follow.

  Attributes:
    exponent: of a power law over the larger half of the points, at least three.
    factor: of the power law.
    first: least x of the power law.
    fixed, slope: of the line through all points with the least squares of relative errors.
    deviation: largest relative error of the line.
  """

  exponent: float
  factor: float
  first: float
  fixed: float
  slope: float
  deviation: float


def read_points(curve: Curve, records: Sequence[Mapping], base: Mapping) -> list[Point]:
  """Returns the points of a curve in order of x: everything that does not grow is as in `base`."""
  found = []
  for record in records:
    settings = record["settings"]
    others = {name: value for name, value in base.items() if name != curve.setting}
    if settings["kind"] != curve.kind or curve.quantity not in record["quantities"]:
      continue
    if curve.kind == "step" and any(settings[name] != value for name, value in others.items()):
      continue
    repetitions = record["quantities"][curve.quantity]
    values = tuple(r[curve.measure] / curve.per for r in repetitions)
    cpu = tuple(r["cpu_s"] / curve.per for r in repetitions if "cpu_s" in r)
    found.append(Point(curve.x(settings), values, cpu, record["load_average"], record["cores"]))
  return sorted(found, key=lambda point: point.x)


def fit_power(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
  """Returns (exponent, factor) of y = factor * x**exponent, by least squares of logarithms."""
  exponent, constant = np.polyfit(np.log(x), np.log(y), 1)
  return float(exponent), float(np.exp(constant))


def fit_line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
  """Returns (fixed, slope, largest relative error) of y = fixed + slope * x, by least squares of relative errors."""
  slope, fixed = np.polyfit(x, y, 1, w=1 / np.asarray(y))
  errors = (fixed + slope * np.asarray(x)) / np.asarray(y) - 1
  return float(fixed), float(slope), float(np.abs(errors).max())


def basis(points: Sequence[Point]) -> tuple[str, list[float]]:
  """Returns what fits and pictures show, and its least value at each point: processor time if other work ran."""
  if any(point.beside_others for point in points) and all(point.cpu for point in points):
    return "processor time", [min(point.cpu) for point in points]
  return "wall time", [min(point.values) for point in points]


def fit(x: Sequence[float], y: Sequence[float]) -> Fit | None:
  """Fits values in order of x; None: they are fewer than three."""
  if len(x) < 3:
    return None
  upper = max(3, math.ceil(len(x) / 2))
  return Fit(*fit_power(x[-upper:], y[-upper:]), x[-upper], *fit_line(x, y))


def growth(exponent: float) -> str:
  """Returns how a quantity grows, in words."""
  if abs(exponent) <= FLAT_WITHIN:
    return "less than linearly, hardly at all"
  if abs(exponent - 1) <= LINEAR_WITHIN:
    return "linearly"
  return "more than linearly" if exponent > 1 else "less than linearly"


def shown(value: float, measure: str) -> str:
  """Returns a value with a unit of its size and three digits."""
  if measure == "mb":
    return f"{value:,.0f} MB" if abs(value) >= 1 else f"{value * 1e6:.3g} bytes"
  for factor, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")):
    if abs(value) >= factor:
      break
  return f"{value / factor:.3g} {unit}"


def sentence(curve: Curve, points: Sequence[Point]) -> str:
  """Returns what a curve says."""
  x, (kind, y) = [point.x for point in points], basis(points)
  found = fit(x, y)
  if found is None:
    return f"Too few points for a fit: {len(points)}."
  of = f" of {kind}" if curve.measure == "s" else ""
  return (
    f"From {found.first:,.0f} to {x[-1]:,.0f} {curve.x_name}, {curve.y_name} grows {growth(found.exponent)}: exponent"
    f" {found.exponent:.2f}{of}. As a line through all points: {shown(found.fixed, curve.measure)} and"
    f" {shown(found.slope, curve.measure)} for each of the {curve.x_name}, within {found.deviation:.0%}."
  )


def table(curve: Curve, points: Sequence[Point]) -> str:
  """Returns the points as a Markdown table."""
  rows = [f"| {curve.x_name} | least | median | processor time | load before |", "|---:|---:|---:|---:|---:|"]
  for point in points:
    least, median = (shown(float(f(point.values)), curve.measure) for f in (min, np.median))
    cpu = shown(min(point.cpu), "s") if point.cpu else "-"
    rows.append(f"| {point.x:,.0f} | {least} | {median} | {cpu} | {point.load:.1f} |")
  return "\n".join(rows)


def plot(path: pathlib.Path, curve: Curve, points: Sequence[Point]) -> None:
  """Draws all repetitions, the least ones, and both fits, on logarithmic axes."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure
  from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

  figure = Figure(figsize=(5, 3.6), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots()
  kind, y = basis(points)
  repetitions = [point.cpu if kind == "processor time" else point.values for point in points]
  x = np.array([point.x for point in points], float)
  for at, values in zip(x, repetitions):
    axes.plot([at] * len(values), values, ".", color="0.7", markersize=4)
  axes.plot(x, y, "o", color="C0", label="least of the repetitions")
  found = fit(x, y)
  if found:
    upper = np.geomspace(found.first, x[-1], 50)
    axes.plot(upper, found.factor * upper**found.exponent, "-", color="C1", label=f"exponent {found.exponent:.2f}")
    every = np.geomspace(x[0], x[-1], 100)
    line = found.fixed + found.slope * every
    axes.plot(every[line > 0], line[line > 0], "--", color="C2", label="fixed cost and slope")
  low, high = min(map(min, repetitions)) / 1.3, max(map(max, repetitions)) * 1.3
  middle = math.sqrt(low * high)
  axes.set(xlabel=curve.x_name, ylabel=kind if curve.measure == "s" else "", title=curve.y_name.removeprefix("the "))
  axes.set(xlim=(x[0] / 1.3, x[-1] * 1.3), ylim=(min(low, middle / 3), max(high, middle * 3)))  # noise fills no picture
  axes.set(xscale="log", yscale="log")
  axes.set_xticks(x, [f"{value:,.0f}" for value in x])
  axes.xaxis.set_minor_formatter(NullFormatter())
  axes.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_formatter=NullFormatter())
  axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, curve.measure)))
  axes.grid(which="both", alpha=0.2)
  axes.legend(fontsize=8)
  figure.savefig(path, dpi=110, metadata={"Software": None})


def conditions(records: Sequence[Mapping]) -> str:
  """Returns under which conditions the records were made."""
  values = lambda read: ", ".join(sorted({str(read(record)) for record in records}))
  loads = [record["load_average"] for record in records]
  busy = sum(record["load_average"] > record["cores"] + OWN_LOAD for record in records)
  versions = "; ".join(f"{p} {values(lambda r, p=p: r['versions'][p])}" for p in records[0]["versions"])
  flags = ", ".join(sorted({record["compiler_flags"] for record in records} - {""}))
  return (
    f"{len(records)} records; cores: {values(lambda r: r['cores'])}; {values(lambda r: r['machine'])}; Python"
    f" {values(lambda r: r['python'])}; {versions}."
    + (f" Steps were compiled with `{flags}`." if flags else "")
    + f" The load average before a point was {min(loads):.1f} to {max(loads):.1f}. Other work ran beside"
    f" {busy} of {len(loads)} points, whose load was above the number of cores + {OWN_LOAD}."
    + (" Wall times of those are upper bounds." if busy else "")
  )


def write_page(out: pathlib.Path, curves: Sequence[Curve], base: Mapping, introduction: str) -> None:
  """Writes the page `out`.md and the plots in `out`.

  Args:
    out: the folder of the records.
    curves: what is shown, in this order; those without points are left out.
    base: the settings of steps that do not grow.
    introduction: what was measured.
  """
  records = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
  if not records:
    raise ValueError(f"--out={out} holds no records")
  parts = ["# How the cost grows", introduction, conditions(records)]
  summary = ["| grows | with | exponent of wall time or memory | of processor time |", "|---|---|---:|---:|"]
  sections = []
  for curve in curves:
    points = read_points(curve, records, base)
    if not points:
      continue
    plot(out / f"{curve.name}.png", curve, points)
    title = f"{curve.y_name.removeprefix('the ')} by {curve.x_name}"
    sections += [f"## {title[0].upper()}{title[1:]}", sentence(curve, points)]
    sections += [f"![{title}]({out.name}/{curve.name}.png)", table(curve, points)]
    x = [point.x for point in points]
    least = [[min(point.values) for point in points], [min(point.cpu, default=math.nan) for point in points]]
    exponents = ["-" if len(x) < 3 or math.isnan(y[0]) else f"{fit(x, y).exponent:.2f}" for y in least]
    summary.append(f"| {curve.y_name} | {curve.x_name} | {' | '.join(exponents)} |")
  page = "\n\n".join([*parts, "\n".join(summary), *sections]) + "\n"
  out.with_suffix(".md").write_text(page)
