"""`saip embed`."""

import pathlib

from saip_jax.commands.flags import place_flag, size_flag

EXAMPLE = "saip embed --checkpoint=runs/demo --images=CROPS --out=features.npz"
PAGE = "interop/index"


def add_flags(parser) -> None:
  parser.add_argument(
    "--checkpoint",
    required=True,
    type=place_flag,
    metavar="PATH",
    help="a run's folder, weights of any dialect, or saip_nano_people, a model of this package",
  )
  parser.add_argument("--images", required=True, metavar="DIR", help="folder of images, searched to its depth")
  parser.add_argument(
    "--out",
    required=True,
    type=place_flag,
    metavar="FILE",
    help="FILE.npz (arrays names, cls) or FILE.parquet (columns name, cls)",
  )
  parser.add_argument(
    "--tokens", action="store_true", help="also the patch tokens; large: 96 KiB an image for vit_tiny"
  )
  parser.add_argument("--which", choices=("student", "teacher"), default="student", help="which network (student)")
  parser.add_argument("--image-hw", type=size_flag, metavar="HxW", help="size of the input (what the weights are for)")
  parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images computed at once (64)")
  parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")


def run(options, settings) -> int:
  from saip_jax.evaluation.feature_files import skipped_path
  from saip_jax.evaluation.features import embed_images

  embedded = embed_images(
    options.checkpoint,
    options.images,
    options.out,
    options.which,
    options.image_hw,
    options.tokens,
    options.batch_size,
    options.overwrite,
  )
  shapes = ", ".join(f"{name} {shape}" for name, shape in embedded.shapes.items())
  print(f"{embedded.count} images in {options.out}: {shapes}")
  if embedded.skipped:
    print(f"{len(embedded.skipped)} images skipped, listed in {skipped_path(pathlib.Path(options.out))}")
  return 0
