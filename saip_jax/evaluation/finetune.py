"""`saip evaluate --finetune`: fine-tunes the backbone of a checkpoint on a task, and measures the result.

It trains in the loop of pre-training, so the same command resumes a run that was stopped.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from input_pipeline.fields.table import FIELDS
from input_pipeline.names import shown
from input_pipeline.pipeline import TrainData
from input_pipeline.storage import utf8_path
from saip_jax.backbones import BACKBONES
from saip_jax.config import RunConfig
from saip_jax.evaluation.encoders import Encoder, flip_tested
from saip_jax.evaluation.evaluate import run_of, run_protocol, save_record
from saip_jax.evaluation.monitors import monitors_for
from saip_jax.evaluation.splits import Data, LabeledImages
from saip_jax.evaluation.tasks.finetuned import FINETUNED
from saip_jax.interop.weights import open_weights
from saip_jax.methods import METHODS
from saip_jax.methods.finetune.config import class_settings
from saip_jax.methods.finetune.tasks import SUPERVISED
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.running import train_in_folder
from saip_jax.training.state import TrainState

PROTOCOL = "finetune"

_SET_BY_FLAGS = {
  "data.source": "--data",
  "data.path": "--data",
  "data.subset": "--data",
  "data.mixture": "--data",
  "data.split": "--train-split",
  "data.people_count": "--people-count",
  "data.whole_photos": "--task",
  "method.classes": "--data",
  "method.flip_pairs": "--data",
  "model.backbone": "--checkpoint",
  "model.heads": "--checkpoint",
  "model.last_heads": "--checkpoint",
  "init_from": "--checkpoint",
  "init_heads": "--checkpoint",
  "init_which": "--which",
}
"""Setting -> the flag that decides it; a recipe's value is replaced, an override is refused."""


@dataclasses.dataclass(frozen=True)
class _Start:
  """The weights that a run starts from.

  Attributes:
    backbone: a key of `BACKBONES`.
    init_from: the setting: a file, a folder, or one checkpoint of a run; None for random weights.
    which: "student" or "teacher", of these weights.
    facts: JSON-able, for records.
    own_heads: see `BackboneSpec.own_heads`.
  """

  backbone: str
  init_from: str | None
  which: str
  facts: dict[str, Any]
  own_heads: dict[str, int | None] = dataclasses.field(default_factory=dict)


def finetune(
  checkpoint: str,
  task: str,
  data: Data,
  recipe: str,
  overrides: Sequence[str] = (),
  workdir: str | None = None,
  image_hw: tuple[int, int] | None = None,
  seed: int = 0,
  which: str = "student",
  flip_test: bool = False,
  show: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
  """Fine-tunes the backbone of a checkpoint on a task and measures it.

  Args:
    checkpoint: an argument of `interop.weights.open_weights`, or "random:NAME".
    task: a key of `SUPERVISED`.
    data: the data set; the split that probes are fitted on is used for training.
    recipe: the recipe, as configs/finetune_reid.py; the data, the backbone and the size of the head come from the other
      arguments.
    overrides: settings on top of it, as in `saip pretrain`.
    workdir: folder of the run; None: W/finetune/NAME in the folder of the checkpoint's run, where NAME is the name of
      the recipe, with "_teacher" appended for a teacher.
    image_hw: size in pixels of the input; None: the size in the recipe.
    seed: of random weights, for "random:NAME".
    which: "student" or "teacher", of weights that have both.
    flip_test: measure the mean over each image and its mirror image.
    show: called with the record before it is written.

  Returns:
    A record as of `evaluate.evaluate`, written to the same place; its protocol is "finetune".

  Raises:
    ValueError: settings, data or weights that do not fit; or the run was stopped before its end.
  """
  if task not in FINETUNED:
    raise ValueError(f"--finetune: {task} cannot be fine-tuned here; choose one of: {', '.join(FINETUNED)}")
  if flip_test and not FINETUNED[task].flip_test:
    able = ", ".join(name for name, measured in FINETUNED.items() if measured.flip_test)
    raise ValueError(f"--flip-test: {task}, fine-tuned, has none; expected one of: {able}")
  start = _start_of(checkpoint, seed, which)
  _config(recipe, overrides, task, data, None, start, image_hw, seed)  # user errors show before data is read
  if workdir is None:
    run = run_of(checkpoint)
    if run is None:
      raise ValueError(f"--workdir is needed: --checkpoint={checkpoint} is no run whose folder could hold it")
    workdir = run / "finetune" / (pathlib.Path(recipe).stem + "_teacher" * (which == "teacher"))
  workdir = utf8_path(workdir, "--workdir")
  train = data.train_and_test(SUPERVISED[task].whole)[0]
  config = _config(recipe, overrides, task, data, train, start, image_hw, seed)
  method = METHODS[PROTOCOL].build(config)
  images = TrainData(
    train.source, None, config.data, fields=tuple(method.batch_spec(1)), batch_size=config.batch_size, seed=config.seed
  )
  state = train_in_folder(config, method, lambda _: images, workdir, monitors_for(config, method.backbone))
  if state.step < config.total_steps:
    raise ValueError(
      f"fine-tuning stopped at step {state.step} of {config.total_steps}, nothing was measured; the "
      "same command resumes it"
    )
  network = _network(config, state, start.facts)
  record = run_protocol(task, PROTOCOL, FINETUNED[task].protocol, flip_tested(network) if flip_test else network, data)
  record["facts"] |= {
    "recipe": str(recipe),
    "updates": config.total_steps,
    "batch_size": config.batch_size,
    "learning_rate": config.optimizer.learning_rate,
    "layer_decay": config.method.layer_decay,
    "workdir": str(workdir),
  }
  return save_record(checkpoint, record, show)


def _start_of(checkpoint: str, seed: int, which: str) -> _Start:
  kind, colon, name = checkpoint.partition(":")
  if colon and kind == "random":
    if name not in BACKBONES:
      raise ValueError(f"--checkpoint={checkpoint}: {name!r} is no backbone; choose one of: {', '.join(BACKBONES)}")
    return _Start(name, None, "student", {"checkpoint": checkpoint, "seed": seed})
  try:
    weights = open_weights(checkpoint)
    weights.backbone(which)
  except ValueError as error:
    raise ValueError(f"--checkpoint={checkpoint}: {error}") from error
  path = pathlib.Path(checkpoint).expanduser().absolute()
  if run_of(checkpoint) == pathlib.Path(checkpoint).expanduser():  # a run, which may go on: use this checkpoint
    path = path / "checkpoints" / str(weights.step)
  facts = {"checkpoint": shown(weights.origin), "which": which, "backbone": weights.spec.name}
  return _Start(weights.spec.name, str(path), which, facts, weights.spec.own_heads)


def _config(
  recipe: str,
  overrides: Sequence[str],
  task: str,
  data: Data,
  train: LabeledImages | None,
  start: _Start,
  image_hw,
  seed: int,
) -> RunConfig:
  """Returns the config of the run: that of the recipe, with all settings that the other arguments decide.

  Args: train: the images to train on; None: the settings are checked as for a single class.
  """
  set_by = _SET_BY_FLAGS | ({} if start.init_from else {"seed": "--seed"})
  for override in overrides:
    name = override.partition("=")[0].removeprefix("--config.")
    if name in set_by:
      raise ValueError(f"--config.{name} is set by {set_by[name]} with --finetune: leave it out")
  settings = apply_overrides(load_recipe(recipe, "--finetune"), overrides)
  method = settings.get("method", {})
  if method.get("name") != PROTOCOL or method.get("task") != task:
    found = " ".join(filter(None, (method.get("name"), method.get("task"))))
    raise ValueError(
      f"--finetune={recipe} is a recipe of {found or 'nothing'}: --task={task} needs one of {PROTOCOL} "
      f"{task}, as configs/finetune_{task}.py"
    )
  names = FIELDS[SUPERVISED[task].label](train.source).classes if train else ("any",)
  settings["method"] = method | class_settings(task, names)
  size = image_hw or settings["model"]["image_hw"]
  settings["model"] = {"backbone": start.backbone, "image_hw": size, **start.own_heads}
  settings["data"] = settings["data"] | {
    "source": data.kind,
    "path": data.path,
    "split": data.train_split,
    "people_count": data.people_count,
    "mixture": None,
    "subset": None,
    "whole_photos": SUPERVISED[task].whole,
  }
  settings |= {"init_from": start.init_from, "init_heads": False, "init_which": start.which}
  if start.init_from is None:
    settings["seed"] = seed
  return parse_config(settings)


def _network(config: RunConfig, state: TrainState, facts: dict[str, Any]) -> Encoder:
  """Returns the fine-tuned encoder, in float32."""
  method = METHODS[PROTOCOL].build(dataclasses.replace(config, precision="float32", remat="none"))
  return FINETUNED[config.method.task].open(method, *jax.device_get((state.params, state.method_state)), facts)
