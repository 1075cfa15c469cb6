"""Renders a set of built-in people to disk: deterministic, resumable, never half a set that looks whole."""

import contextlib
import fcntl
import functools
import itertools
import json
import multiprocessing
import os
import pathlib
from collections.abc import Iterable, Iterator

import cv2
from tqdm import tqdm

from input_pipeline.people.records import (FORMAT, META, file_digest, pack_record, shard_ranges, write_json,
                                           write_shard)
from input_pipeline.people.render import RENDERER_VERSION, render_person

# Written first, turned into META last: says which set an unfinished folder was going to be.
_PARTIAL = "meta.partial.json"
_JPEG_QUALITY = 92
_IMAGES_PER_IDENTITY = 8
_MIN_HW = (32, 16)


def prepare_people(out_dir: str | os.PathLike, count: int, image_hw: tuple[int, int], seed: int,
                   progress: bool = True, processes: int | None = None) -> pathlib.Path:
  """Renders `count` pictures into `out_dir`, or goes on where an earlier call stopped.

  Shards appear under their name when whole and `meta.json` comes last, so a folder without it is unfinished; calling
  again renders the missing shards alone, and the result is the same to the byte. A whole set is used as it is.

  Args:
    out_dir: the folder; made if missing.
    count: pictures; one identity for every eight.
    image_hw: size of a picture in pixels.
    seed: which endless set they are the start of.
    progress: a progress bar, if standard error is a terminal.
    processes: rendering processes, which change nothing but the speed; None: one per core, at most 8.

  Returns:
    `out_dir`.

  Raises:
    ValueError: impossible numbers, a folder that holds something else, or one that cannot be written.
  """
  spec = _spec(count, image_hw, seed)
  out = pathlib.Path(out_dir).expanduser()
  try:
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):
      _check_holds_nothing_else(out, spec)
      missing = {name: numbers for name, numbers in shard_ranges(count).items() if not (out / name).exists()}
      if missing or not (out / META).exists():
        write_json(out / _PARTIAL, spec)
        _render_shards(out, missing, spec, progress, processes or min(os.cpu_count() or 1, 8))
        shards = {name: {"records": len(numbers), "bytes": (out / name).stat().st_size,
                         "sha256": file_digest(out / name)} for name, numbers in shard_ranges(count).items()}
        write_json(out / META, spec | {"shards": shards})
        (out / _PARTIAL).unlink()
  except OSError as error:
    raise ValueError(f"--out={out_dir}: cannot be written ({error.strerror or error}); choose another folder or make "
                     "room") from error
  return out


def unfinished(path: pathlib.Path) -> bool:
  """Whether a folder is a set that an interrupted call left unfinished."""
  return (path / _PARTIAL).exists()


def _spec(count: int, image_hw: tuple[int, int], seed: int) -> dict:
  if count < 1:
    raise ValueError(f"count={count}: a set of people needs at least 1 picture")
  if len(image_hw) != 2 or any(n < least for n, least in zip(image_hw, _MIN_HW)) or max(image_hw) > 4096:
    raise ValueError(f"image_hw={'x'.join(map(str, image_hw))} is impossible; expected HEIGHTxWIDTH of at least "
                     f"{_MIN_HW[0]}x{_MIN_HW[1]} and at most 4096 each, e.g. 256x128")
  if seed < 0:
    raise ValueError(f"seed={seed}: expected 0 or more")
  return {"format": FORMAT, "renderer": RENDERER_VERSION, "count": count, "image_hw": list(image_hw), "seed": seed,
          "identities": -(-count // _IMAGES_PER_IDENTITY)}


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
  """One writer at a time, e.g. several hosts that share a cache; a killed writer's lock goes with it."""
  handle = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield
  finally:
    os.close(handle)


def _check_holds_nothing_else(out: pathlib.Path, spec: dict) -> None:
  for name in (META, _PARTIAL):
    if (out / name).exists():
      found = json.loads((out / name).read_text())
      different = [f"{key} {found.get(key)} there, {value} asked for" for key, value in spec.items()
                   if found.get(key) != value]
      if different:
        raise ValueError(f"--out={out} holds a different set of people ({'; '.join(different)}); "
                         "choose another folder or delete this one")
      return
  strangers = [entry.name for entry in itertools.islice(out.iterdir(), 3)]
  if strangers:
    raise ValueError(f"--out={out} is not empty and holds no set of people (found {', '.join(sorted(strangers))}); "
                     "choose another folder")


def _render_shards(out: pathlib.Path, shards: dict[str, range], spec: dict, progress: bool, processes: int) -> None:
  total = sum(map(len, shards.values()))
  # disable=None: quiet unless standard error is a terminal
  with tqdm(total=total, desc="rendering people", unit=" images", disable=None if progress else True) as bar:
    with _records(itertools.chain.from_iterable(shards.values()), spec, processes if total > 64 else 1) as records:
      for name, numbers in shards.items():
        write_shard(out / name, _counted(itertools.islice(records, len(numbers)), bar))


def _counted(items: Iterable, bar: tqdm) -> Iterator:
  for item in items:
    yield item
    bar.update()


@contextlib.contextmanager
def _records(numbers: Iterable[int], spec: dict, processes: int) -> Iterator[Iterator[bytes]]:
  """The records of these pictures, in order."""
  render = functools.partial(_render_record, spec)
  if processes == 1:
    yield map(render, numbers)
  else:
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
      yield pool.imap(render, numbers, chunksize=8)


def _render_record(spec: dict, index: int) -> bytes:
  person = render_person(spec["seed"], index, tuple(spec["image_hw"]), spec["identities"])
  encoded, jpeg = cv2.imencode(".jpg", person.image_u8[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
  assert encoded
  return pack_record({"index": index, "identity": person.identity}, jpeg.tobytes())
