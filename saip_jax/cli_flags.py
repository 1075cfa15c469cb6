"""The flags of the `saip` command: what a person may write, and nothing of what it does."""

import argparse
import os

import saip_jax
from input_pipeline.sources.kinds import SOURCE_KINDS

_RECIPE = "recipe: a Python file, or the name of one that comes with the program, as {0} or configs/{0}.py"


class _Parser(argparse.ArgumentParser):
  """argparse with errors of one line."""

  def error(self, message):
    self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
  """Returns the parser; its `run` names the function of cli.py that is called."""
  parser = _Parser(
    prog="saip",
    description=saip_jax.__doc__,
    allow_abbrev=False,
    epilog="saip COMMAND --help tells the flags of a command.",
  )
  parser.add_argument("--version", action="version", version=f"saip {saip_jax.__version__}")
  commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

  pretrain = _add_command(
    commands,
    "pretrain",
    "pretrain",
    "pre-train a model; started again, the same command goes on where it stopped",
    epilog="Any setting of the recipe can be changed: --config.batch_size=8 --config.optimizer.learning_rate=1e-3",
  )
  pretrain.add_argument("--config", required=True, type=_local, metavar="FILE", help=_RECIPE.format("saip_demo"))
  pretrain.add_argument(
    "--workdir", required=True, type=_local, metavar="DIR", help="folder for all outputs of this run"
  )
  pretrain.add_argument(
    "--coordinator",
    metavar="HOST:PORT",
    help="several hosts: an address on the machine of process 0 (Cloud TPU, Slurm and Kubernetes tell it themselves)",
  )
  pretrain.add_argument("--processes", type=int, metavar="N", help="several hosts: their number")
  pretrain.add_argument("--process", type=int, metavar="I", help="several hosts: which one this is, from 0")

  compile_ = _add_command(
    commands,
    "compile",
    "compile",
    "compile the step for TPUs without having one: does it fit, how fast at best",
    epilog="Any setting of the recipe can be changed, as in saip pretrain. Exit status 1: it does not fit.",
  )
  compile_.add_argument("--config", required=True, type=_local, metavar="FILE", help=_RECIPE.format("saip_vit_tiny"))
  compile_.add_argument(
    "--topology", required=True, metavar="NAME", help="Google Cloud's name of the chips: v5e-8, v5e-256, v4-64, ..."
  )
  compile_.add_argument("--batch", type=int, metavar="N", help="images per update, over all chips (the recipe's)")
  compile_.add_argument("--largest", action="store_true", help="search the largest batch that fits: up to 5 compiles")
  compile_.add_argument("--json", action="store_true", help="print everything as JSON")

  prepare = _add_command(commands, "prepare", None, "make a data set")
  kinds = prepare.add_subparsers(dest="kind", required=True, metavar="KIND")
  people = _add_command(
    kinds,
    "people",
    "prepare_people",
    "render built-in people; started again, the same command goes on",
    epilog="A new set needs --out and --count; --preview alone draws pictures and writes no set.",
  )
  people.add_argument("--out", type=_local, metavar="DIR", help="folder for the set")
  people.add_argument("--count", type=int, metavar="N", help="number of pictures")
  people.add_argument("--image-hw", type=_size, metavar="HxW", help="size in pixels (256x128; scenes 480x640)")
  people.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the people (0)")
  people.add_argument(
    "--composition",
    metavar="NAME",
    help="crops: single people; views: one instant by four cameras; clips: eight frames of a motion; scenes: streets"
    " of up to twelve people (crops; scenes with --export=coco)",
  )
  people.add_argument(
    "--identities",
    type=int,
    metavar="K",
    help="number of different people (one for 8 pictures; scenes: one for each, 120 or more)",
  )
  people.add_argument("--export", metavar="FORMAT", help="coco or market1501: files for other tools, not for training")
  people.add_argument(
    "--preview",
    type=_local,
    metavar="FILE",
    help="draw the first pictures into FILE.png and their labels into FILE_labels.png",
  )
  for kind in SOURCE_KINDS:
    if kind != "people":
      _add_prepare(kinds, kind)

  doctor = _add_command(commands, "doctor", "doctor", "examine a data set: what is wrong with it, and what helps")
  doctor.add_argument("path", metavar="PATH", help="where it lies: a folder, a file or a URL")
  doctor.add_argument("--source", choices=tuple(SOURCE_KINDS), metavar="KIND", help="its kind (recognized by looking)")
  doctor.add_argument("--split", metavar="NAME", help="which part of it")
  doctor.add_argument("--json", action="store_true", help="print everything as JSON")
  doctor.add_argument("--out", metavar="DIR", help="folder for a picture of the sizes and for lists of names")
  doctor.add_argument("--limit", type=int, default=100_000, metavar="N", help="images looked at, if more (100000)")
  doctor.add_argument("--all", action="store_true", help="look at all images")
  doctor.add_argument("--subset", type=int, metavar="N", help="choose N images and list them in DIR/subset.txt")
  doctor.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the choice (0)")

  import_ = _add_command(commands, "import", "import", "make published weights ready for pre-training from them")
  import_.add_argument(
    "--from", required=True, dest="source", type=_local, metavar="PATH", help="file of weights, or a timm folder"
  )
  import_.add_argument(
    "--dialect", metavar="NAME", help="saip, timm, mae, dino or safetensors (recognized by the names of the tensors)"
  )
  import_.add_argument("--out", required=True, type=_local, metavar="DIR", help="folder to make")
  import_.add_argument(
    "--image-hw",
    type=_size,
    metavar="HxW",
    help="size in pixels that its positions are for, where the file does not say",
  )
  import_.add_argument(
    "--part",
    metavar="NAME",
    help="section or module of the file that holds the encoder, where it has several: model_ema, base_encoder, ...",
  )
  import_.add_argument("--heads", type=int, metavar="N", help="attention heads of a ViT, where the file does not say")
  import_.add_argument("--last-heads", type=int, metavar="N", help="those of its last block (as in the others)")

  export = _add_command(
    commands, "export", "export", "write the encoder for PyTorch or ONNX, proven to compute the same there"
  )
  export.add_argument(
    "--checkpoint", required=True, type=_local, metavar="PATH", help="a run's folder, or weights of any dialect"
  )
  export.add_argument(
    "--dialect",
    required=True,
    metavar="NAME",
    help="timm (a folder that timm and transformers load), safetensors, saip, mae, dino, vitpose, mmpose, onnx,"
    " torchscript",
  )
  export.add_argument("--out", required=True, type=_local, metavar="DIR", help="folder to make")
  export.add_argument(
    "--which",
    choices=("student", "teacher", "depth"),
    default="student",
    help="which network (student); depth: HCMoCo's encoder of depth",
  )
  export.add_argument(
    "--image-hw",
    type=_size,
    metavar="HxW",
    help="size that positions are resampled to (that of the weights; vitpose 256x256, mmpose 256x192)",
  )
  export.add_argument(
    "--positions",
    choices=("grid2d", "flat1d"),
    default="grid2d",
    help="how: in two dimensions, or along the raster line as the published code does (grid2d)",
  )
  export.add_argument("--with-preprocessing", action="store_true", help="onnx: a second file that takes uint8 pixels")

  embed = _add_command(commands, "embed", "embed", "write the features of a folder of images into one file")
  embed.add_argument(
    "--checkpoint", required=True, type=_local, metavar="PATH", help="a run's folder, or weights of any dialect"
  )
  embed.add_argument("--images", required=True, metavar="DIR", help="folder of images, searched to its depth")
  embed.add_argument(
    "--out",
    required=True,
    type=_local,
    metavar="FILE",
    help="FILE.npz (arrays names, cls) or FILE.parquet (columns name, cls)",
  )
  embed.add_argument("--tokens", action="store_true", help="also the patch tokens; large: 96 KiB an image for vit_tiny")
  embed.add_argument("--which", choices=("student", "teacher"), default="student", help="which network (student)")
  embed.add_argument("--image-hw", type=_size, metavar="HxW", help="size of the input (what the weights are for)")
  embed.add_argument("--batch-size", type=int, default=64, metavar="N", help="images computed at once (64)")
  embed.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")

  evaluate = _add_command(
    commands,
    "evaluate",
    "evaluate",
    "measure a checkpoint on a human-centric task, frozen or fine-tuned",
    epilog="A run remembers what was measured of it in W/evaluations.jsonl; where that file cannot be written, the"
    " scores are printed all the same, with a warning on standard error, and the exit status stays 0. With"
    " --finetune any setting of the recipe can be changed, as in saip pretrain; started again, the same command goes"
    " on where it stopped.",
  )
  evaluate.add_argument(
    "--checkpoint",
    required=True,
    type=_local,
    metavar="WHAT",
    help="a run's folder, weights of any dialect, random:vit_tiny; without a network: histogram (colors), constant "
    "(what can be said without looking)",
  )
  evaluate.add_argument(
    "--task",
    required=True,
    metavar="NAME",
    help="reid, text, attributes, keypoints, wholebody, detection, parsing, segmentation, multi_parsing, joints3d, "
    "depth, correspondence or cross_modality",
  )
  evaluate.add_argument("--data", required=True, metavar="SOURCE:PATH", help="people, market1501:DIR, coco:FILE, ...")
  evaluate.add_argument("--protocol", metavar="NAME", help="how, where a task is measured in several ways")
  evaluate.add_argument(
    "--finetune",
    type=_local,
    metavar="FILE",
    help="train the backbone on the task first; " + _RECIPE.format("finetune_reid"),
  )
  evaluate.add_argument(
    "--workdir", type=_local, metavar="DIR", help="folder of that training (W/finetune/NAME in the run's)"
  )
  evaluate.add_argument("--train-split", metavar="NAME", help="what probes are fitted on (train)")
  evaluate.add_argument("--test-split", metavar="NAME", help="what is measured (test, or val)")
  evaluate.add_argument(
    "--hold-out", action="store_true", help="cut --train-split in two by identity instead, 7 : 3, always the same way"
  )
  evaluate.add_argument(
    "--people-count", type=int, default=2048, metavar="N", help="pictures of the default set of people (2048)"
  )
  evaluate.add_argument("--which", choices=("student", "teacher"), default="student", help="which network (student)")
  evaluate.add_argument("--image-hw", type=_size, metavar="HxW", help="size of the input (what the weights are for)")
  evaluate.add_argument(
    "--flip-test", action="store_true", help="average over each image and its mirror image; told with the score"
  )
  evaluate.add_argument("--seed", type=int, default=0, metavar="S", help="of random weights (0)")
  evaluate.add_argument("--json", action="store_true", help="print everything as JSON")

  report = _add_command(
    commands,
    "report",
    "report",
    "one HTML page about a run: curves, pictures, scores; opens offline",
    epilog="Baselines stand beside a run by a file: saip evaluate --checkpoint=histogram ... --json >> FILE,"
    " then --compare FILE.",
  )
  report.add_argument("workdir", type=_local, metavar="W", help="the run's folder")
  report.add_argument(
    "--compare",
    nargs="+",
    default=(),
    type=_local,
    metavar="W2",
    help="other runs, or files of what saip evaluate --json printed",
  )
  report.add_argument("--out", type=_local, metavar="FILE", help="the page (W/report.html)")
  report.add_argument(
    "--data", default="people", metavar="SOURCE:PATH", help="images that the encoder is shown at work on (people)"
  )
  report.add_argument("--hold-out", action="store_true", help="--data without a test split: as in saip evaluate")
  return parser


def _add_prepare(kinds, name: str) -> None:
  """The command that turns one kind of data set into shards."""
  kind = _add_command(
    kinds, name, "prepare", f"{name} data to ArrayRecord shards; started again, the same command goes on"
  )
  kind.add_argument("--path", required=True, metavar="PATH", help="where it lies: a path or a URL")
  kind.add_argument("--out", required=True, metavar="DIR", help="folder or URL for the shards")
  kind.add_argument("--split", metavar="NAME", help="which part of it")
  kind.add_argument("--subset", metavar="FILE", help="list of names from saip doctor: these images alone")
  kind.add_argument("--max-side", type=int, metavar="N", help="shrink larger images to N pixels (all stay as they are)")
  kind.add_argument("--scenes", action="store_true", help="plain pixels of at most --scene-hw, for data.scene_path")
  kind.add_argument("--scene-hw", type=_size, default=(256, 256), metavar="HxW", help="size of scenes (256x256)")
  kind.add_argument("--margin", type=float, metavar="M", help="persons in photos: what is added around a box (0.1)")
  kind.add_argument("--min-side", type=int, metavar="N", help="persons in photos: leave out smaller boxes (16)")
  kind.add_argument("--depth", metavar="PLACE", help="depth beside the images: a folder, or a pattern as d/{stem}.png")
  kind.add_argument(
    "--depth-grid",
    type=_numbers(3),
    metavar="SCALE,X,Y",
    help="depth on a grid of its own: a point of it lies at SCALE times its place plus X,Y in the image, pixels",
  )
  kind.add_argument(
    "--depth-range", type=_numbers(2), metavar="NEAR,FAR", help="meters; depth outside of them is unknown"
  )
  kind.add_argument("--instances", metavar="PLACE", help="masks beside the images")
  kind.add_argument("--keypoints", metavar="PLACE", help="keypoints beside the images: .npy or .json")
  kind.add_argument("--joints", metavar="NAMES", help="what these keypoints are: coco, or names with commas between")
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
      "--traceback",
      action="store_true",
      default=bool(os.environ.get("SAIP_TRACEBACK")),
      help="show where an error comes from (or set SAIP_TRACEBACK=1)",
    )
  return command


def _numbers(count: int):
  """Reads so many numbers with commas between."""

  def read(text: str) -> tuple[float, ...]:
    try:
      numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
      numbers = ()
    if len(numbers) != count:
      raise argparse.ArgumentTypeError(f"{text!r}: expected {count} numbers with commas between")
    return numbers

  return read


def _local(text: str) -> str:
  """Refuses a URL where only files of this machine can be read or written."""
  from input_pipeline.storage import NO_URL, is_url

  if is_url(text):
    raise argparse.ArgumentTypeError(f"{text} is {NO_URL}")
  return text


def _size(text: str) -> tuple[int, int]:
  try:
    height, width = (int(part) for part in text.split("x"))
  except ValueError:
    raise argparse.ArgumentTypeError(f"{text!r} is no size; write height x width, as 256x128") from None
  return height, width
