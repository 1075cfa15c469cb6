"""Measures the host side of training: images per second on one core, for every kind of data source.

    python scripts/bench_input.py                       # the table, on rendered images
    python scripts/bench_input.py --soak=20000          # also memory over 20,000 batches
    python scripts/bench_input.py --rate=2000           # also how long steps of 2,000 images/s wait for input

Crops are 64x128 JPEGs, as in pedestrian data sets, and the 256x128 images of the built-in people; scenes are 480x640
photos, prepared as for `data.scene_path`. "read" is bytes in random order, "decode" adds the canvas, "pipeline" is
whole batches with a scene for each image, by one thread on one core. Runs without jax. The last line is JSON.
"""

import argparse
import json
import os
import pathlib
import resource
import sys
import tarfile
import tempfile
import time
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import cv2
import lmdb
import numpy as np

from input_pipeline.decode import decode_into
from input_pipeline.people.compositions import render_picture
from input_pipeline.people.prepare import prepare_people
from input_pipeline.people.spec import SetSpec
from input_pipeline.pipeline import TrainData
from input_pipeline.prepare.prepare import prepare_dataset
from input_pipeline.prepare.shard import PrepareRequest
from input_pipeline.scenes import open_scenes
from input_pipeline.settings import DataConfig
from input_pipeline.source import ImageSource
from input_pipeline.sources.table import open_source

CANVAS_HW, SCENE_HW, CROP_HW, PHOTO_HW = (320, 160), (256, 256), (128, 64), (480, 640)
CROPS, COPIES, PEOPLE, PHOTOS, PHOTO_COPIES = 64, 64, 1024, 24, 43  # small sets shuffle slowly in Grain


def write_images(folder: pathlib.Path, spec: SetSpec, count: int, copies: int) -> str:
  """Renders images to JPEG files, each several times, so that shuffling has its usual cost; returns the folder."""
  folder.mkdir()
  for i in range(count):
    jpeg = cv2.imencode(".jpg", render_picture(spec, i).image_u8[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    for copy in range(copies):
      (folder / f"{copy:03d}_{i:03d}.jpg").write_bytes(jpeg.tobytes())
  return str(folder)


def open_kinds(folder: str, root: pathlib.Path) -> dict[str, ImageSource]:
  """Opens the images of a folder in every kind of source, and the built-in people: kind -> source."""
  files = sorted(pathlib.Path(folder).rglob("*.jpg"))
  with tarfile.open(root / "shard.tar", "w") as tar, zipfile.ZipFile(root / "shard.zip", "w") as archive:
    for file in files:
      tar.add(file, file.name)
      archive.write(file, file.name)
  with lmdb.open(str(root / "lmdb"), map_size=2**34) as database, database.begin(write=True) as transaction:
    for file in files:
      transaction.put(file.name.encode(), file.read_bytes())
  prepare_dataset(PrepareRequest("folder", folder), root / "records", progress=False)
  prepare_people(root / "people", SetSpec("crops", (256, 128), 0, PEOPLE // 8), PEOPLE, progress=False)
  places = {
    "folder": folder,
    "webdataset": root / "shard.tar",
    "zip": root / "shard.zip",
    "lmdb": root / "lmdb",
    "arrayrecord": root / "records",
    "people": root / "people",
  }
  return {kind: open_source(kind, place, cache_dir=root / "index") for kind, place in places.items()}


def per_second(work, seconds: float) -> float:
  """Returns how often `work(number)` is done in a second; the first call does not count."""
  work(0)
  done, start = 0, time.perf_counter()
  while time.perf_counter() - start < seconds:
    work(done + 1)
    done += 1
  return done / (time.perf_counter() - start)


def train_data(source: ImageSource, scenes: ImageSource | None, batch_size: int, threads: int = 1) -> TrainData:
  settings = DataConfig(source="folder", canvas_hw=CANVAS_HW, scene_canvas_hw=SCENE_HW, threads=threads)
  return TrainData(source, scenes, settings, fields=("image", "scene"), batch_size=batch_size, seed=0)


def measure(source: ImageSource, scenes: ImageSource | None, seconds: float, batch_size: int) -> dict[str, float]:
  """Returns images per second: of reading, with decoding, with the whole pipeline."""
  order = np.random.default_rng(0).permutation(len(source)).tolist()
  at = lambda number: source.read(order[number % len(order)])
  batches = train_data(source, scenes, batch_size).batches()
  speeds = {
    "read": per_second(at, seconds),
    "decode": per_second(lambda k: decode_into(at(k), np.zeros((*CANVAS_HW, 3), np.uint8)), seconds),
    "pipeline": per_second(lambda _: next(batches), seconds) * batch_size,
  }
  batches.close()
  return speeds


def soak(source: ImageSource, scenes: ImageSource, count: int, batch_size: int) -> list[float]:
  """Returns the resident memory in MB after each tenth of `count` batches."""
  batches = train_data(source, scenes, batch_size, threads=2).batches()
  memory = []
  for number in range(1, count + 1):
    next(batches)
    if number % max(1, count // 10) == 0:
      pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
      memory.append(pages * resource.getpagesize() / 1e6)
      print(f"  {number:7,} batches  {memory[-1]:8.1f} MB resident", flush=True)
  batches.close()
  return memory


def input_wait(source: ImageSource, scenes: ImageSource | None, rate: float, batch_size: int, seconds: float) -> float:
  """Returns the share of the time in which steps of `rate` images/s wait for their batch.

  The step itself leaves the cores idle.
  """
  batches = train_data(source, scenes, batch_size, threads=os.cpu_count() or 1).batches()
  next(batches)  # the start-up does not count
  step_s, waited, start = batch_size / rate, 0.0, time.perf_counter()
  steps = max(1, int(seconds / step_s))
  for _ in range(steps):
    requested = time.perf_counter()
    next(batches)
    waited += time.perf_counter() - requested
    time.sleep(step_s)
  batches.close()
  return waited / (time.perf_counter() - start)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--path", help="folder of JPEG crops; default: rendered crops")
  parser.add_argument("--seconds", type=float, default=3.0, help="how long each measurement runs")
  parser.add_argument("--batch-size", type=int, default=64)
  parser.add_argument("--soak", type=int, default=0, metavar="BATCHES", help="measure memory over this many batches")
  parser.add_argument("--rate", type=float, default=0, metavar="IMAGES_PER_S", help="measure the wait for input")
  args = parser.parse_args()
  cores = os.sched_getaffinity(0)
  with tempfile.TemporaryDirectory() as scratch:
    root = pathlib.Path(scratch)
    os.environ["SAIP_CACHE"] = str(root / "cache")
    folder = args.path or write_images(root / "crops", SetSpec("crops", CROP_HW, 0, CROPS), CROPS, COPIES)
    photos = write_images(root / "photos", SetSpec("scenes", PHOTO_HW, 0, 120), PHOTOS, PHOTO_COPIES)
    scenes, kinds = open_scenes(photos, SCENE_HW, root / "index"), open_kinds(folder, root)
    os.sched_setaffinity(0, {min(cores)})  # one core for everything, prefetching thread included
    result = {}
    print(f"{'images/s on one core':24}{'read':>10}{'decode':>10}{'pipeline':>10}")
    for kind, source in kinds.items():
      result[kind] = measure(source, scenes, args.seconds, args.batch_size)
      print(f"{kind:24}" + "".join(f"{speed:10,.0f}" for speed in result[kind].values()), flush=True)
    os.sched_setaffinity(0, cores)
    if args.rate:
      result["input_wait"] = input_wait(kinds["people"], scenes, args.rate, args.batch_size, 5 * args.seconds)
      print(f"built-in people, {args.rate:,.0f} images/s: {result['input_wait']:.2%} of the time waiting for input")
    if args.soak:
      result["resident_mb"] = soak(kinds["arrayrecord"], scenes, args.soak, args.batch_size)
  print(json.dumps({"benchmark": "input", "path": args.path} | result))


if __name__ == "__main__":
  main()
