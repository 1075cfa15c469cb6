"""Tables of the scores of encoders, side by side."""

import json
from collections.abc import Sequence
from typing import Any

from saip_jax.evaluation.evaluate import score_text
from saip_jax.evaluation.tasks import TASKS
from saip_jax.evaluation.tasks.base import FINETUNE_PROTOCOL, split_unit
from saip_jax.interop.history import shortened
from saip_jax.reporting.page import details, escape, facts, swatch, table
from saip_jax.reporting.runs import Run

_PARTS = ("train", "test", "query", "gallery")


def task_tables_html(runs: Sequence[Run]) -> str:
  """Returns a table for each task, protocol and data set, with a row for the newest record of each encoder.

  Args:
    runs: the runs, that of the report first.
  """
  tables: dict[tuple, dict[str, tuple[int, dict]]] = {}
  for i, run in enumerate(runs):
    for record in run.evaluations:
      rows = tables.setdefault(_measured(record), {})
      encoder = json.dumps([i, record["encoder"]], sort_keys=True)
      rows.pop(encoder, None)  # the newest record is last
      rows[encoder] = i, record
  order = {task: place for place, task in enumerate(TASKS)}
  keys = sorted(tables, key=lambda key: (order.get(key[0], len(order)), key[0], key[1] == FINETUNE_PROTOCOL, key))
  return "".join(_table(list(tables[key].values()), runs) for key in keys)


def _measured(record: dict[str, Any]) -> tuple[str, ...]:
  """Returns the key of comparable scores: task, protocol and data."""
  data = {part: record["facts"].get(part) for part in _PARTS}
  return record["task"], record["protocol"], json.dumps(data, sort_keys=True)


def _table(rows: list[tuple[int, dict]], runs: Sequence[Run]) -> str:
  records, several = [record for _, record in rows], len(runs) > 1
  newest, names = records[0], list({name: None for record in records for name in record["scores"]})
  encoders = [_encoder_name(record["encoder"], runs[i], several) for i, record in rows]
  task = TASKS[newest["task"]].summary if newest["task"] in TASKS else newest["task"]
  task += ", fine-tuned" * (newest["protocol"] == FINETUNE_PROTOCOL)
  data = [
    f"{part}: {size}{source.get('name', '')}"
    for part in _PARTS
    if isinstance(source := newest["facts"].get(part), dict)
    for size in [f"{source['length']:,} images of " if isinstance(source.get("length"), int) else ""]
  ]
  cells = [
    [(swatch(i) if several else "") + escape(encoder)]
    + [_score(name, record["scores"], headline=name == names[0]) for name in names]
    for encoder, (i, record) in zip(encoders, rows)
  ]
  how = "".join(
    (f"<h4>{escape(encoder)}</h4>" if len(records) > 1 else "") + _protocol_facts(record)
    for encoder, record in zip(encoders, records)
  )
  return (
    f'<h3>{escape(task[:1].upper() + task[1:])}</h3><p class="soft">protocol {escape(newest["protocol"])}; '
    f"{escape('; '.join(data))}</p>"
    + table(["encoder", *(escape(_title(name)) for name in names)], cells)
    + details("Protocol", how)
  )


def _score(name: str, scores: dict[str, float], headline: bool) -> str:
  if name not in scores:
    return "not measured"
  text = escape(score_text(name, scores[name]))
  return f"<b>{text}</b>" if headline else text


def _title(name: str) -> str:
  """Returns the name of a score for a table header, without its unit."""
  name, _ = split_unit(name)
  return name.replace("_", " ") if name.islower() else name


def _encoder_name(encoder: dict[str, Any], run: Run, several: bool) -> str:
  """Returns the name of an encoder; the run is named only if there are several, and without its path."""
  hw, (checkpoint, of_run, _) = encoder.get("image_hw"), encoder["checkpoint"].partition(" of the run ")
  if run.path is None or not of_run:
    checkpoint = shortened(encoder["checkpoint"])
  elif several:
    checkpoint = f"{run.name}, {checkpoint}"
  facts_shown = [
    encoder.get("which"),
    f"seed {encoder['seed']}" if "seed" in encoder else None,
    "x".join(map(str, hw)) if isinstance(hw, list) else None,
    "flip test" if encoder.get("flip_test") else None,
  ]
  return ", ".join([checkpoint, *(str(fact) for fact in facts_shown if fact)])


def _protocol_facts(record: dict[str, Any]) -> str:
  items = {key.replace("_", " "): _plain(value) for key, value in record["facts"].items()}
  for key in ("seconds", "time"):
    if key in record:
      items[key] = _plain(record[key])
  if record.get("left_out"):
    left_out = record["left_out"]
    items["left out"] = f"{len(left_out)} images that cannot be read, first: {left_out[0]}"
  return facts(items)


def _plain(value) -> str:
  if isinstance(value, dict):
    return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
  if isinstance(value, list):
    return ", ".join(map(_plain, value)) or "none"
  if isinstance(value, bool):
    return "yes" if value else "no"
  return f"{value:.4g}" if isinstance(value, float) else str(value)
