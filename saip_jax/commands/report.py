"""`saip report`."""

import os

from saip_jax.commands.flags import place_flag

_PEOPLE_COUNT = 512  # size of the default set of people, of which the report shows some: that of the demo

EXAMPLE = "saip report runs/demo --compare runs/other"
PAGE = "evaluation/monitors_and_reports"


def add_flags(parser) -> None:
  parser.epilog = (
    "To compare with a baseline, save its scores: saip evaluate --checkpoint=histogram ... --json >> FILE,"
    " then --compare FILE."
  )
  parser.add_argument("workdir", type=place_flag, metavar="W", help="the run's folder")
  parser.add_argument(
    "--compare",
    nargs="+",
    default=(),
    type=place_flag,
    metavar="W2",
    help="other runs, or files with the output of saip evaluate --json",
  )
  parser.add_argument("--out", type=place_flag, metavar="FILE", help="the page (W/report.html)")
  parser.add_argument(
    "--data", default="people", metavar="SOURCE:PATH", help="images that the encoder is shown on (people)"
  )
  parser.add_argument("--hold-out", action="store_true", help="--data without a test split: as in saip evaluate")


def run(options, settings) -> int:
  os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a few images need no accelerator, and the run may still hold it
  from input_pipeline.storage import cache_folder
  from saip_jax.evaluation.splits import Data
  from saip_jax.reporting.report import write_report

  data = Data.parse(options.data, cache_dir=cache_folder(), people_count=_PEOPLE_COUNT, hold_out=options.hold_out)
  out = write_report(options.workdir, options.compare, options.out, data)
  print(f"{out} opens in any browser")
  return 0
