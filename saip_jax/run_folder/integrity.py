"""Finds the checkpoints of a run that are whole.

A killed save leaves no folder under its final name. A full disk, an interrupted copy or a broken machine may leave a
damaged one.
"""

import json
import pathlib
import sys
from collections.abc import Collection

import tensorstore as ts
from etils import epath

from input_pipeline.names import shown_error
from input_pipeline.storage import is_url, utf8_path
from saip_jax.run_folder.files import CHECKPOINTS, COMMITTED, FINGERPRINT, MODEL, MODEL_FILE, STATE

_FINGERPRINT, _METADATA, _MODEL = f"{FINGERPRINT}/metadata", f"{STATE}/_METADATA", f"{MODEL}/{MODEL_FILE}"
_READ_BY_WEIGHTS = ("params", "extra")


def checkpoint_steps(workdir) -> list[int]:
  """Returns the steps of the checkpoints of a run, whole or not, oldest first."""
  return steps_in(pathlib.Path(workdir) / CHECKPOINTS)


def steps_in(checkpoints: pathlib.Path | epath.Path) -> list[int]:
  """Returns the steps of the checkpoints in a folder, local or in a bucket, whole or not, oldest first."""
  names = [entry.name for entry in checkpoints.iterdir()] if checkpoints.is_dir() else []
  return sorted(int(name) for name in names if name.isdigit())


def newest_whole(
  checkpoints: pathlib.Path | epath.Path, parts: Collection[str] | None = _READ_BY_WEIGHTS
) -> tuple[int | None, list[str]]:
  """Returns the step of a run's newest whole checkpoint, and the damage of newer ones.

  Args:
    checkpoints: the folder of its checkpoints, local or in a bucket.
    parts: parts of the state that must be readable, as in `damage_of`.

  Returns:
    (step or None, one line for each newer checkpoint that is not whole, the newest first).
  """
  damaged: list[str] = []
  for step in reversed(steps_in(checkpoints)):
    path = checkpoints / str(step)
    reason = damage_of(path, parts)
    if reason is None:
      return step, damaged
    damaged.append(f"{path} holds no checkpoint that is whole: {reason}")
  return None, damaged


def newest_to_read(workdir) -> tuple[int, tuple[str, ...]]:
  """Returns the step of a run's newest whole checkpoint, to be read, and notes on newer ones that are damaged.

  Each damaged checkpoint that is passed over is reported in the notes and on standard error.

  Raises:
    ValueError: no checkpoint, or none that is whole.
  """
  step, damaged = newest_whole(pathlib.Path(workdir).absolute() / CHECKPOINTS)
  if step is None:
    raise ValueError("; ".join(damaged) or f"{workdir} holds no checkpoint yet")
  notes = tuple(f"{line}; step {step} is read instead" for line in damaged)
  for note in notes:
    print(f"warning: {note}", file=sys.stderr, flush=True)
  return step, notes


def damage_of(step_path, parts: Collection[str] | None = _READ_BY_WEIGHTS) -> str | None:
  """Returns why a checkpoint is not whole, or None; reads its arrays to the end, one after the other.

  Args:
    step_path: W/checkpoints/<step>, local or in a bucket.
    parts: names at the top of the state whose arrays are read, "params" and so on; None reads all.

  Raises:
    ValueError: a path that is no UTF-8.
  """
  path = step_path if is_url(step_path) else utf8_path(step_path, "checkpoint")
  described = [_MODEL] if (path / MODEL).exists() else []  # earlier versions wrote none
  missing = [name for name in (_METADATA, _FINGERPRINT, *described, COMMITTED) if not (path / name).exists()]
  if missing:
    return f"it has no {missing[0]}"
  for name in (_FINGERPRINT, *described, _METADATA):
    try:
      read_object(path / name)
    except (OSError, ValueError) as e:
      return f"its {name} cannot be read: {shown_error(e)}"
  base = kvstore(f"{path / STATE}/")
  for keys in _arrays(read_object(path / _METADATA), parts):
    name = ".".join(keys)
    try:
      store = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
      ts.open({"driver": "zarr", "kvstore": store}, open=True, read=True).result().read().result()
    except (OSError, ValueError, RuntimeError) as e:
      return f"its {name} cannot be read: {brief(e)}"
  return None


def kvstore(folder: str) -> dict[str, str]:
  """Returns TensorStore's spec of a folder, local or gs://."""
  if not is_url(folder):
    return {"driver": "file", "path": folder}
  bucket, _, key = folder.partition("://")[2].partition("/")
  return {"driver": "gcs", "bucket": bucket, "path": key}


def brief(error: BaseException) -> str:
  """Returns the message of an error of Orbax or TensorStore, shortened: the system's own message is at its end."""
  reason = shown_error(error).partition(" [tensorstore_spec=")[0]
  return reason if len(reason) <= 200 else f"{reason[:60]} ... {reason[-120:]}"


def read_object(path) -> dict:
  """Returns the object that a JSON file holds; raises OSError, or ValueError if it holds none."""
  content = json.loads(path.read_text("utf-8"))
  if not isinstance(content, dict):
    raise ValueError(f"it holds a {type(content).__name__}, no object")
  return content


def _arrays(metadata: dict, parts: Collection[str] | None) -> list[list[str]]:
  """Returns the path of each array of a state, read from Orbax's metadata."""
  leaves = metadata.get("tree_metadata", {}).values()
  paths = [
    [str(key["key"]) for key in leaf["key_metadata"]]
    for leaf in leaves
    if not leaf["value_metadata"]["skip_deserialize"]
  ]
  return [keys for keys in paths if parts is None or keys[0] in parts]
