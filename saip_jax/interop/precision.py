"""ONNX files in float16 and int8, made by onnxruntime's own tools from a file in float32.

Needs the optional extra `torch`, which is imported inside functions.
"""

import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saip_jax.interop.onnx_file import ONNX_FILE, PIXELS_FILE, describe, described, graph_input
from saip_jax.interop.proof import Comparison, prove
from saip_jax.interop.torch_model import quiet

PRECISIONS = ("float32", "float16", "int8")
"""Of an ONNX file; inputs and outputs are those of float32 in each."""

CALIBRATIONS = {"extremes": None, "percentile 99.99": 99.99}
"""How int8 chooses the ranges of activations -> percentile; tried in this order until features keep their cosine.

"extremes" are the smallest and largest value that calibration shows. Without outliers both keep features alike; where a
few values are large, the percentile cuts them off and keeps the others better.
"""

LEAST_COSINE = 0.99
"""Below this centered cosine (see `Comparison.cosines`; mean over images) the features of another precision fail.

At 0.99 the error is a seventh of what distinguishes an image from the mean image. Encoders without outliers keep more
than 0.997 in int8 and 0.9999 in float16, those with a few large channels less (`scripts/bench_export.py`).
"""

_COMPARED = 5  # every fifth image is compared on, the others calibrate
_WEIGHTED = ("MatMul", "Gemm", "Conv")


def reduce_precision(
  folder: pathlib.Path, precision: str, weights, which: str, pixels: np.ndarray, least_cosine: float
) -> tuple[dict[str, Comparison], dict[str, Any]]:
  """Replaces the ONNX files of an export in float32, and compares the new ones with the weights in JAX.

  Args:
    folder: the files of the export.
    precision: "float16" or "int8".
    weights: the exported `spec.Weights`, at the exported size.
    which: a key of `spec.ENCODER_MODULES`.
    pixels: (n, H, W, 3) uint8 RGB images; every fifth is compared on, int8 is calibrated on the others.
    least_cosine: see `LEAST_COSINE`.

  Returns:
    The comparisons, and JSON-able facts.

  Raises:
    ValueError: features fall below `least_cosine`, whatever the calibration.
  """
  facts, compared = weights.spec.facts(), np.arange(len(pixels)) % _COMPARED == 0
  files = [folder / name for name in (ONNX_FILE, PIXELS_FILE) if (folder / name).is_file()]
  tried: dict[str, float] = {}
  with tempfile.TemporaryDirectory() as originals:
    stored = {file: shutil.copy(file, originals) for file in files}
    about = {file: described(file) | {"precision": precision} for file in files}
    sizes = {file.name: {"float32": file.stat().st_size} for file in files}
    for calibration in CALIBRATIONS if precision == "int8" else ("none",):
      for file in files:
        if precision == "float16":
          to_float16(file)
        else:
          batches = [graph_input(p[None], facts, file.name == PIXELS_FILE) for p in pixels[~compared]]
          to_int8(pathlib.Path(stored[file]), file, batches, calibration)
        describe(file, **about[file])
        sizes[file.name][precision] = file.stat().st_size
      comparisons = prove("onnx", folder, weights, which, pixels[compared])
      tried[calibration] = kept_cosine(comparisons)
      if tried[calibration] >= least_cosine:  # never for NaN
        break
    else:
      found = ", ".join(f"{cosine:.4f}" + f" ({name})" * (precision == "int8") for name, cosine in tried.items())
      advice = (
        "export float16, or calibrate on images like those to be encoded" if precision == "int8" else "use float32"
      )
      raise ValueError(
        f"--precision={precision}: features differ too much: the centered cosine with float32 is {found}, below"
        f" --least-cosine={least_cosine:g}; {advice}; nothing was written"
      )
  return comparisons, {
    "precision": precision,
    "bytes": sizes,
    "calibration": {"ranges": calibration, "images": int((~compared).sum()), "tried": tried}
    if precision == "int8"
    else None,
    "compared_on": int(compared.sum()),
  }


def kept_cosine(comparisons: Mapping[str, Comparison]) -> float:
  """Returns the smallest mean centered cosine of the outputs; NaN if one is NaN."""
  return float(np.min([c.cosines()["centered"]["mean"] for c in comparisons.values()]))


def to_float16(path: pathlib.Path) -> None:
  """Replaces an ONNX file in float32 by one in float16."""
  import onnx
  from onnxruntime.transformers.float16 import convert_float_to_float16

  with quiet():
    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)


def to_int8(path: pathlib.Path, out: pathlib.Path, inputs: Sequence[np.ndarray], calibration: str) -> None:
  """Writes an ONNX file with int8 weights and activations beside one in float32.

  Products with weights are quantized: weights per output channel, their inputs per tensor, in QDQ form. All else stays
  float32: products of two activations (attention), norms, softmax and the residual stream, whose outliers would cost
  precision and whose time is small.

  Args:
    path: the file in float32.
    out: the file to write.
    inputs: arrays for the input `images`, one batch each.
    calibration: a key of `CALIBRATIONS`.
  """
  import onnx
  from onnxruntime import quantization
  from onnxruntime.quantization.shape_inference import quant_pre_process

  class Reader(quantization.CalibrationDataReader):
    def __init__(self):
      self.set_range(0, len(inputs))

    def __len__(self):
      return len(inputs)

    def set_range(self, start_index, end_index):
      self.feeds = ({"images": batch} for batch in inputs[start_index:end_index])

    def get_next(self):
      return next(self.feeds, None)

  percentile, prepared = CALIBRATIONS[calibration], out.with_name(f".{out.name}.prepared")
  method = quantization.CalibrationMethod.MinMax if percentile is None else quantization.CalibrationMethod.Percentile
  try:
    with quiet():
      quant_pre_process(path, prepared)
      graph = onnx.load(prepared).graph
      constants = {tensor.name for tensor in graph.initializer}
      with_weights = [n.name for n in graph.node if n.op_type in _WEIGHTED and n.input[1] in constants]
      quantization.quantize_static(
        prepared,
        out,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=list(_WEIGHTED),
        nodes_to_quantize=with_weights,
        per_channel=True,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=method,
        # Of any method, despite its name: without it, a percentile keeps the activations of all images in memory.
        extra_options={"OpTypesToExcludeOutputQuantization": list(_WEIGHTED), "CalibStridedMinMax": 1}
        | ({} if percentile is None else {"CalibPercentile": percentile}),
      )
  finally:
    prepared.unlink(missing_ok=True)
