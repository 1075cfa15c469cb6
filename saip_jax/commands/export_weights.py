"""`saip export`."""

import sys

from saip_jax.commands.flags import place_flag, size_flag

EXAMPLE = "saip export --checkpoint=runs/demo --dialect=timm --out=exported"
PAGE = "interop/export"


def add_flags(parser) -> None:
  parser.add_argument(
    "--checkpoint",
    required=True,
    type=place_flag,
    metavar="PATH",
    help="a run's folder, weights of any dialect, or saip_nano_people, a model of this package",
  )
  parser.add_argument(
    "--dialect",
    required=True,
    metavar="NAME",
    help="timm (a folder that timm and transformers load), safetensors, saip, mae, dino, vitpose, mmpose, onnx,"
    " torchscript, stablehlo (for JAX without this package)",
  )
  parser.add_argument("--out", required=True, type=place_flag, metavar="DIR", help="folder to make")
  parser.add_argument(
    "--which",
    choices=("student", "teacher", "depth"),
    default="student",
    help="network (student); depth: HCMoCo's encoder of depth",
  )
  parser.add_argument(
    "--image-hw",
    type=size_flag,
    metavar="HxW",
    help="size that positions are resampled to (that of the weights; vitpose 256x256, mmpose 256x192)",
  )
  parser.add_argument(
    "--positions",
    choices=("grid2d", "flat1d"),
    help="resampling: in two dimensions (antialiased for DINOv2), or along the raster line as published (grid2d)",
  )
  parser.add_argument("--with-preprocessing", action="store_true", help="onnx: a second file that takes uint8 pixels")
  parser.add_argument(
    "--precision",
    default="float32",
    metavar="NAME",
    help="onnx: float32, float16, or int8 with float32 inputs and outputs (float32)",
  )
  parser.add_argument(
    "--calibration",
    metavar="SOURCE:PATH",
    help="float16, int8: images that features are compared on, and int8 is calibrated on (built-in people)",
  )
  parser.add_argument(
    "--least-cosine",
    type=float,
    metavar="C",
    help="float16, int8: fail below this mean cosine of features with float32, their mean subtracted (0.99)",
  )
  parser.add_argument("--license", metavar="NAME", help="license of the weights, for the model card (unstated)")


def run(options, settings) -> int:
  from input_pipeline.storage import cache_folder
  from saip_jax.evaluation.calibration import DEFAULT, CalibrationImages
  from saip_jax.interop.export import export_summary, export_weights
  from saip_jax.interop.precision import LEAST_COSINE

  calibration = options.calibration
  if options.precision != "float32" and calibration is None:
    calibration = DEFAULT
    print("calibration  built-in people; --calibration=SOURCE:PATH sets other images", file=sys.stderr)
  if options.precision == "float32" and options.least_cosine is not None:
    raise ValueError("--least-cosine is for --precision=float16 and int8: leave it out")
  record = export_weights(
    options.checkpoint,
    options.dialect,
    options.out,
    options.which,
    options.image_hw,
    options.positions,
    options.with_preprocessing,
    options.precision,
    None if calibration is None else CalibrationImages(calibration, cache_folder()),
    LEAST_COSINE if options.least_cosine is None else options.least_cosine,
    options.license,
  )
  print(export_summary(record, options.out))
  return 0
