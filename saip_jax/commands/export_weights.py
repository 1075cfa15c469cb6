"""`saip export`."""

from saip_jax.commands.flags import place_flag, size_flag


def add_flags(parser) -> None:
  parser.add_argument(
    "--checkpoint", required=True, type=place_flag, metavar="PATH", help="a run's folder, or weights of any dialect"
  )
  parser.add_argument(
    "--dialect",
    required=True,
    metavar="NAME",
    help="timm (a folder that timm and transformers load), safetensors, saip, mae, dino, vitpose, mmpose, onnx,"
    " torchscript",
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


def run(options, settings) -> int:
  from saip_jax.interop.export import export_summary, export_weights

  record = export_weights(
    options.checkpoint,
    options.dialect,
    options.out,
    options.which,
    options.image_hw,
    options.positions,
    options.with_preprocessing,
  )
  print(export_summary(record, options.out))
  return 0
