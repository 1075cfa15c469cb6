"""`saip evaluate --finetune`: fine-tunes the backbone of a checkpoint on a task, and measures it.

It uses the training loop of pre-training, so the same command continues a run that was stopped.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from input_pipeline.checks import choices_hint
from input_pipeline.fields.table import FIELDS
from input_pipeline.names import shown
from input_pipeline.pipeline import TrainData
from input_pipeline.storage import as_place
from saip_jax.backbones import BACKBONES, OWN_ATTRIBUTES
from saip_jax.config import RunConfig
from saip_jax.evaluation.encoders import Encoder, flip_tested
from saip_jax.evaluation.evaluate import run_of, run_protocol, save_record
from saip_jax.evaluation.monitors import monitors_for
from saip_jax.evaluation.splits import Data, LabeledImages
from saip_jax.evaluation.tasks import TASKS
from saip_jax.evaluation.tasks.base import FINETUNE_PROTOCOL
from saip_jax.interop.pretrained import pretrained_folder
from saip_jax.interop.weights import open_weights
from saip_jax.methods import METHODS
from saip_jax.methods.finetune.config import class_settings
from saip_jax.methods.finetune.tasks import SUPERVISED
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.run_folder.files import CHECKPOINTS
from saip_jax.run_folder.remote import joined
from saip_jax.running import train_in_folder
from saip_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class _Start:
  """The initial weights of a run.

  Attributes:
    backbone: a key of `BACKBONES`.
    init_from: the setting: a file, a folder, or one checkpoint of a run; None for random weights.
    which: "student" or "teacher".
    facts: JSON-able facts, for records.
    own_attributes: see `BackboneSpec.own_attributes`.
  """

  backbone: str
  init_from: str | None
  which: str
  facts: dict[str, Any]
  own_attributes: dict[str, int | float] = dataclasses.field(default_factory=dict)


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
  keep_draws: bool = False,
) -> dict[str, Any]:
  """Fine-tunes the backbone of a checkpoint on a task and measures it.

  Args:
    checkpoint: a path that `interop.weights.open_weights` reads, or "random:NAME".
    task: a key of `SUPERVISED`.
    data: the data set; the network is trained on its training part.
    recipe: path or name of the recipe, such as finetune_reid; data, backbone and classes are set by the other
      arguments.
    overrides: overrides of settings, as for `saip pretrain`.
    workdir: folder of the run; None for W/finetune/NAME in the run of the checkpoint, where NAME is that of the recipe,
      with the suffix "_teacher" for a teacher.
    image_hw: size in pixels of the input; None for that of the recipe.
    seed: seed of random weights, for "random:NAME".
    which: "student" or "teacher", for weights that have both.
    flip_test: average over each image and its mirror image.
    show: called with the record before it is saved.
    keep_draws: see `evaluate.measure`.

  Returns:
    A record like that of `evaluate.evaluate`, saved in the same file; its protocol is "finetune".

  Raises:
    ValueError: settings, data or weights that do not fit; or the run was stopped before its end.
  """
  finetuned = {name: t.finetuned for name, t in TASKS.items() if t.finetuned}
  if task not in finetuned:
    raise ValueError(f"--finetune does not support {task}; choose one of: {', '.join(finetuned)}")
  if flip_test and not finetuned[task].flip_test:
    able = ", ".join(name for name, measured in finetuned.items() if measured.flip_test)
    raise ValueError(f"--flip-test is not supported by fine-tuned {task}; expected one of: {able}")
  start = _start_of(checkpoint, seed, which)
  _config(recipe, overrides, task, data, None, start, image_hw, seed)  # errors are raised before data is read
  if workdir is None:
    run = run_of(checkpoint)
    if run is None:
      raise ValueError(f"--workdir is needed: --checkpoint={checkpoint} does not belong to a run")
    workdir = joined(run, "finetune", pathlib.Path(recipe).stem + "_teacher" * (which == "teacher"))
  workdir = as_place(workdir, "--workdir", writable=True)
  train = data.train_and_test(SUPERVISED[task].whole)[0]
  config = _config(recipe, overrides, task, data, train, start, image_hw, seed)
  method = METHODS[FINETUNE_PROTOCOL].build(config)
  images = TrainData(
    train.source, None, config.data, fields=tuple(method.batch_spec(1)), batch_size=config.batch_size, seed=config.seed
  )
  state = train_in_folder(config, method, lambda _: images, workdir, monitors_for(config, method.backbone))
  if state.step < config.total_steps:
    raise ValueError(
      f"fine-tuning stopped at step {state.step} of {config.total_steps}, without a measurement; the "
      "same command continues it"
    )
  network = _network(config, state, start.facts)
  network = flip_tested(network) if flip_test else network
  record = run_protocol(task, FINETUNE_PROTOCOL, finetuned[task].protocol, network, data, keep_draws)
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
      raise ValueError(f"--checkpoint={checkpoint}: {name!r} is not a backbone{choices_hint(name, list(BACKBONES))}")
    return _Start(name, None, "student", {"checkpoint": checkpoint, "seed": seed})
  try:
    weights = open_weights(checkpoint)
    weights.backbone(which)
  except ValueError as error:
    raise ValueError(f"--checkpoint={checkpoint}: {error}") from error
  place = as_place(checkpoint, "--checkpoint")
  path = place if isinstance(place, str) or pretrained_folder(place) else place.absolute()
  if run_of(checkpoint) == place:  # a run may continue: use this checkpoint
    path = joined(path, CHECKPOINTS, str(weights.step))
  facts = {"checkpoint": shown(weights.origin), "which": which, "backbone": weights.spec.name}
  return _Start(weights.spec.name, str(path), which, facts, weights.spec.own_attributes)


def _config(
  recipe: str,
  overrides: Sequence[str],
  task: str,
  data: Data,
  train: LabeledImages | None,
  start: _Start,
  image_hw: tuple[int, int] | None,
  seed: int,
) -> RunConfig:
  """Returns the config of the run: the recipe, and the settings that the options of the command set.

  Without training data, the settings are checked with a single class.
  """
  names = FIELDS[SUPERVISED[task].label](train.source).classes if train else ("any",)
  by_option = _settings_by_option(task, data, names, start, seed)
  for override in overrides:
    setting = override.partition("=")[0].removeprefix("--config.")
    if setting in by_option:
      raise ValueError(f"--config.{setting} is set by {by_option[setting][0]} with --finetune: leave it out")
  settings = apply_overrides(load_recipe(recipe, "--finetune"), overrides)
  method = settings.get("method", {})
  if method.get("name") != FINETUNE_PROTOCOL or method.get("task") != task:
    found = " ".join(filter(None, (method.get("name"), method.get("task"))))
    raise ValueError(
      f"--finetune={recipe} is a recipe of {found or 'no method'}: --task={task} needs one of {FINETUNE_PROTOCOL} "
      f"{task}, such as finetune_{task}"
    )
  settings["model"] = {"image_hw": image_hw or settings["model"]["image_hw"]}
  for setting, (_, value) in by_option.items():
    section, _, name = setting.rpartition(".")
    (settings[section] if section else settings)[name] = value
  return parse_config(settings)


def _settings_by_option(
  task: str, data: Data, names: Sequence[str], start: _Start, seed: int
) -> dict[str, tuple[str, Any]]:
  """Returns setting -> (the option of the command that sets it, its value).

  Args:
    task: a key of `SUPERVISED`.
    data: the data set.
    names: names of its classes.
    start: the initial weights.
    seed: seed of random weights.
  """
  of_data = {
    "data.source": ("--data", data.kind),
    "data.path": ("--data", data.path),
    "data.subset": ("--data", None),
    "data.hold_out": ("--hold-out", data.hold_out),
    "data.mixture": ("--data", None),
    "data.split": ("--train-split", data.train_split),
    "data.people_count": ("--people-count", data.people_count),
    "data.whole_photos": ("--task", SUPERVISED[task].whole),
  }
  of_classes = {f"method.{name}": ("--data", value) for name, value in class_settings(task, names).items()}
  of_weights = {
    "model.backbone": ("--checkpoint", start.backbone),
    **{f"model.{name}": ("--checkpoint", start.own_attributes.get(name)) for name in OWN_ATTRIBUTES},
    "init_from": ("--checkpoint", start.init_from),
    "init_heads": ("--checkpoint", False),
    "init_which": ("--which", start.which),
  }
  of_random_weights = {} if start.init_from else {"seed": ("--seed", seed)}
  return of_data | of_classes | of_weights | of_random_weights


def _network(config: RunConfig, state: TrainState, facts: dict[str, Any]) -> Encoder:
  """Returns the encoder of the fine-tuned network, in float32."""
  exact = dataclasses.replace(config, precision="float32", remat="none")
  method = METHODS[FINETUNE_PROTOCOL].build(exact, attention="xla")
  return TASKS[config.method.task].finetuned.open(method, *jax.device_get((state.params, state.method_state)), facts)
