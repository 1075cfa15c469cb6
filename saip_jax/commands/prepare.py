"""`saip prepare KIND` for every kind of data set but built-in people."""

from saip_jax.commands.flags import numbers_flag, size_flag

EXAMPLE = "saip prepare {kind} --path=DATA --out=SHARDS"
PAGE = "data/prepare"


def add_flags(parser) -> None:
  parser.add_argument("--path", required=True, metavar="PATH", help="path or URL of the data set")
  parser.add_argument("--out", required=True, metavar="DIR", help="folder or URL for the shards")
  parser.add_argument("--split", metavar="NAME", help="split of the data set")
  parser.add_argument("--subset", metavar="FILE", help="list of names from saip doctor; other images are left out")
  parser.add_argument("--max-side", type=int, metavar="N", help="shrink larger images to N pixels (no image is shrunk)")
  parser.add_argument("--scenes", action="store_true", help="plain pixels of at most --scene-hw, for data.scene_path")
  parser.add_argument("--scene-hw", type=size_flag, default=(256, 256), metavar="HxW", help="size of scenes (256x256)")
  parser.add_argument(
    "--margin", type=float, metavar="M", help="crops of persons: margin around a box, as a fraction (0.1)"
  )
  parser.add_argument(
    "--min-side", type=int, metavar="N", help="crops of persons: leave out smaller boxes, pixels (16)"
  )
  parser.add_argument(
    "--depth", metavar="PLACE", help="depth beside the images: a folder, or a pattern like d/{stem}.png"
  )
  parser.add_argument(
    "--depth-grid",
    type=numbers_flag(3),
    metavar="SCALE,X,Y",
    help="depth on another grid: its point p is the image point SCALE * p + (X, Y), pixels",
  )
  parser.add_argument(
    "--depth-range", type=numbers_flag(2), metavar="NEAR,FAR", help="meters; depth outside of them is unknown"
  )
  parser.add_argument("--instances", metavar="PLACE", help="masks beside the images")
  parser.add_argument("--keypoints", metavar="PLACE", help="keypoints beside the images: .npy or .json")
  parser.add_argument("--joints", metavar="NAMES", help="names of these keypoints: coco, or names separated by commas")
  parser.add_argument("--pairs", metavar="FILE", help="lines of NAME<tab>NAME<tab>kind: the set holds these pairs")
  parser.add_argument("--processes", type=int, metavar="N", help="number of processes (one for each core, at most 8)")
  parser.add_argument("--runner", metavar="NAME", help="Apache Beam runner, for data sets too large for one machine")
  parser.add_argument(
    "--runner-options", default="", metavar="OPTIONS", help="options of the Beam runner, as on its command line"
  )


def run(options, settings) -> int:
  from input_pipeline.prepare.prepare import prepare_dataset
  from input_pipeline.prepare.shard import PrepareRequest
  from input_pipeline.prepare.side_files import SideFiles
  from input_pipeline.sources.annotated.categories import categories_text

  side_files = SideFiles(
    depth=options.depth,
    depth_grid=options.depth_grid,
    depth_range=options.depth_range,
    instances=options.instances,
    keypoints=options.keypoints,
    pairs=options.pairs,
    joints=options.joints,
  )
  request = PrepareRequest(
    options.kind,
    options.path,
    options.split,
    options.subset,
    options.margin,
    options.min_side,
    side_files,
    options.max_side,
    options.scene_hw if options.scenes else None,
  )
  manifest = prepare_dataset(
    request, options.out, processes=options.processes, runner=options.runner, runner_options=options.runner_options
  )
  print(f"{manifest['count']:,} images in {len(manifest['shards'])} shards in {options.out}")
  for sentence in categories_text(manifest["categories"]):
    print(sentence)
  if manifest["left_out"]:
    print(f"{manifest['left_out']:,} left out, listed in {options.out}/left_out.txt")
  return 0
