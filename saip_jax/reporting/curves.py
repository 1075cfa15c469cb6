"""Curves of metrics as small SVG charts, one per metric, with all runs."""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence

import numpy as np

from saip_jax.reporting.page import escape, swatch
from saip_jax.reporting.runs import Run, Series

POINTS = 100  # most points per line, about the resolution of a chart on a screen
_WIDTH, _HEIGHT = 400, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 392, 8, 168  # of the plot in the chart
_DOTS = 20  # lines with at most so many points show them

_GROUPS = {"loss": "Losses", "monitor": "Monitors", "optim": "Optimizer", "time": "Speed", "": "Others"}
_NOT_DRAWN = {"epoch", "time/step_s"}  # redundant: steps, and images per second
_TITLES = {
  "time/images_per_s": "throughput, images/s",
  "time/input_wait_fraction": "input wait, fraction of the time",
  "time/goodput": "goodput, fraction of the time since the start",
  "time/save_stall": "saving, fraction of the time",
  "time/monitors_s": "monitors, s",
  "monitor/reid_mAP": "re-identification, mAP",
  "monitor/attributes_mA": "attributes, mA",
  "monitor/parts_mIoU": "parts, mIoU",
}


@dataclasses.dataclass(frozen=True)
class Line:
  """A series as drawn: each point combines `size` consecutive records.

  Attributes:
    steps: (P, 2) int64, the first and the last step of the records.
    mean: (P,) float64 means of their values.
    low: (P,) their minima.
    high: (P,) their maxima.
    size: records per point; the last point may have fewer.
  """

  steps: np.ndarray
  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray
  size: int


def condense(series: Series, points: int = POINTS) -> Line:
  """Returns a series as a line of at most `points` points."""
  size = -(-len(series.steps) // points)
  starts = np.arange(0, len(series.steps), size)
  ends = np.minimum(starts + size, len(series.steps))
  mean = np.add.reduceat(series.values / size, starts) * (
    size / (ends - starts)
  )  # divided first, so that no sum overflows
  steps = np.stack([series.steps[starts], series.steps[ends - 1]], axis=1)
  return Line(steps, mean, np.minimum.reduceat(series.values, starts), np.maximum.reduceat(series.values, starts), size)


def curves_html(runs: Sequence[Run]) -> str:
  """Returns the charts of all metrics, grouped by the part of their names before the slash."""
  names = {name: None for run in runs for name in run.series if name not in _NOT_DRAWN}
  parts = []
  for group, title in _GROUPS.items():
    members = sorted((n for n in names if _group(n) == group), key=_order)
    charts = [_chart(name, [run.series.get(name) for run in runs]) for name in members]
    if charts:
      parts.append(f'<h3>{title}</h3><div class="charts">{"".join(charts)}</div>')
  return "".join(parts)


def smoothing(runs: Iterable[Run]) -> str:
  """Returns a sentence about the number of records per point."""
  sizes = {-(-len(series.steps) // POINTS) for run in runs for series in run.series.values()}
  if max(sizes) == 1:
    return "Every record is a point."
  several = f"{min(sizes):,} to {max(sizes):,}" if len(sizes) > 1 else f"{max(sizes):,}"
  return (
    f"A point is the mean of {several} consecutive records, so that a line has at most {POINTS} points; the pale "
    "band spans their minimum and maximum and is clipped to the chart."
  )


def _order(name: str) -> tuple:
  """Returns the sort key of a metric: the total loss first, then metrics with a title."""
  return name != "loss/total", name not in _TITLES, name


def _group(name: str) -> str:
  prefix = name.partition("/")[0]
  return prefix if prefix in _GROUPS else ""


def _chart(name: str, all_series: Sequence[Series | None]) -> str:
  lines = {i: condense(series) for i, series in enumerate(all_series) if series is not None}
  last_step = max(int(line.steps[-1, 1]) for line in lines.values()) or 1
  low, high = _limits(np.concatenate([line.mean for line in lines.values()]))
  drawn = "".join(f'<g class="run{i}">{_drawn(line, last_step, low, high)}</g>' for i, line in lines.items())
  values = "".join(
    f'<span>{swatch(i) if len(all_series) > 1 else ""}<span class="value" data-run="{i}">{_number(line.mean[-1])}'
    "</span></span>"
    for i, line in lines.items()
  )
  hover = {
    i: [line.steps.tolist(), _short(line.mean), _short(line.low), _short(line.high)] for i, line in lines.items()
  }
  hover = escape(json.dumps(hover, separators=(",", ":")))
  left_out = sum(series.left_out for series in all_series if series is not None)
  note = f"<small>{left_out:,} values that are not finite are left out</small>" if left_out else ""
  title = escape(_TITLES.get(name, name))
  return (
    f'<figure class="chart" data-left="{_LEFT}" data-right="{_RIGHT}" data-last="{last_step}" data-lines="{hover}">'
    f'<figcaption><b>{title}</b> <span class="at"></span><div class="values">{values}</div>{note}</figcaption>'
    f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{_axes(last_step, low, high)}{drawn}'
    f'<line class="cursor" x1="-9" x2="-9" y1="{_TOP}" y2="{_BOTTOM}"/></svg></figure>'
  )


def _drawn(line: Line, last_step: int, low: float, high: float) -> str:
  """Returns a line, the band around it, and its points if they are few."""
  x = _x(line.steps.mean(axis=1), last_step)
  mean, bottom, top = (_y(np.clip(values, low, high), low, high) for values in (line.mean, line.low, line.high))
  band = [*zip(x, top), *zip(x[::-1], bottom[::-1])]
  dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5"/>' for a, b in zip(x, mean)) if len(x) <= _DOTS else ""
  return (
    (f'<polygon points="{_points(band)}"/>' if line.size > 1 else "")
    + f'<polyline points="{_points(zip(x, mean))}"/>'
    + dots
  )


def _axes(last_step: int, low: float, high: float) -> str:
  lines = []
  for value in _ticks(low, high, 5):
    y = _y(value, low, high)
    lines.append(
      f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
      f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>'
    )
  for step in _ticks(0, last_step, 4):
    x = _x(step, last_step)
    anchor = "end" if x > _RIGHT - 20 else "middle"
    lines.append(f'<text x="{x:.1f}" y="{_BOTTOM + 16}" text-anchor="{anchor}">{step:,.10g}</text>')
  return "".join(lines)


def _x(steps, last_step: int):
  return _LEFT + (_RIGHT - _LEFT) * steps / last_step


def _y(values, low: float, high: float):
  return _BOTTOM - (_BOTTOM - _TOP) * ((values - low) / (high - low))


def _limits(values: np.ndarray) -> tuple[float, float]:
  """Returns the range of the values with a margin; for equal values, a range around them."""
  low, high = float(values.min()), float(values.max())
  margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
  return low - margin, high + margin


def _ticks(low: float, high: float, most: int) -> list[float]:
  """Returns about `most` round numbers from `low` to `high`."""
  rough = (high - low) / most
  power = 10.0 ** math.floor(math.log10(rough))
  unit = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
  return [float(f"{k * unit:.12g}") for k in range(math.ceil(low / unit - 1e-9), math.floor(high / unit + 1e-9) + 1)]


def _points(pairs) -> str:
  return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _number(value: float) -> str:
  return f"{value:.4g}"


def _short(values: np.ndarray) -> list[float]:
  """Returns values rounded to four digits, to keep the page small."""
  return [float(f"{value:.4g}") for value in values]
