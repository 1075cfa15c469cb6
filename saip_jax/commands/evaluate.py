"""`saip evaluate`."""

import sys

from saip_jax.commands.flags import RECIPE_HELP, local_path_flag, place_flag, size_flag

EXAMPLE = "saip evaluate --checkpoint=runs/demo --task=reid --data=people"
PAGE = "evaluation/index"


def add_flags(parser) -> None:
  parser.epilog = (
    "Scores of a run are appended to W/evaluations.jsonl; if that file cannot be written, the"
    " scores are still printed, with a warning on standard error, and the exit status stays 0. With"
    " --finetune any setting of the recipe can be changed, as in saip pretrain; the same command resumes a"
    " training that was stopped."
  )
  parser.add_argument(
    "--checkpoint",
    required=True,
    type=place_flag,
    metavar="WHAT",
    help="a run's folder, weights of any dialect, an exported model.onnx, saip_nano_people (a model of this package), "
    "random:vit_tiny; without a network: histogram (colors), constant (the score without an image)",
  )
  parser.add_argument(
    "--task",
    required=True,
    metavar="NAME[:PROTOCOL],...",
    help="reid, text, attributes, keypoints, wholebody, detection, parsing, segmentation, multi_parsing, joints3d, "
    "depth, correspondence or cross_modality; several of them are measured one after the other",
  )
  parser.add_argument("--data", required=True, metavar="SOURCE:PATH", help="people, market1501:DIR, coco:FILE, ...")
  parser.add_argument("--protocol", metavar="NAME", help="protocol of a single task (its first)")
  parser.add_argument(
    "--finetune",
    type=local_path_flag,
    metavar="FILE",
    help="train the backbone on the task first; " + RECIPE_HELP.format("finetune_reid"),
  )
  parser.add_argument(
    "--workdir", type=place_flag, metavar="DIR", help="folder of that training (W/finetune/NAME in the run's)"
  )
  parser.add_argument("--train-split", metavar="NAME", help="split that probes are fitted on (train)")
  parser.add_argument("--test-split", metavar="NAME", help="split that is measured (test, or val)")
  parser.add_argument(
    "--hold-out", action="store_true", help="cut --train-split in two by identity instead, 7 : 3, always the same way"
  )
  parser.add_argument(
    "--train-fraction", type=float, default=1.0, metavar="F", help="share of the identities that are trained on (1)"
  )
  parser.add_argument(
    "--people-count", type=int, default=2048, metavar="N", help="images of the default set of people (2048)"
  )
  parser.add_argument("--which", choices=("student", "teacher"), default="student", help="which network (student)")
  parser.add_argument("--image-hw", type=size_flag, metavar="HxW", help="size of the input (what the weights are for)")
  parser.add_argument(
    "--flip-test", action="store_true", help="average over each image and its mirror image; recorded with the score"
  )
  parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of random weights (0)")
  parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options, settings) -> int:
  import contextlib
  import json

  from input_pipeline.storage import cache_folder
  from saip_jax.evaluation.evaluate import evaluate_tasks, evaluation_text, find_protocol, named_tasks
  from saip_jax.evaluation.splits import Data

  data = Data.parse(
    options.data,
    cache_dir=cache_folder(),
    people_count=options.people_count,
    train_split=options.train_split,
    test_split=options.test_split,
    hold_out=options.hold_out,
    train_fraction=options.train_fraction,
  )
  output = sys.stdout
  show = lambda record: print(
    json.dumps(record, indent=2) if options.json else evaluation_text(record), file=output, flush=True
  )
  if options.finetune is None:
    if settings or options.workdir:
      raise ValueError(f"{(settings or ['--workdir'])[0]!r} is for --finetune; see {options.prog} --help")
    evaluate_tasks(
      options.checkpoint,
      named_tasks(options.task, options.protocol),
      data,
      options.which,
      options.image_hw,
      options.seed,
      options.flip_test,
      show,
    )
    return 0
  find_protocol(options.task, None)
  if options.protocol:
    raise ValueError("--finetune measures in its own way: leave out --protocol")
  from saip_jax.evaluation.finetune import finetune

  with contextlib.redirect_stdout(sys.stderr):  # the record alone is the command's output
    finetune(
      options.checkpoint,
      options.task,
      data,
      options.finetune,
      settings,
      options.workdir,
      options.image_hw,
      options.seed,
      options.which,
      options.flip_test,
      show,
    )
  return 0
