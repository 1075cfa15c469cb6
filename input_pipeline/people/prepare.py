"""Renders a set of built-in people to disk: deterministic, resumable, and never a partial set that looks complete."""

import contextlib
import functools
import itertools
import multiprocessing
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator

import cv2
from tqdm import tqdm

from input_pipeline import storage
from input_pipeline.people.compositions import render_picture
from input_pipeline.people.description import describe_set, identify_set
from input_pipeline.people.export import PEOPLE_EXPORTS
from input_pipeline.people.picture import Picture
from input_pipeline.people.records import encode_picture, read_shards, shard_ranges
from input_pipeline.people.spec import IMAGES_PER_IDENTITY, LEAST_SCENE_IDENTITIES, SetSpec, group_size
from input_pipeline.prepared import META, PARTIAL, check_holds_nothing_else, one_writer, write_json
from input_pipeline.processes import ignoring_interrupts
from input_pipeline.shards import file_digest, write_shard

# Folders of an unfinished export: all of it; its complete files, renamed at once; its files while they are written.
_WORK, _ASSEMBLED, _HALF_ASSEMBLED = "unfinished", "whole", "half"

# A smaller number of images is rendered before the first process has started.
_FEWEST_FOR_PROCESSES = 32


def default_identities(composition: str, count: int) -> int:
  """Returns the number of different persons in a set of `count` images, if unspecified."""
  if composition == "scenes":
    return max(LEAST_SCENE_IDENTITIES, count)
  return max(1, -(-count // IMAGES_PER_IDENTITY))


def usual_spec(
  count: int,
  export: str | None = None,
  composition: str | None = None,
  image_hw: tuple[int, int] | None = None,
  seed: int = 0,
  identities: int | None = None,
) -> SetSpec:
  """Returns the spec of a set of `count` images, with the usual values of unspecified settings.

  Args:
    count: number of images.
    export: a key of `EXPORTS` or None.
    composition: None means scenes for the export "coco", else crops.
    image_hw: size in pixels; None means 480x640 for scenes, else 256x128.
    seed: seed of the people.
    identities: number of different people; None means `default_identities`.
  """
  composition = composition or ("scenes" if export == "coco" else "crops")
  image_hw = image_hw or ((480, 640) if composition == "scenes" else (256, 128))
  return SetSpec(
    composition, image_hw, seed, default_identities(composition, count) if identities is None else identities
  )


def check_request(spec: SetSpec, count: int, export: str | None) -> None:
  """Checks that a set can be made.

  Args:
    spec: the endless set.
    count: number of its images.
    export: a key of `PEOPLE_EXPORTS` or None.

  Raises:
    ValueError: it cannot; one line that names the flag.
  """
  if count < 1:
    raise ValueError(f"--count={count}: a set of people needs at least 1 image")
  group = group_size(spec.composition)
  if count % group:
    raise ValueError(
      f"--count={count}: {spec.composition} come in groups of {group} images; expected a multiple, "
      f"e.g. {-(-count // group) * group}"
    )
  if export is not None and export not in PEOPLE_EXPORTS:
    raise ValueError(f"--export={export} is unknown; choose one of: {', '.join(PEOPLE_EXPORTS)}")
  if export and spec.composition not in PEOPLE_EXPORTS[export].compositions:
    raise ValueError(
      f"--export={export} cannot hold {spec.composition}; "
      f"expected --composition={'|'.join(PEOPLE_EXPORTS[export].compositions)}"
    )


def prepare_people(
  out_dir: str | os.PathLike,
  spec: SetSpec,
  count: int,
  export: str | None = None,
  progress: bool = True,
  processes: int | None = None,
) -> pathlib.Path:
  """Writes the first `count` images of a set into `out_dir`, or continues where an earlier call stopped.

  Images are rendered into shards, each of which gets its name when it is complete. `meta.json` is written last, so a
  folder without it is unfinished. A second call renders only the missing shards, and the result is the same to the
  byte. A complete set is used as it is. Without `export` the shards are the set; with it, the files of that format are
  written from them.

  Args:
    out_dir: the folder; made if missing.
    spec: the endless set.
    count: number of images; for views and clips a multiple of their groups.
    export: a key of `PEOPLE_EXPORTS`; None: the records that `data.source=people` reads.
    progress: shows a progress bar, if standard error is a terminal.
    processes: rendering processes, which affect the speed only; None: one per core, at most 8.

  Returns:
    `out_dir`.

  Raises:
    ValueError: impossible numbers, a folder that holds something else, or one that cannot be written.
  """
  check_request(spec, count, export)
  out = storage.local_path(out_dir, "--out")
  wanted = identify_set(spec, count, export)
  record_of = functools.partial(_render_record, PEOPLE_EXPORTS[export].encode if export else encode_picture, spec)

  def render_shards(folder: pathlib.Path) -> None:
    _render_shards(folder, count, record_of, progress, processes or min(os.cpu_count() or 1, 8))

  with storage.writing(out, "--out=", "choose another folder or make room"):
    out.mkdir(parents=True, exist_ok=True)
    with one_writer(str(out)):
      check_holds_nothing_else(str(out), wanted, "set of people")
      if not _is_complete(out, count, export):
        write_json(out / PARTIAL, wanted)
        meta = wanted | describe_set(spec, count)
        if export:
          _write_export(out, export, meta, render_shards)
        else:
          render_shards(out)
          write_json(out / META, meta | {"shards": _describe_shards(out, count)})
      if (out / PARTIAL).exists():
        shutil.rmtree(out / _WORK, ignore_errors=True)
        (out / PARTIAL).unlink()
  return out


def _is_complete(out: pathlib.Path, count: int, export: str | None) -> bool:
  return (out / META).exists() and (export is not None or all((out / name).exists() for name in shard_ranges(count)))


def _describe_shards(out: pathlib.Path, count: int) -> dict:
  return {
    name: {"records": len(numbers), "bytes": (out / name).stat().st_size, "sha256": file_digest(out / name)}
    for name, numbers in shard_ranges(count).items()
  }


def _write_export(out: pathlib.Path, export: str, meta: dict, render_shards: Callable[[pathlib.Path], None]) -> None:
  """Renders the shards, writes all files of the export in one folder, then moves them to their places."""
  assembled, half = out / _WORK / _ASSEMBLED, out / _WORK / _HALF_ASSEMBLED
  if not assembled.exists():
    (out / _WORK).mkdir(exist_ok=True)
    render_shards(out / _WORK)
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    written = PEOPLE_EXPORTS[export].write(read_shards(out / _WORK, meta["count"]), half)
    write_json(half / META, meta | written)
    os.replace(half, assembled)
  for name in (*PEOPLE_EXPORTS[export].folders, META):
    if (assembled / name).exists():  # else an earlier call has moved it
      os.replace(assembled / name, out / name)


def _render_shards(
  folder: pathlib.Path, count: int, record_of: Callable[[int], bytes], progress: bool, processes: int
) -> None:
  """Renders the shards that the folder lacks."""
  missing = {name: numbers for name, numbers in shard_ranges(count).items() if not (folder / name).exists()}
  left = sum(map(len, missing.values()))
  # disable=None: quiet unless standard error is a terminal
  with tqdm(
    total=count, initial=count - left, desc="rendering people", unit=" images", disable=None if progress else True
  ) as bar:
    with _rendered(
      record_of, itertools.chain.from_iterable(missing.values()), processes if left > _FEWEST_FOR_PROCESSES else 1
    ) as records:
      for name, numbers in missing.items():
        write_shard(folder / name, _with_progress(itertools.islice(records, len(numbers)), bar))


def _with_progress(items: Iterable, bar: tqdm) -> Iterator:
  for item in items:
    yield item
    bar.update()


@contextlib.contextmanager
def _rendered(record_of: Callable[[int], bytes], numbers: Iterable[int], processes: int) -> Iterator[Iterator[bytes]]:
  """Yields the records of these images, in order."""
  if processes == 1:
    yield map(record_of, numbers)
  else:
    with ignoring_interrupts():
      pool = multiprocessing.get_context("spawn").Pool(
        processes, cv2.setNumThreads, (1,)
      )  # one thread each: the processes use all cores
    with pool:
      yield pool.imap(record_of, numbers, chunksize=4)


def _render_record(encode: Callable[[Picture], bytes], spec: SetSpec, index: int) -> bytes:
  return encode(render_picture(spec, index))
