"""`saip prepare people`."""

from saip_jax.commands.flags import local_path_flag, size_flag

# Images on a preview sheet, and the default set size: large enough that all of them show different people.
_PREVIEW_COUNT, _PREVIEWED_COUNT = 40, 320

EXAMPLE = "saip prepare people --out=PEOPLE --count=512 --image-hw=256x128"
PAGE = "data/built_in_people"


def add_flags(parser) -> None:
  parser.epilog = "A new set needs --out and --count; --preview alone draws images and writes no set."
  parser.add_argument("--out", type=local_path_flag, metavar="DIR", help="folder for the set")
  parser.add_argument("--count", type=int, metavar="N", help="number of images")
  parser.add_argument("--image-hw", type=size_flag, metavar="HxW", help="size in pixels (256x128; scenes 480x640)")
  parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the people (0)")
  parser.add_argument(
    "--composition",
    metavar="NAME",
    help="crops: single people; views: one instant by four cameras; clips: eight frames of a motion; scenes: streets"
    " of up to twelve people (crops; scenes with --export=coco)",
  )
  parser.add_argument(
    "--identities",
    type=int,
    metavar="K",
    help="number of different people (one for 8 images; scenes: one for each, 120 or more)",
  )
  parser.add_argument("--export", metavar="FORMAT", help="coco or market1501: files for other tools, not for training")
  parser.add_argument(
    "--preview",
    type=local_path_flag,
    metavar="FILE",
    help="draw the first images into FILE.png and their labels into FILE_labels.png",
  )


def run(options, settings) -> int:
  from input_pipeline.people.prepare import check_request, prepare_people, usual_spec

  if not options.preview and (options.out is None or options.count is None):
    raise ValueError("--out=DIR and --count=N are needed, or --preview=FILE.png; see saip prepare people --help")
  count = _PREVIEWED_COUNT if options.count is None else options.count
  spec = usual_spec(
    count,
    options.export,
    composition=options.composition,
    image_hw=options.image_hw,
    seed=options.seed,
    identities=options.identities,
  )
  check_request(spec, count, options.export)
  if options.preview:
    from input_pipeline.people.preview import draw_preview

    for path in draw_preview(options.preview, spec, min(count, _PREVIEW_COUNT)):
      print(path)
  if options.out:
    prepare_people(options.out, spec, count, options.export)
    print(f"{count} images in {options.out}")
  return 0
