"""ONNX files in float16 and int8, made by onnxruntime's own tools from a file in float32.

Needs the optional extra `torch`, which is imported inside functions.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saip_jax.interop.onnx_file import ONNX_FILE, PIXELS_FILE, describe, described, graph_input
from saip_jax.interop.proof import Comparison, prove
from saip_jax.interop.torch_model import quiet

PRECISIONS = ("float32", "float16", "int8")
"""Of an ONNX file; inputs and outputs are those of float32 in each."""

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
    ValueError: features fall below `least_cosine`.
  """
  facts, compared = weights.spec.facts(), np.arange(len(pixels)) % _COMPARED == 0
  files = [folder / name for name in (ONNX_FILE, PIXELS_FILE) if (folder / name).is_file()]
  about = {file: described(file) | {"precision": precision} for file in files}
  sizes = {file.name: {"float32": file.stat().st_size} for file in files}
  for file in files:
    if precision == "float16":
      to_float16(file)
    else:
      to_int8(file, [graph_input(p[None], facts, file.name == PIXELS_FILE) for p in pixels[~compared]])
    describe(file, **about[file])
    sizes[file.name][precision] = file.stat().st_size
  comparisons = prove("onnx", folder, weights, which, pixels[compared])
  cosine = kept_cosine(comparisons)
  if not cosine >= least_cosine:  # NaN fails too
    advice = "export float16, or calibrate on images like those to be encoded" if precision == "int8" else "use float32"
    raise ValueError(
      f"--precision={precision}: features differ too much: their centered cosine with float32 is {cosine:.4f}, below"
      f" --least-cosine={least_cosine:g}; {advice}; nothing was written"
    )
  calibrated = {"calibrated_on": int((~compared).sum())} if precision == "int8" else {}
  return comparisons, {"precision": precision, "bytes": sizes, **calibrated, "compared_on": int(compared.sum())}


def kept_cosine(comparisons: Mapping[str, Comparison]) -> float:
  """Returns the smallest mean centered cosine of the outputs; NaN if one is NaN."""
  return float(np.min([c.cosines()["centered"]["mean"] for c in comparisons.values()]))


def to_float16(path: pathlib.Path) -> None:
  """Replaces an ONNX file in float32 by one in float16."""
  import onnx
  from onnxruntime.transformers.float16 import convert_float_to_float16

  with quiet():
    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)


def to_int8(path: pathlib.Path, inputs: Sequence[np.ndarray]) -> None:
  """Replaces an ONNX file in float32 by one with int8 weights and activations.

  Products with weights are quantized: weights per output channel, their inputs per tensor, in QDQ form. All else stays
  float32: products of two activations (attention), norms, softmax and the residual stream, whose outliers would cost
  precision and whose time is small. Ranges are the extremes that calibration shows. Percentiles and entropy keep no
  more where there are no outliers; and where there are some, as in DINOv2, the network needs them.

  Args:
    path: the file.
    inputs: arrays for the input `images`, one batch each.
  """
  import onnx
  from onnxruntime import quantization
  from onnxruntime.quantization.shape_inference import quant_pre_process

  class Reader(quantization.CalibrationDataReader):
    def __init__(self):
      self.feeds = ({"images": batch} for batch in inputs)

    def get_next(self):
      return next(self.feeds, None)

  prepared = path.with_name(f".{path.name}.prepared")
  try:
    with quiet():
      quant_pre_process(path, prepared)
      graph = onnx.load(prepared).graph
      constants = {tensor.name for tensor in graph.initializer}
      with_weights = [n.name for n in graph.node if n.op_type in _WEIGHTED and n.input[1] in constants]
      quantization.quantize_static(
        prepared,
        path,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=list(_WEIGHTED),
        nodes_to_quantize=with_weights,
        per_channel=True,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
        extra_options={"OpTypesToExcludeOutputQuantization": list(_WEIGHTED)},
      )
  finally:
    prepared.unlink(missing_ok=True)
