#!/usr/bin/env python3
"""Prints what exported encoders cost and keep in each precision, on this CPU beside timm's ViT-Ti, as a Markdown table.

  python3 scripts/bench_export.py [BACKBONE ...]
  python3 scripts/bench_export.py --checkpoint=RUN --tasks=reid,attributes --json=FILE

A backbone has seeded random weights and images of 256x128; without arguments, all backbones of saip_jax but the largest
ViTs are measured. A checkpoint, anything that `saip export` reads, has its own weights and size. Each is exported with
`saip export --dialect=onnx` in every precision and run by onnxruntime, one image at a time. The files take turns, so
that other load on the machine affects all of them alike. With --tasks the files themselves are measured, as in `saip
evaluate`, by the first score of each task. "cosine" is that of features with float32 in JAX, after their mean is
subtracted; a file that `saip export` refuses has no other figures.
"""

import argparse
import dataclasses
import json
import pathlib
import platform
import statistics
import sys
import tempfile
import time
from typing import Any

import numpy as np

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent)]
from input_pipeline.storage import cache_folder  # noqa: E402
from saip_jax.backbones.statistics import split_statistics  # noqa: E402
from saip_jax.evaluation.calibration import DEFAULT, CalibrationImages  # noqa: E402
from saip_jax.evaluation.encoders import open_encoder  # noqa: E402
from saip_jax.evaluation.evaluate import find_protocol, measure, named_tasks, score_text  # noqa: E402
from saip_jax.evaluation.splits import Data  # noqa: E402
from saip_jax.interop.architectures import ARCHITECTURES  # noqa: E402
from saip_jax.interop.export import export_weights  # noqa: E402
from saip_jax.interop.history import shortened  # noqa: E402
from saip_jax.interop.onnx_file import ONNX_FILE, session_of  # noqa: E402
from saip_jax.interop.precision import PRECISIONS  # noqa: E402
from saip_jax.interop.shapes import new_values, parameter_shapes  # noqa: E402
from saip_jax.interop.spec import BackboneSpec, Weights  # noqa: E402
from saip_jax.interop.tables import flatten  # noqa: E402
from saip_jax.interop.torch_model import why_missing, write_onnx  # noqa: E402
from saip_jax.interop.weights import open_weights  # noqa: E402

IMAGE_HW = (256, 128)
BACKBONES = ("vit_tiny", "tinyvit_5m", "convnext_femto", "vit_small", "swin_tiny", "vit_base")
TWIN = "timm vit_tiny_patch16_224"
THREADS, WARM_UPS, RUNS = (1, 2), 10, 50


@dataclasses.dataclass
class Row:
  """One file, and what was measured of it; None where it was refused."""

  network: str
  image_hw: tuple[int, int]
  parameters: int
  precision: str
  path: pathlib.Path | None = None
  megabytes: float | None = None
  cosine: float | None = None
  refused: str | None = None
  scores: dict[str, float] = dataclasses.field(default_factory=dict)
  milliseconds: dict[int, dict[str, float]] = dataclasses.field(default_factory=dict)

  def record(self) -> dict[str, Any]:
    return {name: value for name, value in vars(self).items() if name != "path"}


def new_weights(name: str) -> Weights:
  """Returns a backbone with seeded random weights."""
  spec = BackboneSpec(name, IMAGE_HW, "grid2d")
  module = spec.build()
  return Weights(spec, {"backbone": new_values(module, parameter_shapes(module))}, None, name)


def exported(name: str, weights: Weights, precision: str, images, folder: pathlib.Path) -> Row:
  """Exports one file."""
  tree = split_statistics(weights.backbone())["params"]
  count = sum(int(np.size(a)) for path, a in flatten(tree).items() if not path.startswith("inter_norm"))
  row = Row(name, weights.spec.image_hw, count, precision)
  print(f"exporting {name}, {precision}", file=sys.stderr, flush=True)
  try:
    images = None if precision == "float32" else images
    record = export_weights(weights, "onnx", folder, precision=precision, images=images)
  except ValueError as error:
    return dataclasses.replace(row, refused=str(error))
  row.path, row.megabytes = folder / ONNX_FILE, record["files"][ONNX_FILE]["bytes"] / 1e6
  row.cosine = record["parity"].get("cosine", 1.0)
  return row


def timms_vit(folder: pathlib.Path) -> Row:
  """Exports timm's own ViT-Ti, images -> (cls, patch_tokens), with timm's initial weights."""
  import timm
  import torch

  from saip_jax.interop.torch_encoders import make_encoder

  torch.manual_seed(0)
  model = timm.create_model("vit_tiny_patch16_224", img_size=IMAGE_HW, num_classes=0)
  folder.mkdir()
  path = folder / ONNX_FILE
  write_onnx(path, make_encoder("vit", model, {}), BackboneSpec("vit_tiny", IMAGE_HW, "grid2d").facts(), False)
  count = sum(p.numel() for p in model.parameters())
  return Row(TWIN, IMAGE_HW, count, "float32", path, path.stat().st_size / 1e6)


def take_turns(rows: list[Row]) -> None:
  """Measures the latency of one image, of all rows and numbers of threads in turns."""
  rng, cases = np.random.default_rng(0), []
  for row in (row for row in rows if row.path):
    images = rng.standard_normal((1, 3, *row.image_hw), dtype=np.float32)
    cases += [(row, threads, session_of(row.path, threads), images, []) for threads in THREADS]
  for turn in range(WARM_UPS + RUNS):
    for _, _, session, images, times in cases:
      start = time.perf_counter()
      session.run(None, {"images": images})
      times += [1e3 * (time.perf_counter() - start)] if turn >= WARM_UPS else []
  for row, threads, _, _, times in cases:
    row.milliseconds[threads] = {"median": statistics.median(times), "least": min(times)}


def markdown(rows: list[Row], tasks: list[str]) -> str:
  """Returns the table."""
  columns = ["network", "input", "parameters", "precision", "MB", "cosine", *tasks]
  columns += [f"ms, {n} thread{'s' * (n > 1)}" for n in THREADS]
  lines = ["| " + " | ".join(columns) + " |", "|---|---|---:|---|" + "---:|" * (len(columns) - 4)]
  text = lambda value, form: "" if value is None else format(value, form)
  for row in rows:
    scores = [score_text(task.split()[-1], row.scores[task]) if task in row.scores else "" for task in tasks]
    times = [text(row.milliseconds.get(n, {}).get("median"), ".2f") for n in THREADS]
    cells = [row.network, "x".join(map(str, row.image_hw)), f"{row.parameters / 1e6:.2f} M", row.precision]
    cosine = "refused" if row.refused else text(row.cosine, ".4f")
    lines.append("| " + " | ".join([*cells, text(row.megabytes, ".1f"), cosine, *scores, *times]) + " |")
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("backbones", nargs="*", metavar="BACKBONE", help="with random weights")
  parser.add_argument("--checkpoint", action="append", default=[], metavar="PATH", help="a run or weights; repeat it")
  parser.add_argument("--precisions", default=",".join(PRECISIONS), metavar="NAME,...", help="%(default)s")
  parser.add_argument("--calibration", default=DEFAULT, metavar="SOURCE:PATH", help="as in saip export")
  parser.add_argument("--tasks", metavar="TASK[:PROTOCOL],...", help="as in saip evaluate")
  parser.add_argument("--data", default="people", metavar="SOURCE:PATH", help="as in saip evaluate")
  parser.add_argument("--people-count", type=int, default=2048, metavar="N", help="as in saip evaluate")
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write all figures there")
  options = parser.parse_args()
  missing = why_missing(("torch", "timm", "onnx", "onnxscript", "onnxruntime"))
  if missing:
    raise ValueError(missing)
  precisions = options.precisions.split(",")
  for flag, names, known in (("--precisions", precisions, PRECISIONS), ("BACKBONE", options.backbones, ARCHITECTURES)):
    unknown = [name for name in names if name not in known]
    if unknown:
      raise ValueError(f"{flag}: {unknown[0]!r} is unknown; choose from {', '.join(known)}")
  tasks = [(task, find_protocol(task, p)[0]) for task, p in named_tasks(options.tasks, None)] if options.tasks else []
  data = Data.parse(options.data, cache_dir=cache_folder(), people_count=options.people_count)
  images = CalibrationImages(options.calibration, cache_folder())
  networks = {shortened(w.origin): w for w in map(open_weights, options.checkpoint)}
  networks |= {name: new_weights(name) for name in options.backbones or (() if networks else BACKBONES)}
  columns: dict[str, None] = {}
  with tempfile.TemporaryDirectory() as root:
    rows = [timms_vit(pathlib.Path(root) / "twin")]
    for number, (name, weights) in enumerate(networks.items()):
      for precision in precisions:
        rows.append(exported(name, weights, precision, images, pathlib.Path(root) / f"{number}_{precision}"))
    for row in (row for row in rows[1:] if row.path):
      for task, protocol in tasks:
        print(f"measuring {row.network}, {row.precision}: {task}", file=sys.stderr, flush=True)
        score, value = next(iter(measure(open_encoder(str(row.path)), task, data, protocol)["scores"].items()))
        row.scores[f"{task}:{protocol} {score}"] = value
        columns[f"{task}:{protocol} {score}"] = None
    take_turns(rows)
  machine = {
    "processor": platform.processor() or platform.machine(),
    "method": f"onnxruntime, batch 1, median of {RUNS} runs after {WARM_UPS}, taking turns",
    "data": f"{options.data}, {options.people_count} images" if options.data == "people" else options.data,
    "calibration": options.calibration,
  }
  print("; ".join(f"{name}: {value}" for name, value in machine.items()) + "\n")
  print(markdown(rows, list(columns)))
  for row in rows:
    if row.refused:
      print(f"\n{row.network}, {row.precision}: {row.refused}")
  if options.json:
    options.json.write_text(json.dumps(machine | {"rows": [row.record() for row in rows]}, indent=2) + "\n")


if __name__ == "__main__":
  try:
    main()
  except ValueError as error:
    sys.exit(f"bench_export: error: {error}")
