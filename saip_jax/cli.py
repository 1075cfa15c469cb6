"""The `saip` command: flags in, one library call out. Nothing heavy is imported before a command needs it."""

import argparse
import os
import pathlib
import sys
from typing import Sequence, get_args

import saip_jax
from saip_jax.config import SourceName

# Pictures on a preview sheet, and the size of the set they are the first of if none is given: then all are different
# people.
_PREVIEW_COUNT, _PREVIEWED_COUNT = 40, 320


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs a command and returns its exit status; a person's mistake is one line on standard error and status 2."""
  options, rest = _parser().parse_known_args(arguments)
  if options.traceback:
    return _run(options, rest)
  try:
    return _run(options, rest)
  except (ValueError, OSError) as e:  # what a person can mend; anything else is our bug and shows its traceback
    print(f"saip {options.command}: error: {' '.join(str(e).split())}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print(f"saip {options.command}: interrupted", file=sys.stderr)
    return 130


def _run(options, rest: list[str]) -> int:
  """Hands what is no flag of a command to the one that reads settings, and refuses it for all others."""
  if options.run in (_pretrain, _compile):
    return options.run(options, rest)
  if rest:
    raise ValueError(f"unknown argument {rest[0]!r}; see {options.prog} --help")
  return options.run(options)


class _Parser(argparse.ArgumentParser):
  """argparse with errors of one line."""

  def error(self, message):
    self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
      prog="saip", description=saip_jax.__doc__, allow_abbrev=False,
      epilog="saip COMMAND --help tells the flags of a command.",
  )
  parser.add_argument("--version", action="version", version=f"saip {saip_jax.__version__}")
  commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

  pretrain = _add_command(
      commands, "pretrain", _pretrain, "pre-train a model; started again, the same command goes on where it stopped",
      epilog="Any setting of the recipe can be changed: --config.batch_size=8 --config.optimizer.learning_rate=1e-3",
  )
  pretrain.add_argument("--config", required=True, metavar="FILE", help="recipe, as configs/saip_demo.py")
  pretrain.add_argument("--workdir", required=True, metavar="DIR", help="folder for all outputs of this run")
  pretrain.add_argument(
      "--coordinator", metavar="HOST:PORT",
      help="several hosts: an address on the machine of process 0 (Cloud TPU, Slurm and Kubernetes tell it themselves)",
  )
  pretrain.add_argument("--processes", type=int, metavar="N", help="several hosts: their number")
  pretrain.add_argument("--process", type=int, metavar="I", help="several hosts: which one this is, from 0")

  compile_ = _add_command(
      commands, "compile", _compile, "compile the step for TPUs without having one: does it fit, how fast at best",
      epilog="Any setting of the recipe can be changed, as in saip pretrain. Exit status 1: it does not fit.",
  )
  compile_.add_argument("--config", required=True, metavar="FILE", help="recipe, as configs/saip_vit_tiny.py")
  compile_.add_argument(
      "--topology", required=True, metavar="NAME", help="Google Cloud's name of the chips: v5e-8, v5e-256, v4-64, ..."
  )
  compile_.add_argument("--batch", type=int, metavar="N", help="images per update, over all chips (the recipe's)")
  compile_.add_argument("--largest", action="store_true", help="search the largest batch that fits: up to 5 compiles")
  compile_.add_argument("--json", action="store_true", help="print everything as JSON")

  prepare = _add_command(commands, "prepare", None, "make a data set")
  kinds = prepare.add_subparsers(dest="kind", required=True, metavar="KIND")
  people = _add_command(
      kinds, "people", _prepare_people, "render built-in people; started again, the same command goes on",
      epilog="A new set needs --out and --count; --preview alone draws pictures and writes no set.",
  )
  people.add_argument("--out", metavar="DIR", help="folder for the set")
  people.add_argument("--count", type=int, metavar="N", help="number of pictures")
  people.add_argument("--image-hw", type=_size, metavar="HxW", help="size in pixels (256x128; scenes 480x640)")
  people.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the people (0)")
  people.add_argument(
      "--composition", metavar="NAME",
      help="crops: single people; views: one instant by four cameras; clips: eight frames of a motion; scenes: streets"
      " of up to twelve people (crops; scenes with --export=coco)",
  )
  people.add_argument(
      "--identities", type=int, metavar="K",
      help="number of different people (one for 8 pictures; scenes: one for each, 120 or more)",
  )
  people.add_argument("--export", metavar="FORMAT", help="coco or market1501: files for other tools, not for training")
  people.add_argument(
      "--preview", metavar="FILE", help="draw the first pictures into FILE.png and their labels into FILE_labels.png"
  )
  for kind in get_args(SourceName):
    if kind != "people":
      _add_prepare(kinds, kind)

  doctor = _add_command(commands, "doctor", _doctor, "examine a data set: what is wrong with it, and what helps")
  doctor.add_argument("path", metavar="PATH", help="where it lies: a folder, a file or a URL")
  doctor.add_argument("--source", choices=get_args(SourceName), metavar="KIND", help="its kind (recognised by looking)")
  doctor.add_argument("--split", metavar="NAME", help="which part of it")
  doctor.add_argument("--json", action="store_true", help="print everything as JSON")
  doctor.add_argument("--out", metavar="DIR", help="folder for a picture of the sizes and for lists of names")
  doctor.add_argument("--limit", type=int, default=100_000, metavar="N", help="images looked at, if more (100000)")
  doctor.add_argument("--all", action="store_true", help="look at all images")
  doctor.add_argument("--subset", type=int, metavar="N", help="choose N images and list them in DIR/subset.txt")
  doctor.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the choice (0)")

  import_ = _add_command(commands, "import", _import, "make published weights ready for pre-training from them")
  import_.add_argument("--from", required=True, dest="source", metavar="PATH", help="file of weights, or a timm folder")
  import_.add_argument(
      "--dialect", metavar="NAME", help="saip, timm, mae, dino or safetensors (recognised by the names of the tensors)"
  )
  import_.add_argument("--out", required=True, metavar="DIR", help="folder to make")
  import_.add_argument(
      "--image-hw", type=_size, metavar="HxW",
      help="size in pixels that its positions are for, where the file does not say",
  )

  export = _add_command(
      commands, "export", _export, "write the encoder for PyTorch or ONNX, proven to compute the same there"
  )
  export.add_argument("--checkpoint", required=True, metavar="PATH", help="a run's folder, or weights of any dialect")
  export.add_argument(
      "--dialect", required=True, metavar="NAME",
      help="timm (a folder that timm and transformers load), safetensors, saip, mae, dino, vitpose, mmpose, onnx,"
      " torchscript",
  )
  export.add_argument("--out", required=True, metavar="DIR", help="folder to make")
  export.add_argument("--which", choices=("student", "teacher"), default="student", help="which network (student)")
  export.add_argument(
      "--image-hw", type=_size, metavar="HxW",
      help="size that positions are resampled to (that of the weights; vitpose 256x256, mmpose 256x192)",
  )
  export.add_argument(
      "--positions", choices=("grid2d", "flat1d"), default="grid2d",
      help="how: in two dimensions, or along the raster line as the published code does (grid2d)",
  )
  export.add_argument(
      "--with-preprocessing", action="store_true", help="onnx: a second file that takes uint8 pixels"
  )

  embed = _add_command(commands, "embed", _embed, "write the features of a folder of images into one file")
  embed.add_argument("--checkpoint", required=True, metavar="PATH", help="a run's folder, or weights of any dialect")
  embed.add_argument("--images", required=True, metavar="DIR", help="folder of images, searched to its depth")
  embed.add_argument(
      "--out", required=True, type=pathlib.Path, metavar="FILE",
      help="FILE.npz (arrays names, cls) or FILE.parquet (columns name, cls)",
  )
  embed.add_argument("--tokens", action="store_true", help="also the patch tokens; large: 96 KiB an image for vit_tiny")
  embed.add_argument("--which", choices=("student", "teacher"), default="student", help="which network (student)")
  embed.add_argument("--image-hw", type=_size, metavar="HxW", help="size of the input (what the weights are for)")
  embed.add_argument("--batch-size", type=int, default=64, metavar="N", help="images computed at once (64)")
  embed.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
  return parser


def _add_prepare(kinds, name: str) -> None:
  """The command that turns one kind of data set into shards."""
  kind = _add_command(
      kinds, name, _prepare, f"{name} data to ArrayRecord shards; started again, the same command goes on")
  kind.add_argument("--path", required=True, metavar="PATH", help="where it lies: a path or a URL")
  kind.add_argument("--out", required=True, metavar="DIR", help="folder or URL for the shards")
  kind.add_argument("--split", metavar="NAME", help="which part of it")
  kind.add_argument("--subset", metavar="FILE", help="list of names from saip doctor: these images alone")
  kind.add_argument("--max-side", type=int, metavar="N", help="shrink larger images to N pixels (all stay as they are)")
  kind.add_argument("--scenes", action="store_true", help="plain pixels of at most --scene-hw, for data.scene_path")
  kind.add_argument("--scene-hw", type=_size, default=(256, 256), metavar="HxW", help="size of scenes (256x256)")
  kind.add_argument("--margin", type=float, metavar="M", help="persons in photos: share of the box added around it (0.1)")
  kind.add_argument("--min-side", type=int, metavar="N", help="persons in photos: leave out smaller boxes, pixels (16)")
  kind.add_argument("--depth", metavar="PLACE", help="depth beside the images: a folder, or a pattern as d/{stem}.png")
  kind.add_argument("--instances", metavar="PLACE", help="masks beside the images")
  kind.add_argument("--keypoints", metavar="PLACE", help="keypoints beside the images: .npy or .json")
  kind.add_argument("--pairs", metavar="FILE", help="lines of NAME<tab>NAME<tab>kind: the set holds these pairs")
  kind.add_argument("--processes", type=int, metavar="N", help="how many work (one for each core, at most 8)")
  kind.add_argument("--runner", metavar="NAME", help="Apache Beam's runner, for what outgrows one machine")
  kind.add_argument("--runner-options", default="", metavar="OPTIONS", help="for Beam, as on its command line")
  kind.set_defaults(kind=name)


def _add_command(commands, name: str, run, summary: str, **options) -> argparse.ArgumentParser:
  command = commands.add_parser(
      name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False, **options
  )
  if run:
    command.set_defaults(run=run, prog=command.prog)
    command.add_argument(
        "--traceback", action="store_true", default=bool(os.environ.get("SAIP_TRACEBACK")),
        help="show where an error comes from (or set SAIP_TRACEBACK=1)",
    )
  return command


def _size(text: str) -> tuple[int, int]:
  try:
    height, width = (int(part) for part in text.split("x"))
  except ValueError:
    raise argparse.ArgumentTypeError(f"{text!r} is no size; write height x width, as 256x128") from None
  return height, width


def _pretrain(options, overrides) -> int:
  from input_pipeline.pipeline import build_train_data
  from saip_jax.config import apply_overrides, load_recipe, parse_config
  from saip_jax.methods import METHODS
  from saip_jax.training.checkpoint import claim_workdir
  from saip_jax.training.distributed import first_host_first, initialize
  from saip_jax.training.loop import pretrain
  from saip_jax.typed import to_dict

  config = parse_config(apply_overrides(load_recipe(options.config), overrides))
  initialize(options.coordinator, options.processes, options.process)
  method = METHODS[config.method.name].build(config)
  with first_host_first():  # what it renders, indexes and writes, the others find
    workdir = claim_workdir(options.workdir, to_dict(config))
    data = build_train_data(
        source=config.data.source,
        path=config.data.path,
        scene_path=config.data.scene_path,
        cache_dir=workdir,
        canvas_hw=config.data.canvas_hw,
        scene_canvas_hw=config.data.scene_canvas_hw,
        batch_size=config.batch_size,
        seed=config.seed,
        workers=config.data.workers,
        threads=config.data.threads,
        max_damaged_fraction=config.data.max_damaged_fraction,
        people_count=config.data.people_count,
        split=config.data.split,
        subset=config.data.subset,
        mixture=to_dict(config.data)["mixture"],
    )
  pretrain(config, method, data, workdir)
  return 0


def _compile(options, overrides) -> int:
  import json

  from saip_jax.config import apply_overrides, load_recipe, parse_config
  from saip_jax.training.compile import OutOfMemory, examine, search_largest
  from saip_jax.training.compile_report import out_of_memory_facts, report_text
  from saip_jax.training.topologies import find_topology

  batch = [] if options.batch is None else [f"--config.batch_size={options.batch}"]
  config = parse_config(apply_overrides(load_recipe(options.config), overrides + batch))
  topology = find_topology(options.topology)
  try:
    facts = examine(config, topology)
    first = config.batch_size, facts["hbm"]["total"]
  except OutOfMemory as error:
    facts = out_of_memory_facts(config, topology, error)
    first = config.batch_size, max(error.needed, error.limit + 1)
  if options.largest:
    facts["largest_batch"], facts["tried_batches"] = search_largest(config, topology, first, facts["hbm"]["state"])
  print(json.dumps(facts, indent=2) if options.json else report_text(facts))
  return 0 if facts["fits"] else 1


def _prepare_people(options) -> int:
  from input_pipeline.people.spec import SetSpec
  from input_pipeline.people.prepare import check_request, prepare_people, usual_identities

  if not options.preview and (options.out is None or options.count is None):
    raise ValueError("--out=DIR and --count=N are needed, or --preview=FILE.png; see saip prepare people --help")
  composition = options.composition or ("scenes" if options.export == "coco" else "crops")
  image_hw = options.image_hw or ((480, 640) if composition == "scenes" else (256, 128))
  count = _PREVIEWED_COUNT if options.count is None else options.count
  identities = usual_identities(composition, count) if options.identities is None else options.identities
  spec = SetSpec(composition, image_hw, options.seed, identities)
  check_request(spec, count, options.export)
  if options.preview:
    from input_pipeline.people.preview import draw_preview

    for path in draw_preview(options.preview, spec, min(count, _PREVIEW_COUNT)):
      print(path)
  if options.out:
    prepare_people(options.out, spec, count, options.export)
    print(f"{count} images in {options.out}")
  return 0


def _prepare(options) -> int:
  from input_pipeline.prepare.companions import Companions
  from input_pipeline.prepare.prepare import prepare
  from input_pipeline.prepare.shard import PrepareRequest

  companions = Companions(options.depth, options.instances, options.keypoints, options.pairs)
  request = PrepareRequest(
      options.kind, options.path, options.split, options.subset, options.margin, options.min_side, companions,
      options.max_side, options.scene_hw if options.scenes else None,
  )
  manifest = prepare(
      request, options.out, processes=options.processes, runner=options.runner, runner_options=options.runner_options
  )
  print(f"{manifest['count']:,} images in {len(manifest['shards'])} shards in {options.out}")
  if manifest["left_out"]:
    print(f"{manifest['left_out']:,} left out, listed in {options.out}/left_out.txt")
  return 0


def _doctor(options) -> int:
  import json

  from input_pipeline.doctor.checkup import doctor
  from input_pipeline.doctor.report import report_text

  facts = doctor(
      options.path, source=options.source, split=options.split, out=options.out, limit=options.limit,
      whole=options.all, subset=options.subset, seed=options.seed,
  )
  print(json.dumps(facts, indent=2) if options.json else report_text(facts))
  return 0


def _embed(options) -> int:
  from saip_jax.evaluation.feature_files import skipped_path
  from saip_jax.evaluation.features import embed_images

  embedded = embed_images(
      options.checkpoint, options.images, options.out, options.which, options.image_hw, options.tokens,
      options.batch_size, options.overwrite,
  )
  shapes = ", ".join(f"{name} {shape}" for name, shape in embedded.shapes.items())
  print(f"{embedded.count} images in {options.out}: {shapes}")
  if embedded.skipped:
    print(f"{len(embedded.skipped)} images skipped, listed in {skipped_path(options.out)}")
  return 0


def _import(options) -> int:
  from saip_jax.interop.importing import import_weights, report

  weights = import_weights(options.source, options.dialect, options.out, options.image_hw)
  print("\n".join(report(weights, options.out)))
  return 0


def _export(options) -> int:
  from saip_jax.interop.export import export_weights, summary

  record = export_weights(
      options.checkpoint, options.dialect, options.out, options.which, options.image_hw, options.positions,
      options.with_preprocessing,
  )
  print(summary(record, options.out))
  return 0
