"""Measures how the cost of training grows: python scripts/bench_scaling.py --out=results/scaling

Steps of `saip_nano` on random images, with batch, image size, prototypes, local crops and processes; and the input side
with the size of the data set, on an index of made-up names whose images are all the same few bytes.

Each point is measured in processes of its own and is one JSON file in --out; a point that has its file is not measured
again. --only=step_,index_ selects points by the start of their names, --seconds bounds a call: no point starts later.
The page (OUT.md) and its plots are made from all files that are there; --page makes them without measuring. Only times
of a machine without other work mean something: every record has the load when it began.
"""

import argparse
import concurrent.futures
import contextlib
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

REPO = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))
from scaling_page import Curve, write_page  # noqa: E402

# Compiling takes longer than all steps of a point; these flags shorten it. The records name them.
COMPILER_FLAGS = "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"
STEP = {"batch": 8, "height": 64, "prototypes": 256, "local_crops": 2, "processes": 1}
STEPS = {  # what grows -> its values; everything else is as in STEP
  "batch": (4, 8, 16, 32),
  "height": (64, 128, 192, 256),
  "prototypes": (256, 4096, 16384, 65536),
  "local_crops": (2, 4, 8, 16),
  "processes": (1, 2, 4),
}
IMAGES = (10_000, 30_000, 100_000, 1_000_000, 10_000_000)
PICTURES_OF_PERSON = 20  # of the balanced order
INTRODUCTION = (
  "Made by `scripts/bench_scaling.py` from the records in `scaling/`; no figure here is typed. Steps are those of"
  f" `saip_nano` with {', '.join(f'{name} {value}' for name, value in STEP.items())} where nothing else is said; images"
  " are twice as high as wide. Processes share one machine and one batch, so that more of them add communication and no"
  " cores. The data set is an index of made-up names; its images are the same few bytes, so that reading and decoding"
  " do not count. Fits use the least of the repetitions of each point, as other work only adds to it: of wall time, or"
  " of processor time where other work ran. The exponent is that of a power law over the larger half of the points, at"
  " least three; within 0.1 of 1 it counts as linear. The line"
  " has the least relative errors over all points."
)
BATCH, BATCHES, READS = 64, 20, 20_000  # of the input side: images per batch, batches and reads per repetition

_STEP = "the time of a step"
_INDEX = [  # quantity, by what it is divided, what it is
  ("build", 1, "s", "the time to make an index from a list of names"),
  ("build_memory", 1, "mb", "the peak memory of making an index"),
  ("open", 1, "s", "the time to open an index"),
  ("access", READS, "s", "the time of one random access"),
  ("first_batch", 1, "s", "the time from an open index to the first batch"),
  ("batches", BATCHES, "s", f"the time of a batch of {BATCH} shuffled images"),
  ("read_memory", 1, "mb", "the peak memory of the process that reads"),
  ("balanced", 1, "s", "the time to make the order balanced by persons"),
]
CURVES = [
  Curve("step", "batch", "step", "images per update", _STEP, lambda s: s["batch"]),
  Curve("step", "height", "step", "pixels per image", _STEP, lambda s: s["height"] * s["height"] // 2),
  Curve("step", "prototypes", "step", "prototypes", _STEP, lambda s: s["prototypes"]),
  Curve("step", "local_crops", "step", "local crops", _STEP, lambda s: s["local_crops"]),
  Curve("step", "processes", "step", "processes that share a batch", _STEP, lambda s: s["processes"]),
  *[
    Curve("index", "images", quantity, "images in the data set", y_name, lambda s: s["images"], per, measure)
    for quantity, per, measure, y_name in _INDEX
  ],
]


def points() -> dict[str, dict]:
  """Returns the settings of every point by its name; curves share the points that they have in common."""
  steps = [STEP | {name: value} for name, values in STEPS.items() for value in values]
  named = {"step_" + "_".join(f"{name}{value}" for name, value in s.items()): {"kind": "step"} | s for s in steps}
  return named | {f"index_images{n}": {"kind": "index", "images": n} for n in IMAGES}


def clocked(work: Callable, repetitions: int) -> list[dict[str, float]]:
  """Returns seconds, and processor seconds of this process, of each repetition."""
  found = []
  for _ in range(repetitions):
    wall, processor = time.perf_counter(), time.process_time()
    work()
    found.append({"s": round(time.perf_counter() - wall, 7), "cpu_s": round(time.process_time() - processor, 7)})
  return found


def measure_step(settings: dict, repetitions: int, address: str, process: int) -> dict[str, list]:
  """Returns the repetitions of one training step; one of the processes that share the batch."""
  os.environ["XLA_FLAGS"] = COMPILER_FLAGS
  from saip_jax.host_memory import keep_freed_memory

  keep_freed_memory()  # as `saip pretrain`
  import jax
  from bench_step import compiled, random_batch, step_and_state

  from saip_jax.recipes import apply_overrides, load_recipe, parse_config
  from saip_jax.training.distributed import barrier, initialize
  from saip_jax.training.mesh import make_mesh, options_of_one_run, replicated, shard_batch

  processes, height = settings["processes"], settings["height"]
  if processes > 1:
    initialize(address, processes, process, timeout_s=120)
  overrides = {
    "batch_size": settings["batch"],
    "unroll": False,  # compiles in two thirds of the time
    "model.image_hw": (height, height // 2),
    "data.canvas_hw": (2 * height, height),
    "data.scene_canvas_hw": (2 * height, 2 * height),
    "method.css.scene_size": 56 * height // 64,
    "method.csm.prototypes": settings["prototypes"],
    "method.local_crops": settings["local_crops"],
  }
  recipe = load_recipe(REPO / "configs" / "saip_nano.py")
  config = parse_config(apply_overrides(recipe, [f"--config.{name}={value}" for name, value in overrides.items()]))
  mesh = make_mesh()
  method, step, init = step_and_state(config)
  once = options_of_one_run(mesh.devices.flat[0].platform)
  state = jax.jit(init, out_shardings=replicated(mesh), compiler_options=once)()
  batch = shard_batch(mesh, random_batch(method, config.batch_size // processes))
  run = compiled(step, state, batch)
  barrier("compiled")  # a collective waits only 30 s
  run()
  return {"step": clocked(run, repetitions)}


def made_up_index(folder: str, images: int):
  """Returns an index of made-up names: that of an earlier call with the same folder if there is one."""
  from input_pipeline.sources.index import cached_index

  def build():
    return {}, {"name": [b"%03d/%08d.jpg" % (i % 1000, i) for i in range(images)]}, {"size": np.arange(images)}

  return cached_index(folder, "made_up", "made-up", lambda header: True, build)


def build_index(settings: dict, folder: str) -> dict[str, list]:
  """Returns what making the index takes, once a list of the files is there."""
  return {"build": clocked(lambda: made_up_index(folder, settings["images"]), 1), "build_memory": peak()}


def read_index(settings: dict, repetitions: int, folder: str) -> dict[str, list]:
  """Returns what opening the index, random access and ordered batches take in a new process."""
  import cv2

  from input_pipeline.pipeline import TrainData
  from input_pipeline.settings import DataConfig
  from input_pipeline.source import ImageSource

  picture = cv2.imencode(".png", np.full((8, 4, 3), 128, np.uint8))[1].tobytes()

  class MadeUp(ImageSource):
    def __init__(self, index):
      self._index = index
      self.identity = {"source": "made-up", "name": "", "length": len(index), "digest": index.header["digest"]}

    def __len__(self):
      return len(self._index)

    def read(self, i):
      self._index.text("name", i)  # as a folder does before it opens the file
      return picture

    def name(self, i):
      return self._index.text("name", i).decode()

  found = {"open": clocked(lambda: made_up_index(folder, settings["images"]), repetitions)}
  index = made_up_index(folder, settings["images"])
  rows = np.random.default_rng(0).integers(0, len(index), READS).tolist()
  found["access"] = clocked(lambda: [index.text("name", i) for i in rows], repetitions)
  data_settings = DataConfig(source="folder", canvas_hw=(16, 8), scene_canvas_hw=(16, 16), threads=1)
  source = MadeUp(index)

  def train_data():
    return TrainData(source, None, data_settings, fields=("image", "scene"), batch_size=BATCH, seed=0)

  def first_batch():
    with contextlib.closing(train_data().batches(start_step=1000)) as batches:
      next(batches)

  found["first_batch"] = clocked(first_batch, repetitions)
  batches = train_data().batches()
  next(batches)
  found["batches"] = clocked(lambda: [next(batches) for _ in range(BATCHES)], repetitions)
  batches.close()
  return found | {"read_memory": peak()}


def order_persons(settings: dict, repetitions: int) -> dict[str, list]:
  """Returns what it takes to make the balanced order of images of numbered persons and to draw its first images."""
  from input_pipeline.orders import balanced

  numbers = np.random.default_rng(0).permutation(np.arange(settings["images"]) // PICTURES_OF_PERSON + 1)
  return {"balanced": clocked(lambda: balanced(numbers, 4, 0)[:BATCH], repetitions)}


def peak() -> list[dict[str, float]]:
  """Returns the largest resident memory of this process so far, MB."""
  import resource

  return [{"mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)}]


def in_processes(function: Callable, arguments: Sequence[tuple]) -> list:
  """Calls a function in one new process for each tuple of arguments, all at once; returns the results."""
  with concurrent.futures.ProcessPoolExecutor(len(arguments), multiprocessing.get_context("spawn")) as pool:
    return [future.result() for future in [pool.submit(function, *given) for given in arguments]]


def measure(settings: dict, repetitions: int) -> dict[str, list]:
  """Measures one point: quantity -> the repetitions."""
  if settings["kind"] == "step":
    with socket.socket() as s:
      s.bind(("127.0.0.1", 0))
      address = f"127.0.0.1:{s.getsockname()[1]}"
    given = [(settings, repetitions, address, process) for process in range(settings["processes"])]
    together = zip(*(found["step"] for found in in_processes(measure_step, given)))  # one repetition of all
    return {"step": [{"s": max(r["s"] for r in rs), "cpu_s": sum(r["cpu_s"] for r in rs)} for rs in together]}
  with tempfile.TemporaryDirectory() as folder:
    [found] = in_processes(build_index, [(settings, folder)])
    found |= in_processes(read_index, [(settings, repetitions, folder)])[0]
  return found | in_processes(order_persons, [(settings, 3)])[0]


def complete(named: dict[str, dict], out: pathlib.Path, measure_point: Callable, seconds: float = float("inf")) -> None:
  """Measures the points that have no record yet; each record is written whole.

  Args:
    named: name -> settings.
    out: the folder of records.
    measure_point: settings -> quantity -> repetitions.
    seconds: after so long no further point is started.
  """
  out.mkdir(parents=True, exist_ok=True)
  started = time.monotonic()
  for name, settings in named.items():
    path = out / f"{name}.json"
    if path.exists() or time.monotonic() - started > seconds:
      continue
    load, began = os.getloadavg()[0], time.monotonic()
    record = {
      "settings": settings,
      "load_average": round(load, 2),
      "cores": len(os.sched_getaffinity(0)),
      "machine": platform.machine(),
      "python": platform.python_version(),
      "versions": {p: importlib.metadata.version(p) for p in ("jax", "jaxlib", "flax", "grain", "numpy")},
      "compiler_flags": COMPILER_FLAGS if settings["kind"] == "step" else "",
      "quantities": measure_point(settings),
    }
    record["whole_point_s"] = round(time.monotonic() - began, 1)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(path)
    print(f"{name}: {record['whole_point_s']} s", flush=True)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", type=pathlib.Path, default=REPO / "results" / "scaling")
  parser.add_argument("--only", default="", help="starts of the names of points, separated by commas")
  parser.add_argument("--seconds", type=float, default=float("inf"), help="start no point after so long")
  parser.add_argument("--repetitions", type=int, default=7)
  parser.add_argument("--page", action="store_true", help="measure nothing")
  args = parser.parse_args()
  chosen = {name: s for name, s in points().items() if not args.page and name.startswith(tuple(args.only.split(",")))}
  complete(chosen, args.out, lambda settings: measure(settings, args.repetitions), args.seconds)
  write_page(args.out, CURVES, STEP, INTRODUCTION)


if __name__ == "__main__":
  main()
