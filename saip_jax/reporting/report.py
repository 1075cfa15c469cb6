"""`saip report`: one page about a run, and others beside it."""

import contextlib
import dataclasses
import datetime
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from input_pipeline.names import ESCAPED
from input_pipeline.storage import local_path, writing, written_whole
from saip_jax.reporting import page
from saip_jax.reporting.curves import curves_html, smoothing
from saip_jax.reporting.images import panel_uri
from saip_jax.reporting.runs import Run, read_compared, read_run

_LISTED = 20  # damaged images
_OPEN_ROWS = 30  # of settings that differ: longer tables open by a click


def write_report(workdir, compare: Sequence = (), out=None, data=None) -> pathlib.Path:
  """Writes the report of a run as one HTML file that needs no other.

  Args:
    workdir: the run's folder.
    compare: folders of other runs, or files of what `saip evaluate --json` printed.
    out: the file; None: report.html in the run's folder. It appears whole or not at all.
    data: an `evaluation.splits.Data`, images to show the encoder's work on.

  Returns:
    The file.

  Raises:
    ValueError: no run in one of the folders, too many of them, data that cannot be opened, or a file that cannot be
      written.
  """
  from saip_jax.run_folder.integrity import newest_whole

  run = read_run(local_path(workdir, "W"))
  try:
    step, damaged = newest_whole(run.path)
  except ValueError as error:  # a path that cannot be read there
    step, damaged = None, [str(error)]
  for line in damaged:
    print(f"warning: {line}", file=sys.stderr, flush=True)
  run = dataclasses.replace(run, faults=[*run.faults, *damaged])
  runs = _with_unique_names([run, *map(read_compared, compare)])
  if len(runs) > page.RUN_COLORS:
    raise ValueError(f"--compare names {len(compare)}: at most {page.RUN_COLORS - 1} can be told apart by color")
  out = local_path(out, "--out") if out else run.path / "report.html"
  cannot = functools.partial(writing, out, "the page ", "name another place with --out=FILE")
  with contextlib.ExitStack() as stack:
    with cannot():  # before the work
      out.parent.mkdir(parents=True, exist_ok=True)
      partial = stack.enter_context(written_whole(str(out)))
      file = stack.enter_context(open(partial, "w", encoding="utf-8", errors=ESCAPED))
    sections = {
      "Run": _facts_html(runs, step),
      "Tasks": _tasks_html(runs),
      "Curves": _curves_html(runs),
      "What it does in training": _panels_html(run),
      "What the encoder sees": _encoder_html(run, step, data),
      "Settings": _settings_html(runs),
    }
    with cannot():
      file.write(page.document(f"Report of {run.name}", sections))
      file.close()
  return out


def _with_unique_names(runs: list[Run]) -> list[Run]:
  """Gives runs whose folders are called alike the whole path as their name."""
  names = [run.name for run in runs]
  return [
    dataclasses.replace(run, name=str(run.path)) if run.path and names.count(run.name) > 1 else run for run in runs
  ]


def _facts_html(runs: Sequence[Run], newest: int | None) -> str:
  run = runs[0]
  config = run.settings
  size = config.get("model.image_hw")
  told = {
    "method": ", fidelity ".join(str(config[k]) for k in ("method.name", "method.fidelity") if k in config),
    "backbone": str(config.get("model.backbone", "")) + (f" at {_size(size)}" if size else ""),
    "data": _data_fact(run, newest),
    "steps": f"{run.last_step:,} of {config['total_steps']:,}" if _is_number(config.get("total_steps")) else "",
    "batch": ", ".join(
      f"{config[key]}{unit}" for key, unit in (("batch_size", " images"), ("precision", "")) if key in config
    ),
    "devices": _devices_fact(run.starts),
    "newest checkpoint": "none that is whole" if newest is None else f"step {newest:,}",
    "epochs": _last(run, "epoch", "{:.4g}"),
    "throughput": _typical(run, "time/images_per_s", "{:,.1f} images/s"),
    "input wait": _typical(run, "time/input_wait_fraction", "{:.1%} of the time"),
    "goodput": _last(run, "time/goodput", "{:.0%} of the time since the start"),
    **_goodput_facts(run.goodput),
    "damaged images": f"{len(run.damaged):,} skipped" if run.damaged else "none met",
    "folder": str(run.path.absolute()),
    "compared with": ", ".join(other.name for other in runs[1:]),
  }
  html = page.facts({name: text for name, text in told.items() if text})
  html += "".join(page.missing(fault if of is run else f"{of.name}: {fault}") for of in runs for fault in of.faults)
  if run.damaged:
    more = [f"and {len(run.damaged) - _LISTED:,} more"] if len(run.damaged) > _LISTED else []
    html += page.details("Damaged images", f"<pre>{page.escape(chr(10).join(run.damaged[:_LISTED] + more))}</pre>")
  return html


def _data_fact(run: Run, newest: int | None) -> str:
  """The data set by the fingerprint of a checkpoint, which is sure; without one, as the settings name it."""
  from saip_jax.run_folder.reading import read_fingerprint

  if newest is not None:
    try:
      identity = read_fingerprint(run.path / "checkpoints" / str(newest))["data"]
      return f"{identity.get('name', identity['source'])}: {identity['images']:,} images, digest {identity['digest']}"
    except (ValueError, KeyError, AttributeError):
      pass  # of another version: the settings tell it too
  named = (run.settings.get(f"data.{key}") for key in ("source", "path", "split"))
  return " ".join(str(value) for value in named if value)


def _devices_fact(starts: list[dict[str, Any]]) -> str:
  """What the run ran on, in the order of its starts."""
  kinds = dict.fromkeys(str(start["devices"]) for start in starts if "devices" in start)
  return ", then ".join(kinds) + (f"; started {len(starts)} times" if len(starts) > 1 else "")


def _goodput_facts(goodput: dict[str, Any]) -> dict[str, str]:
  told, started, useful = {}, goodput.get("started"), goodput.get("useful_s")
  if _is_number(started):
    moment = datetime.datetime.fromtimestamp(started, datetime.UTC)
    told["first started"] = f"{moment:%Y-%m-%d %H:%M} UTC"
  if isinstance(useful, dict) and useful and all(map(_is_number, useful.values())):
    told["devices at work"] = f"{max(useful.values()) / 3600:.2f} hours up to the newest checkpoint"
  return told


def _is_number(value) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _size(hw) -> str:
  return "x".join(map(str, hw)) if isinstance(hw, list) else str(hw)


def _last(run: Run, name: str, text: str) -> str:
  return text.format(run.series[name].values[-1]) if name in run.series else ""


def _typical(run: Run, name: str, text: str) -> str:
  return text.format(np.median(run.series[name].values)) + ", median" if name in run.series else ""


def _tasks_html(runs: Sequence[Run]) -> str:
  from saip_jax.reporting.task_tables import task_tables_html  # whose metrics take a second to import

  where, html = runs[0].path, ""
  if not runs[0].evaluations:
    html = page.missing(
      "Nothing was measured of this run yet; this does, with --task=reid, attributes, ...:",
      f"saip evaluate --checkpoint={where} --task=reid --data=people",
    )
  if any(run.evaluations for run in runs):
    html += _legend(runs, lambda run: run.evaluations) + task_tables_html(runs)
  measured = {record["encoder"]["checkpoint"].partition(":")[0] for run in runs for record in run.evaluations}
  if not measured & {"random", "histogram"}:
    backbone = runs[0].settings.get("model.backbone", "vit_tiny")
    html += page.missing(
      "How much of it is due to pre-training, an encoder without any tells; with --compare=FILE it stands beside:",
      f"saip evaluate --checkpoint=random:{backbone} --task=reid --data=people --json >> FILE",
    )
  return html


def _curves_html(runs: Sequence[Run]) -> str:
  with_curves = [run for run in runs if run.series]
  if not with_curves:
    return page.missing(
      "No record was written yet (metrics.jsonl); the same command as before goes on with the run:",
      f"saip pretrain --config=... --workdir={runs[0].path}",
    )
  return (
    f"<p>{page.escape(smoothing(with_curves))} The number over a curve is its last point, or the one under the "
    f'pointer; the axis counts updates.</p><div class="curves">{_legend(runs, lambda run: run.series)}'
    f"{curves_html(runs)}</div>"
  )


def _legend(runs: Sequence[Run], shown: Callable[[Run], Any]) -> str:
  """Returns the colors of the runs that are shown; nothing where the report is about one run alone."""
  return page.legend({i: run.name for i, run in enumerate(runs) if shown(run)}) if len(runs) > 1 else ""


def _panels_html(run: Run) -> str:
  html, panels = "", run.panels()
  for kind, pictures in panels.items():
    (first_step, first), (step, newest) = pictures[0], pictures[-1]
    html += f"<h3>{page.escape(kind)}, step {step:,}</h3>"
    try:
      html += _panel_html(newest, f"{kind}, step {step}")
      if first_step == step:
        continue
      same = first.read_bytes() == newest.read_bytes()
      html += (
        f'<p class="soft">The same as at step {first_step:,}.</p>'
        if same
        else page.details(f"at the first: step {first_step:,}", _panel_html(first, f"{kind}, step {first_step}"))
      )
    except OSError as error:
      html += page.missing(f"It cannot be read: {error}")
  return html or page.missing(
    "No pictures of reconstructions, searches or views were drawn; a run draws them every N updates with:",
    f"saip pretrain --config=... --workdir={run.path} --config.panel_every=N",
  )


def _panel_html(path: pathlib.Path, name: str) -> str:
  return f'<div class="wide"><img class="panel" src="{panel_uri(path)}" alt="{page.escape(name)}"></div>'


def _encoder_html(run: Run, newest: int | None, data) -> str:
  if newest is None:
    return page.missing(
      "No checkpoint yet that is whole, so no pictures of what the encoder does; the run writes one "
      f"every {run.settings.get('checkpoint_every', 'few')} updates:",
      f"saip pretrain --config=... --workdir={run.path}",
    )
  # jax, and the weights: seconds
  from saip_jax.interop.weights import load_backbone
  from saip_jax.reporting.encoder_pictures import choose_images, encoder_html

  images = choose_images(data)
  try:
    backbone = load_backbone(run.path / "checkpoints" / str(newest))
  except ValueError as error:
    print(f"report: the newest checkpoint cannot be used: {error}", file=sys.stderr)
    return page.missing(f"The newest checkpoint cannot be used: {error}")
  return (
    f"<p>The student of step {newest:,} on images of {page.escape(images.name)}, squashed to "
    f"{_size(list(backbone.preprocessing.image_hw))}.</p>" + encoder_html(backbone, images)
  )


def _settings_html(runs: Sequence[Run]) -> str:
  html, trained = "", {i: run for i, run in enumerate(runs) if run.path}
  if len(trained) > 1:
    shown = lambda run, key: json.dumps(run.settings[key]) if key in run.settings else "absent"
    values = {
      key: [shown(run, key) for run in trained.values()]
      for key in sorted({key for run in trained.values() for key in run.settings})
    }
    rows = [[page.escape(text) for text in (key, *texts)] for key, texts in values.items() if len(set(texts)) > 1]
    header = ["setting"] + [page.swatch(i) + page.escape(run.name) for i, run in trained.items()]
    html = page.details(f"What differs: {len(rows)} settings", page.table(header, rows), opened=len(rows) <= _OPEN_ROWS)
    html = html if rows else page.missing("No setting differs.")
  text = json.dumps(runs[0].config, indent=2, ensure_ascii=False)
  return html + page.details("All settings of this run", f"<pre>{page.escape(text)}</pre>")
