"""The folder of a prepared set: shards, and a readable meta.json that is written last: with it the set is whole."""

import contextlib
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Iterator

from input_pipeline import storage
from input_pipeline.locks import lock
from input_pipeline.shards import Shards

META = "meta.json"
# Written first: the same facts, in a folder without META.
PARTIAL = "meta.partial.json"


def read_meta(path: str | os.PathLike) -> dict:
  """Returns the content of a set's JSON file; {} if there is none or it is no object."""
  try:
    content = json.loads(storage.read_file(os.fspath(path)))
  except (OSError, ValueError):
    return {}
  return content if isinstance(content, dict) else {}


def write_json(path: str | os.PathLike, content: dict) -> None:
  """Writes a readable JSON file, whole or not at all."""
  storage.write_file(os.fspath(path), (json.dumps(content, indent=2) + "\n").encode())


def is_unfinished(folder: str | os.PathLike) -> bool:
  """Whether a folder is a set that an interrupted call left unfinished."""
  return storage.exists(f"{folder}/{PARTIAL}") and not storage.exists(f"{folder}/{META}")


@contextlib.contextmanager
def one_writer(folder: str) -> Iterator[None]:
  """Lets one process at a time write a folder, e.g. of hosts that share a cache; the others print that they wait.

  Buckets have no locks: there, two writers write the same files.
  """
  if storage.is_remote(folder):
    yield
    return
  handle = os.open(folder, os.O_RDONLY)
  try:
    waiting = f"waiting for another process that writes {folder}"
    lock(handle, folder, lambda: print(waiting, file=sys.stderr, flush=True))
    yield
  finally:
    os.close(handle)


def check_holds_nothing_else(folder: str, wanted: dict, what: str) -> None:
  """Refuses a folder with another set, or with other files.

  Args:
    folder: path or URL.
    wanted: the facts that decide which set it is, with `format`.
    what: the name of such sets in errors, e.g. "set of people".

  Raises:
    ValueError: one line that names the differences.
  """
  found = read_meta(f"{folder}/{META}") or read_meta(f"{folder}/{PARTIAL}")
  if "format" in found:
    different = [
      f"{key} {found.get(key)} there, {value} asked for" for key, value in wanted.items() if found.get(key) != value
    ]
    if different:
      raise ValueError(
        f"--out={folder} holds a different {what} ({'; '.join(different)}); choose another folder or delete this one"
      )
    return
  # a kill may leave the file that was going to be PARTIAL
  strangers = [name for name in itertools.islice(entries(folder), 3) if not name.endswith(".unfinished")]
  if strangers:
    raise ValueError(
      f"--out={folder} is not empty and holds no {what} (found {', '.join(sorted(strangers))}); choose another folder"
    )


def entries(folder: str) -> Iterator[str]:
  """Yields the names in a folder, or below a URL."""
  if storage.is_remote(folder):
    yield from (name for name, _ in storage.list_files(folder))
  else:
    yield from os.listdir(folder)


def open_shards(folder: str, meta: dict, setting: str, command: str) -> Shards:
  """Opens the records of a set; raises ValueError, which names `setting`, if a shard is missing or not whole."""
  for name, shard in meta["shards"].items():
    try:
      whole = storage.stamp(f"{folder}/{name}")[0] == shard["bytes"]
    except OSError:
      whole = False
    if not whole:
      raise ValueError(
        f"{setting}={folder} lacks a whole {name}; delete that file and run the same `{command} --out=...` again"
      )
  return Shards(folder, list(meta["shards"]), [shard["records"] for shard in meta["shards"].values()])


def set_digest(meta: dict) -> str:
  """Returns the digest of the contents of all shards."""
  contents = "".join(shard["sha256"] for shard in meta["shards"].values())
  return hashlib.sha256(contents.encode()).hexdigest()[:16]
