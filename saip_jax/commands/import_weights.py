"""`saip import`."""

from saip_jax.commands.flags import place_flag, size_flag


def add_flags(parser) -> None:
  parser.add_argument(
    "--from", required=True, dest="source", type=place_flag, metavar="PATH", help="file of weights, or a timm folder"
  )
  parser.add_argument(
    "--dialect",
    metavar="NAME",
    help="saip, timm, mae, dino, solider or safetensors (recognized by the names of the tensors)",
  )
  parser.add_argument("--out", required=True, type=place_flag, metavar="DIR", help="folder to make")
  parser.add_argument(
    "--image-hw",
    type=size_flag,
    metavar="HxW",
    help="size in pixels that its positions are for, if the file does not specify it",
  )
  parser.add_argument(
    "--part",
    metavar="NAME",
    help="section or module of the file that holds the encoder, if there are several: model_ema, base_encoder, ...",
  )
  parser.add_argument(
    "--heads", type=int, metavar="N", help="attention heads of a ViT, if the file does not specify them"
  )
  parser.add_argument(
    "--last-heads", type=int, metavar="N", help="attention heads of its last block (as in the others)"
  )
  parser.add_argument(
    "--semantic-weight",
    type=float,
    metavar="WEIGHT",
    help="0 to 1, for a SOLIDER file with a semantic controller (0: its own default, 0.2: as for its ReID)",
  )


def run(options, settings) -> int:
  from saip_jax.interop.importing import import_summary, import_weights

  weights = import_weights(
    options.source,
    options.dialect,
    options.out,
    options.image_hw,
    part=options.part,
    heads=options.heads,
    last_heads=options.last_heads,
    semantic_weight=options.semantic_weight,
  )
  print("\n".join(import_summary(weights, options.out)))
  return 0
