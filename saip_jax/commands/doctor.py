"""`saip doctor`."""

from input_pipeline.sources.kinds import SOURCE_KINDS

EXAMPLE = "saip doctor CROPS --out=findings"
PAGE = "data/doctor"


def add_flags(parser) -> None:
  parser.add_argument("path", metavar="PATH", help="path of the data set: a folder, a file or a URL")
  parser.add_argument(
    "--source", choices=tuple(SOURCE_KINDS), metavar="KIND", help="its kind (recognized by its files)"
  )
  parser.add_argument("--split", metavar="NAME", help="split of the data set")
  parser.add_argument("--json", action="store_true", help="print everything as JSON")
  parser.add_argument("--out", metavar="DIR", help="folder for a picture of the sizes and for lists of names")
  parser.add_argument(
    "--limit", type=int, default=100_000, metavar="N", help="number of images examined, if there are more (100000)"
  )
  parser.add_argument("--all", action="store_true", help="examine all images")
  parser.add_argument("--subset", type=int, metavar="N", help="choose N images and list them in DIR/subset.txt")
  parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the choice (0)")


def run(options, settings) -> int:
  import json

  from input_pipeline.doctor.checkup import doctor
  from input_pipeline.doctor.report import doctor_report

  facts = doctor(
    options.path,
    source=options.source,
    split=options.split,
    out=options.out,
    limit=options.limit,
    whole=options.all,
    subset=options.subset,
    seed=options.seed,
  )
  print(json.dumps(facts, indent=2) if options.json else doctor_report(facts))
  return 0
