"""Images per second of the host side on one core: decoding alone, and the whole pipeline with its scenes.

    python scripts/bench_input.py                # 64x128 crops of the built-in people, made for the occasion
    python scripts/bench_input.py --path=DIR     # the images of a folder

Runs without jax; without grain it measures decoding alone. The last line is JSON.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from input_pipeline.decode import decode_into  # noqa: E402
from input_pipeline.folder import FolderSource  # noqa: E402
from input_pipeline.people.compositions import render_picture  # noqa: E402
from input_pipeline.people.spec import SetSpec  # noqa: E402

CANVAS_HW, SCENE_HW, CROP_HW, CROPS, COPIES = (320, 160), (256, 256), (128, 64), 64, 64


def write_crops(folder: pathlib.Path) -> None:
  """Built-in people as JPEG files of the size of usual pedestrian crops, enough files for shuffling's usual cost."""
  for i in range(CROPS):
    image = render_picture(SetSpec("crops", CROP_HW, 0, CROPS), i).image_u8
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    for copy in range(COPIES):
      (folder / f"{copy:03d}_{i:03d}.jpg").write_bytes(jpeg)


def measure_decoding(source: FolderSource, seconds: float) -> float:
  """Read and decode into a fresh canvas, one image after the other: images per second of this core."""
  done, start = 0, time.perf_counter()
  while time.perf_counter() - start < seconds:
    decode_into(source.read(done % len(source)), np.zeros((*CANVAS_HW, 3), np.uint8))
    done += 1
  return done / (time.perf_counter() - start)


def measure_pipeline(path: str, scene_path: str | None, cache_dir: str, seconds: float,
                     batch_size: int) -> float | None:
  """Whole batches, each image with its scene, one decoding thread; None without grain."""
  try:
    from input_pipeline.pipeline import build_train_data
  except ModuleNotFoundError as error:
    if error.name != "grain":
      raise
    return None
  data = build_train_data(source="folder", path=path, scene_path=scene_path, cache_dir=cache_dir, canvas_hw=CANVAS_HW,
                          scene_canvas_hw=SCENE_HW, batch_size=batch_size, seed=0, workers=0, threads=1,
                          max_damaged_fraction=.01, people_count=1)
  batches = data.batches()
  next(batches)
  done, start = 0, time.perf_counter()
  while time.perf_counter() - start < seconds:
    done += len(next(batches)["image"])
  speed = done / (time.perf_counter() - start)
  batches.close()
  return speed


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--path", help="folder of images; default: generated crops")
  parser.add_argument("--scene-path", help="folder of scenes; default: other images of --path")
  parser.add_argument("--seconds", type=float, default=5., help="how long each measurement runs")
  parser.add_argument("--batch-size", type=int, default=64)
  args = parser.parse_args()
  if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core for everything, prefetching thread included
  with tempfile.TemporaryDirectory() as scratch:
    path = args.path
    if path is None:
      path = os.path.join(scratch, "crops")
      os.mkdir(path)
      write_crops(pathlib.Path(path))
    decoding = measure_decoding(FolderSource(path, scratch), args.seconds)
    pipeline = measure_pipeline(path, args.scene_path, scratch, args.seconds, args.batch_size)
  print(f"images                     {args.path or f'{CROP_HW[1]}x{CROP_HW[0]} JPEG crops, generated'}")
  print(f"read and decode            {decoding:8.0f} images/s on one core")
  print(f"whole pipeline with scenes {pipeline:8.0f} images/s on one core" if pipeline is not None else
        "whole pipeline with scenes not measured: grain is not installed")
  print(json.dumps({"benchmark": "input", "decode_images_per_s": round(decoding, 1),
                    "pipeline_images_per_s": pipeline and round(pipeline, 1), "path": args.path}))


if __name__ == "__main__":
  main()
