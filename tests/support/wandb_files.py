"""Reads the files of Weights & Biases: records of its own format, in the frames of LevelDB's log."""

import json
import pathlib
import time
import zlib
from typing import Any

_HEADER, _BLOCK, _FRAME = 7, 2**15, 7  # bytes
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_frames(path) -> list[bytes]:
  """Returns the content of each whole record of a .wandb file, checksums verified; a cut end is left out."""
  data, at, records, parts = pathlib.Path(path).read_bytes(), _HEADER, [], b""
  assert data[:4] == b":W&B"
  while at + _FRAME <= len(data):
    if _BLOCK - at % _BLOCK < _FRAME:
      at += _BLOCK - at % _BLOCK
      continue
    checksum, length, kind = (
      int.from_bytes(data[at : at + 4], "little"),
      data[at + 4] + 256 * data[at + 5],
      data[at + 6],
    )
    part = data[at + _FRAME : at + _FRAME + length]
    if len(part) < length:
      break
    assert zlib.crc32(data[at + 6 : at + 7] + part) == checksum, f"{path} is damaged at {at}"
    parts = part if kind in (_FULL, _FIRST) else parts + part
    if kind in (_FULL, _LAST):
      records.append(parts)
    at += _FRAME + length
  return records


def read_offline_runs(workdir) -> list[dict[str, Any]]:
  """Returns what each start of a run has left for `wandb sync`, the first start first.

  The service of wandb completes its files after `finish`: this waits for the record of the end in each.

  Returns:
    A dict for each start: `id`, `project`, `config`, `history` (rows with "_step"), `summary`, `exit_status`.
  """
  deadline = time.monotonic() + 30
  while True:
    files = sorted(pathlib.Path(workdir).glob("wandb/offline-run-*/run-*.wandb"))
    runs = [_read_run(path) for path in files]
    if all(run["exit_status"] is not None for run in runs) or time.monotonic() > deadline:
      return runs
    time.sleep(0.1)


def _read_run(path) -> dict[str, Any]:
  from wandb.proto.wandb_internal_pb2 import Record

  run = {"id": None, "project": None, "config": {}, "history": [], "summary": {}, "exit_status": None}
  for frame in read_frames(path):
    record = Record.FromString(frame)
    if record.HasField("run"):
      run |= {"id": record.run.run_id, "project": record.run.project}
      run["config"] |= _items(record.run.config.update)
    elif record.HasField("config"):
      run["config"] |= _items(record.config.update)
    elif record.HasField("history"):
      run["history"].append(_items(record.history.item) | {"_step": record.history.step.num})
    elif record.HasField("summary"):
      run["summary"] |= _items(record.summary.update)
    elif record.HasField("exit"):
      run["exit_status"] = record.exit.exit_code
  return run


def _items(items) -> dict[str, Any]:
  return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
