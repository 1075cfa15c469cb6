"""`saip import`."""

from saip_jax.commands.flags import numbers_flag, place_flag, size_flag

EXAMPLE = "saip import --from=mae_pretrain_vit_base.pth --dialect=mae --out=imported"
PAGE = "interop/import"


def add_flags(parser) -> None:
  parser.add_argument(
    "--from", required=True, dest="source", type=place_flag, metavar="PATH", help="file of weights, or a timm folder"
  )
  parser.add_argument(
    "--dialect",
    metavar="NAME",
    help="saip, timm, mae, dino, solider, safetensors, mmpose or transformers (recognized by the names of the tensors)",
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
  parser.add_argument(
    "--norm-eps", type=float, metavar="E", help="epsilon of a ViT's norms, if the file does not specify it"
  )
  parser.add_argument(
    "--patch-padding", type=int, metavar="N", help="zero pixels around an image of a ViT: 2 in ViTPose and Sapiens"
  )
  parser.add_argument(
    "--class-token",
    choices=("used", "unused"),
    help="whether the blocks see a class token that has no position, if the file does not specify it",
  )
  for name, what in (("mean", "mean"), ("std", "standard deviation")):
    parser.add_argument(
      f"--{name}", type=numbers_flag(3), metavar="R,G,B", help=f"{what} of each channel, 0 to 1, of its images"
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
    norm_eps=options.norm_eps,
    patch_padding=options.patch_padding,
    class_token=None if options.class_token is None else options.class_token == "used",
    mean=options.mean,
    std=options.std,
  )
  print("\n".join(import_summary(weights, options.out)))
  return 0
