#!/usr/bin/env python3
"""Prints the speed of the exported backbones with onnxruntime on this CPU, beside timm's ViT-Ti, as a Markdown table.

  python3 scripts/bench_export.py [BACKBONE ...]

Without arguments: all backbones of saip_jax but the largest ViTs, with seeded random weights, one image of 256x128 at a
time. The networks take turns, so that other load on the machine affects all of them alike.
"""

import argparse
import pathlib
import platform
import statistics
import sys
import tempfile
import time

import numpy as np

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent)]
from saip_jax.interop.dialects import DIALECTS  # noqa: E402
from saip_jax.interop.shapes import new_values, parameter_shapes  # noqa: E402
from saip_jax.interop.spec import BackboneSpec, Weights  # noqa: E402
from saip_jax.interop.tables import to_torch  # noqa: E402
from saip_jax.interop.torch_model import torch_encoder, why_missing, write_onnx  # noqa: E402

IMAGE_HW = (256, 128)
BACKBONES = ("vit_tiny", "tinyvit_5m", "convnext_femto", "vit_small", "swin_tiny", "vit_base")
TWIN = "timm vit_tiny_patch16_224"
THREADS, WARM_UPS, RUNS = (1, 2), 10, 50


def encoder_of(name: str):
  """Returns (PyTorch module, facts) of a new backbone."""
  spec = BackboneSpec(name, IMAGE_HW, "grid2d")
  module, architecture = spec.build(), spec.architecture
  tree = new_values(module, parameter_shapes(module))
  own = to_torch({part: tree[part] for part in architecture.names.extra_modules}, architecture.names.extra, spec.patch)
  state = DIALECTS["timm"].to_state(Weights(spec, {"backbone": tree}, None, name))
  return torch_encoder(spec, state, own), spec.facts()


def timms_vit():
  """Returns (PyTorch module, facts) of timm's own ViT-Ti, images -> (cls, patch_tokens), with timm's weights."""
  import timm
  import torch

  from saip_jax.interop.torch_encoders import make_encoder

  torch.manual_seed(0)
  model = timm.create_model("vit_tiny_patch16_224", img_size=IMAGE_HW, num_classes=0)
  return make_encoder("vit", model, {}), BackboneSpec("vit_tiny", IMAGE_HW, "grid2d").facts()


def session_of(path: pathlib.Path, threads: int):
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.log_severity_level, options.intra_op_num_threads, options.inter_op_num_threads = 3, threads, 1
  return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def milliseconds(session, images: np.ndarray) -> float:
  start = time.perf_counter()
  session.run(None, {"images": images})
  return 1e3 * (time.perf_counter() - start)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("backbones", nargs="*", default=BACKBONES, metavar="BACKBONE")
  names = parser.parse_args().backbones
  missing = why_missing(("torch", "timm", "onnx", "onnxscript", "onnxruntime"))
  if missing:
    sys.exit(f"bench_export: {missing}")
  images = np.random.default_rng(0).standard_normal((1, 3, *IMAGE_HW), dtype=np.float32)
  parameters, sessions = {}, {}
  with tempfile.TemporaryDirectory() as folder:
    for name in (TWIN, *names):
      print(f"exporting {name}", file=sys.stderr)
      encoder, facts = timms_vit() if name == TWIN else encoder_of(name)
      parameters[name] = sum(p.numel() for p in encoder.parameters())
      path = pathlib.Path(folder) / "model.onnx"
      write_onnx(path, encoder, facts, preprocessing=False)
      sessions |= {(name, threads): session_of(path, threads) for threads in THREADS}
  times = {case: [] for case in sessions}
  for turn in range(WARM_UPS + RUNS):
    for case, session in sessions.items():
      taken = milliseconds(session, images)
      times[case] += [taken] if turn >= WARM_UPS else []
  print(
    f"onnxruntime, {platform.processor() or platform.machine()}, batch 1, {IMAGE_HW[0]}x{IMAGE_HW[1]}:"
    f" median of {RUNS} runs after {WARM_UPS}, taking turns\n"
  )
  print("| Network | Parameters | " + " | ".join(f"ms, {t} thread{'s' * (t > 1)}" for t in THREADS) + " |")
  print("|---|---|" + "---|" * len(THREADS))
  for name, count in parameters.items():
    cells = " | ".join(f"{statistics.median(times[name, threads]):.1f}" for threads in THREADS)
    print(f"| {name} | {count / 1e6:.2f} M | {cells} |")


if __name__ == "__main__":
  main()
