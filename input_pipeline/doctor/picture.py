"""Draws the sizes of the images of a data set, sizes.png."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from input_pipeline.doctor.inspect_image import INPUT_HW

_BLUE, _MARK, _PALE = "#3b6ea5", "#c8452d", "#e8e8e8"
_ASPECT = INPUT_HW[0] / INPUT_HW[1]
# Bins are an eighth of an octave wide; powers of two are in the middle of a bin.
_BINS_PER_DOUBLING = 8
_TICKS = [step * 2.0**power for power in range(-6, 18) for step in (1, 1.5)]


def draw_sizes(hw: np.ndarray, title: str) -> bytes:
  """Draws histograms of height, width and aspect ratio, and the joint histogram of height and width.

  Args:
    hw: (n, 2) heights and widths in pixels; may be empty.
    title: title of the picture.

  Returns:
    A PNG.
  """
  figure = Figure(figsize=(11, 8), dpi=110, layout="constrained")
  FigureCanvasAgg(figure)
  figure.suptitle(title.replace("$", r"\$"), fontsize=14)
  axes = figure.subplots(2, 2)
  if len(hw):
    height, width = hw[:, 0].astype(float), hw[:, 1].astype(float)
    _histogram(axes[0, 0], height, "Height", "height (pixels)", INPUT_HW[0], f"training input: {INPUT_HW[0]}")
    _histogram(axes[0, 1], width, "Width", "width (pixels)", INPUT_HW[1], f"training input: {INPUT_HW[1]}")
    _histogram(axes[1, 0], height / width, "Aspect", "height / width", _ASPECT, f"training input: {_ASPECT:g} : 1")
    _together(axes[1, 1], height, width)
  else:
    for axis in axes.flat:
      axis.set_axis_off()
    figure.text(0.5, 0.5, "no readable images", ha="center", fontsize=16)
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png")
  return buffer.getvalue()


def _histogram(axis: Axes, values: np.ndarray, title: str, label: str, mark: float, mark_label: str) -> None:
  """Draws counts over a logarithmic scale."""
  edges = _edges(min(values.min(), mark / 2), max(values.max(), mark * 2))
  axis.hist(values, edges, color=_BLUE, zorder=2)
  axis.axvline(mark, color=_MARK, linestyle="--", linewidth=1.5, label=mark_label, zorder=3)
  median = np.median(values)
  axis.axvline(median, color="black", linewidth=1.2, label=f"median: {median:.3g}", zorder=3)
  _scale(axis, "x", edges)
  axis.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
  _finish(axis, title, label, "images")


def _together(axis: Axes, height: np.ndarray, width: np.ndarray) -> None:
  edges = _edges(min(height.min(), width.min(), *INPUT_HW), max(height.max(), width.max(), *INPUT_HW))
  low, high = edges[0], edges[-1]
  counts, _, _ = np.histogram2d(width, height, (edges, edges))
  shares = axis.pcolormesh(
    edges, edges, np.where(counts, counts, np.nan).T, cmap="viridis", norm=LogNorm(1, max(10, counts.max())), zorder=2
  )
  axis.figure.colorbar(shares, ax=axis, label="images (logarithmic)")
  axis.plot(
    [low, high],
    [low * _ASPECT, high * _ASPECT],
    color=_MARK,
    linestyle="--",
    linewidth=1.5,
    label=f"height = {_ASPECT:g} x width",
    zorder=3,
  )
  axis.plot(
    INPUT_HW[1],
    INPUT_HW[0],
    "o",
    markersize=9,
    markerfacecolor="none",
    markeredgecolor=_MARK,
    markeredgewidth=1.8,
    label=f"training input: {INPUT_HW[0]} x {INPUT_HW[1]}",
    zorder=4,
  )
  _scale(axis, "x", edges)
  _scale(axis, "y", edges)
  _finish(axis, "Height and width", "width (pixels)", "height (pixels)")


def _edges(low: float, high: float) -> np.ndarray:
  first, last = (round(_BINS_PER_DOUBLING * np.log2(end)) for end in (low, high))
  return 2.0 ** ((np.arange(first - 2, last + 3) + 0.5) / _BINS_PER_DOUBLING)


def _scale(axis: Axes, direction: str, edges: np.ndarray) -> None:
  """Makes the x or y axis logarithmic, with plain numbers at powers of two, and between them if there is room."""
  doublings = (len(edges) - 1) / _BINS_PER_DOUBLING
  ticks = _TICKS[:: 1 if doublings < 4 else 2 if doublings < 9 else 4]
  getattr(axis, f"set_{direction}scale")("log")
  getattr(axis, f"set_{direction}lim")(edges[0], edges[-1])
  getattr(axis, f"set_{direction}ticks")([tick for tick in ticks if edges[0] <= tick <= edges[-1]])
  getattr(axis, f"set_{direction}ticks")([], minor=True)
  getattr(axis, f"{direction}axis").set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _finish(axis: Axes, title: str, x_label: str, y_label: str) -> None:
  axis.set(title=title, xlabel=x_label, ylabel=y_label)
  axis.grid(color=_PALE, zorder=0)
  axis.legend(fontsize=9)
