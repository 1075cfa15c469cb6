"""`saip report`: one page about a run, optionally compared with other runs."""

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
from input_pipeline.storage import as_place, writing, written_whole
from saip_jax.reporting import page
from saip_jax.reporting.curves import curves_html, smoothing
from saip_jax.reporting.images import panel_uri
from saip_jax.reporting.runs import Run, read_compared, read_run
from saip_jax.run_folder.files import CHECKPOINTS
from saip_jax.run_folder.remote import joined, local, published

_LISTED = 20  # damaged images
_OPEN_ROWS = 30  # of settings that differ; longer tables are collapsed


def write_report(workdir, compare: Sequence = (), out=None, data=None) -> pathlib.Path | str:
  """Writes the report of a run as one self-contained HTML file.

  Args:
    workdir: folder of the run, a local path or a URL.
    compare: folders of other runs, or files with the output of `saip evaluate --json`; likewise.
    out: the file, written atomically; None for report.html in the folder of the run; likewise.
    data: an `evaluation.splits.Data`, whose images show the features of the encoder.

  Returns:
    The file, a local path or a URL.

  Raises:
    ValueError: a folder without a run, too many runs, data that cannot be opened, or a file that cannot be written.
  """
  place = as_place(out, "--out", writable=True) if out else joined(as_place(workdir, "W"), "report.html")
  with published(place, "--out") as file:
    _write_report(workdir, compare, file, data)
  return place


def _write_report(workdir, compare, out: pathlib.Path, data) -> None:
  """`write_report` into a local file."""
  from saip_jax.run_folder.integrity import newest_whole

  run = read_run(local(workdir, "W"))
  try:
    step, damaged = newest_whole(run.path.absolute() / CHECKPOINTS)
  except ValueError as error:  # a path that cannot be read
    step, damaged = None, [str(error)]
  for line in damaged:
    print(f"warning: {line}", file=sys.stderr, flush=True)
  run = dataclasses.replace(run, faults=[*run.faults, *damaged])
  runs = _with_unique_names([run, *map(read_compared, compare)])
  if len(runs) > page.RUN_COLORS:
    raise ValueError(f"--compare has {len(compare)} runs: expected at most {page.RUN_COLORS - 1}, one for each color")
  cannot = functools.partial(writing, out, "the page ", "choose another place with --out=FILE")
  with contextlib.ExitStack() as stack:
    with cannot():  # before the work
      out.parent.mkdir(parents=True, exist_ok=True)
      partial = stack.enter_context(written_whole(str(out)))
      file = stack.enter_context(open(partial, "w", encoding="utf-8", errors=ESCAPED))
    sections = {
      "Run": _facts_html(runs, step),
      "Tasks": _tasks_html(runs),
      "Curves": _curves_html(runs),
      "Panels of training": _panels_html(run),
      "Encoder": _encoder_html(run, step, data),
      "Settings": _settings_html(runs),
    }
    with cannot():
      file.write(page.document(f"Report of {run.name}", sections))
      file.close()


def _with_unique_names(runs: list[Run]) -> list[Run]:
  """Returns the runs, with the whole path as name if folders have the same name."""
  names = [run.name for run in runs]
  return [dataclasses.replace(run, name=run.place) if run.path and names.count(run.name) > 1 else run for run in runs]


def _facts_html(runs: Sequence[Run], newest: int | None) -> str:
  run = runs[0]
  config = run.settings
  size = config.get("model.image_hw")
  facts = {
    "method": ", fidelity ".join(str(config[k]) for k in ("method.name", "method.fidelity") if k in config),
    "backbone": str(config.get("model.backbone", "")) + (f" at {_size(size)}" if size else ""),
    "data": _data_fact(run, newest),
    "steps": f"{run.last_step:,} of {config['total_steps']:,}" if _is_number(config.get("total_steps")) else "",
    "batch": ", ".join(
      f"{config[key]}{unit}" for key, unit in (("batch_size", " images"), ("precision", "")) if key in config
    ),
    "devices": _devices_fact(run.starts),
    "newest checkpoint": "none that is complete" if newest is None else f"step {newest:,}",
    "epochs": _last(run, "epoch", "{:.4g}"),
    "throughput": _typical(run, "time/images_per_s", "{:,.1f} images/s"),
    "input wait": _typical(run, "time/input_wait_fraction", "{:.1%} of the time"),
    "goodput": _last(run, "time/goodput", "{:.0%} of the time since the start"),
    **_goodput_facts(run.goodput),
    "damaged images": f"{len(run.damaged):,} skipped" if run.damaged else "none found",
    "folder": run.place,
    "compared with": ", ".join(other.name for other in runs[1:]),
  }
  html = page.facts({name: text for name, text in facts.items() if text})
  html += "".join(page.missing(fault if of is run else f"{of.name}: {fault}") for of in runs for fault in of.faults)
  if run.damaged:
    more = [f"and {len(run.damaged) - _LISTED:,} more"] if len(run.damaged) > _LISTED else []
    html += page.details("Damaged images", f"<pre>{page.escape(chr(10).join(run.damaged[:_LISTED] + more))}</pre>")
  return html


def _data_fact(run: Run, newest: int | None) -> str:
  """Returns the data set of a checkpoint's fingerprint, or else that of the settings."""
  from saip_jax.run_folder.reading import read_fingerprint

  if newest is not None:
    try:
      identity = read_fingerprint(run.path / CHECKPOINTS / str(newest))["data"]
      return f"{identity.get('name', identity['source'])}: {identity['images']:,} images, digest {identity['digest']}"
    except (ValueError, KeyError, AttributeError):
      pass  # of another version: use the settings
  named = (run.settings.get(f"data.{key}") for key in ("source", "path", "split"))
  return " ".join(str(value) for value in named if value)


def _devices_fact(starts: list[dict[str, Any]]) -> str:
  """Returns the devices of the run, in the order of its starts."""
  kinds = dict.fromkeys(str(start["devices"]) for start in starts if "devices" in start)
  return ", then ".join(kinds) + (f"; started {len(starts)} times" if len(starts) > 1 else "")


def _goodput_facts(goodput: dict[str, Any]) -> dict[str, str]:
  facts, started, useful = {}, goodput.get("started"), goodput.get("useful_s")
  if _is_number(started):
    moment = datetime.datetime.fromtimestamp(started, datetime.UTC)
    facts["first started"] = f"{moment:%Y-%m-%d %H:%M} UTC"
  if isinstance(useful, dict) and useful and all(map(_is_number, useful.values())):
    facts["devices at work"] = f"{max(useful.values()) / 3600:.2f} hours until the newest checkpoint"
  return facts


def _is_number(value) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _size(hw) -> str:
  return "x".join(map(str, hw)) if isinstance(hw, list) else str(hw)


def _last(run: Run, name: str, text: str) -> str:
  return text.format(run.series[name].values[-1]) if name in run.series else ""


def _typical(run: Run, name: str, text: str) -> str:
  return text.format(np.median(run.series[name].values)) + ", median" if name in run.series else ""


def _tasks_html(runs: Sequence[Run]) -> str:
  from saip_jax.reporting.task_tables import task_tables_html  # imports of metrics take a second

  html = ""
  if not runs[0].evaluations:
    html = page.missing(
      "This run has no evaluations yet; this command adds one, with --task=reid, attributes, ...:",
      f"saip evaluate --checkpoint={runs[0].place} --task=reid --data=people",
    )
  if any(run.evaluations for run in runs):
    html += _legend(runs, lambda run: run.evaluations) + task_tables_html(runs)
  measured = {record["encoder"]["checkpoint"].partition(":")[0] for run in runs for record in run.evaluations}
  if not measured & {"random", "histogram"}:
    backbone = runs[0].settings.get("model.backbone", "vit_tiny")
    html += page.missing(
      "An untrained encoder shows how much is due to pre-training; --compare=FILE adds its scores to this report:",
      f"saip evaluate --checkpoint=random:{backbone} --task=reid --data=people --json >> FILE",
    )
  return html


def _curves_html(runs: Sequence[Run]) -> str:
  with_curves = [run for run in runs if run.series]
  if not with_curves:
    return page.missing(
      "There are no records yet (metrics.jsonl); the same command continues the run:",
      f"saip pretrain --config=... --workdir={runs[0].place}",
    )
  return (
    f"<p>{page.escape(smoothing(with_curves))} The number above a curve is its last point, or the one under the "
    f'pointer; the horizontal axis counts updates.</p><div class="curves">{_legend(runs, lambda run: run.series)}'
    f"{curves_html(runs)}</div>"
  )


def _legend(runs: Sequence[Run], shown: Callable[[Run], Any]) -> str:
  """Returns the legend of the shown runs; empty if the report is about one run."""
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
        else page.details(f"First panel, step {first_step:,}", _panel_html(first, f"{kind}, step {first_step}"))
      )
    except OSError as error:
      html += page.missing(f"The panel cannot be read: {error}")
  return html or page.missing(
    "There are no panels of reconstructions, searches or views; a run draws them every N updates with:",
    f"saip pretrain --config=... --workdir={run.place} --config.panel_every=N",
  )


def _panel_html(path: pathlib.Path, name: str) -> str:
  return f'<div class="wide"><img class="panel" src="{panel_uri(path)}" alt="{page.escape(name)}"></div>'


def _encoder_html(run: Run, newest: int | None, data) -> str:
  if newest is None:
    return page.missing(
      "There is no complete checkpoint yet to draw the features of; the run writes one every "
      f"{run.settings.get('checkpoint_every', 'few')} updates:",
      f"saip pretrain --config=... --workdir={run.place}",
    )
  # imports jax: takes seconds
  from saip_jax.interop.weights import load_backbone
  from saip_jax.reporting.encoder_pictures import choose_images, encoder_html

  images = choose_images(data)
  try:
    backbone = load_backbone(run.path / CHECKPOINTS / str(newest))
  except ValueError as error:
    print(f"report: the newest checkpoint cannot be used: {error}", file=sys.stderr)
    return page.missing(f"The newest checkpoint cannot be used: {error}")
  return (
    f"<p>The student of step {newest:,} on images of {page.escape(images.name)}, resized to "
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
    html = page.details(f"{len(rows)} settings differ", page.table(header, rows), opened=len(rows) <= _OPEN_ROWS)
    html = html if rows else page.missing("No setting differs.")
  text = json.dumps(runs[0].config, indent=2, ensure_ascii=False)
  return html + page.details("All settings of this run", f"<pre>{page.escape(text)}</pre>")
