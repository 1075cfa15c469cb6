"""Converts any source to a set of ArrayRecord shards, in several processes or under Beam; can resume."""

import collections
import dataclasses
import json
import os
import shutil

import numpy as np

from input_pipeline import storage
from input_pipeline.decode import DamagedImage
from input_pipeline.names import ESCAPED, shown
from input_pipeline.prepare.run import run_in_processes, run_under_beam
from input_pipeline.prepare.shard import PrepareRequest, make_record, open_request, shard_name, sidecar_name
from input_pipeline.prepared import META, PARTIAL, check_holds_nothing_else, entries, one_writer, read_meta, write_json
from input_pipeline.records import encode_record
from input_pipeline.source import ImageSource, count_left_out
from input_pipeline.sources.containers.array_record import PREPARED_FORMAT

SHARD_BYTES = 256 * 10**6

LEFT_OUT = "left_out.txt"

# Number of images that the mean size of a record is measured on.
_MEASURED_IMAGES = 64

_RECORD_FORMAT = {
  "record": "uint32 little endian n | n bytes of JSON | the files that its `files` lists with their sizes",
  "image.*": "the image; ppm: pixels that need no decoding",
  "pixels": "x right, y down, measured from the image's edge: the center of the top left pixel is (0.5, 0.5)",
  "keypoints": "x, y in pixels; v: 0 unknown or outside, 1 hidden, 2 visible; names in legend.joints",
  "box": "x, y, width, height in pixels",
  "depth.png": "16 bits, millimeters along the camera's axis, 0 if unknown",
  "instances.png": "8 bits, 0 background, k people[k - 1]",
  "partner.*": "the other image of a pair; `pair` is the kind of pair",
  "carried": "number of records with each of these facts and files",
}


def prepare_dataset(
  request: PrepareRequest,
  out: str | os.PathLike,
  *,
  processes: int | None = None,
  runner: str | None = None,
  runner_options: str = "",
  progress: bool = True,
) -> dict:
  """Writes a set into `out`, or continues where an earlier call stopped.

  Each shard is a pure function of the request and its number, and gets its name when it is complete. The manifest,
  meta.json, is written last, so a folder without it is unfinished. Another call writes only the missing shards, and
  the result is the same to the byte for any number of processes. Images that cannot be decoded are left out, counted
  and listed in left_out.txt.

  Args:
    request: the source and the conversion.
    out: the folder, made if missing, or a URL.
    processes: number of processes, which changes only the speed; None for one per core, at most 8.
    runner: a Beam runner to use instead, e.g. DirectRunner or DataflowRunner; None for processes of this machine.
    runner_options: options of Beam, as on its command line.
    progress: show a progress bar if standard error is a terminal.

  Returns:
    The manifest, as in meta.json.

  Raises:
    ValueError: an unusable source or request, a folder that holds something else or is not writable, or no usable
      image.
  """
  out = storage.normalized(out)
  open_request.cache_clear()  # the data may have changed since it was last opened
  source = open_request(request)
  with storage.writing(out, "--out=", "choose another folder or make room"):
    per_shard = _images_per_shard(request, source)
    shards = -(-len(source) // per_shard)
    wanted = {"format": PREPARED_FORMAT, "source": source.identity, **_options(request), "images_per_shard": per_shard}
    if not storage.is_remote(out):
      os.makedirs(out, exist_ok=True)
    with one_writer(out):
      check_holds_nothing_else(out, wanted, "prepared set")
      if not storage.exists(f"{out}/{META}"):
        write_json(f"{out}/{PARTIAL}", wanted)
        names = [shard_name(number, shards) for number in range(shards)]
        missing = [k for k, name in enumerate(names) if not storage.exists(f"{out}/{sidecar_name(name)}")]
        jobs = (request, out, per_shard, shards)
        if runner:
          run_under_beam(jobs, missing, runner, runner_options)
        else:
          images = sum(len(range(k * per_shard, min((k + 1) * per_shard, len(source)))) for k in missing)
          run_in_processes(jobs, missing, images, processes or min(os.cpu_count() or 1, 8), progress)
        _write_manifest(out, wanted, source, names)
      _remove_notes(out)
  return read_meta(f"{out}/{META}")


def needed_bytes(request: PrepareRequest) -> int:
  """Returns the approximate size of the set of a request, in bytes."""
  source = open_request(request)
  return int(_record_bytes(request, source) * len(source))


def _options(request: PrepareRequest) -> dict:
  """Returns the options of a request that change the records; the location of the source does not."""
  options = json.loads(json.dumps(dataclasses.asdict(request)))  # tuples as JSON has them
  options |= options.pop("side_files")
  return {key: value for key, value in options.items() if key not in ("source", "path", "subset")}


def _images_per_shard(request: PrepareRequest, source: ImageSource) -> int:
  return max(1, round(SHARD_BYTES / _record_bytes(request, source)))


def _record_bytes(request: PrepareRequest, source: ImageSource) -> float:
  """Returns the mean size in bytes of records that are spread evenly over the source."""
  sizes, reason = [], None
  for i in np.linspace(0, len(source) - 1, min(_MEASURED_IMAGES, len(source))).astype(int):
    try:
      sizes.append(len(encode_record(*make_record(request, source, int(i)))))
    except (DamagedImage, OSError) as error:
      reason = reason or f"{source.name(int(i))}: {error}"
  if not sizes:
    raise ValueError(
      f"--path={request.path}: none of {min(_MEASURED_IMAGES, len(source))} images tried is usable; first: {reason}"
    )
  return float(np.mean(sizes))


def _write_manifest(out: str, wanted: dict, source: ImageSource, names: list[str]) -> None:
  notes = {name: json.loads(storage.read_file(f"{out}/{sidecar_name(name)}")) for name in names}
  shards = {name: note["shard"] for name, note in notes.items() if note["shard"]["records"]}
  if not shards:
    raise ValueError(f"--out={out}: none of the {len(source)} images is usable")
  for name in names:
    if name not in shards:  # all its images are damaged
      storage.remove(f"{out}/{name}")
  left_out = [*source.left_out, *(item for note in notes.values() for item in note["left_out"])]
  lines = "".join(f"{shown(name)}: {reason}\n" for name, reason in left_out)
  storage.write_file(f"{out}/{LEFT_OUT}", lines.encode("utf-8", ESCAPED))
  carried = sum((collections.Counter(note["carried"]) for note in notes.values()), collections.Counter())
  write_json(
    f"{out}/{META}",
    wanted
    | {
      "count": sum(shard["records"] for shard in shards.values()),
      "left_out": count_left_out(left_out),
      "carried": dict(carried),
      "legend": source.legend,
      "categories": source.categories,
      "in words": _RECORD_FORMAT,
      "shards": shards,
    },
  )


def _remove_notes(out: str) -> None:
  """Removes the files that a set with a manifest no longer needs, also those that an earlier call left."""
  for name in list(entries(out)):
    if name.endswith((sidecar_name(".array_record"), ".unfinished")) or name == PARTIAL:
      storage.remove(f"{out}/{name}")


def room_for(path: str) -> int:
  """Returns the free bytes of the disk of a folder, which need not exist."""
  while not os.path.exists(path):
    path = os.path.dirname(path)
  return shutil.disk_usage(path).free
