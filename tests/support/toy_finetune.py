"""Fine-tuning at toy size: the data, the settings and the command."""

import dataclasses
import functools

import pytest

from input_pipeline.fields.table import FIELDS
from input_pipeline.people import prepare
from input_pipeline.people.dataset import PeopleSource
from input_pipeline.people.spec import SetSpec
from input_pipeline.pipeline import TrainData
from saip_jax import cli
from saip_jax.heads.image_text import ImageTextHead
from saip_jax.heads.upsampling import UpsamplingHead
from saip_jax.methods.finetune import dense, text
from saip_jax.methods.finetune.config import class_settings
from saip_jax.methods.finetune.tasks import SUPERVISED
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from tests.support.tiny_methods import REPO
from tests.support.toy_people import toy_picture
from tests.support.toy_weights import add_toy_backbone

TINY = (
  "batch_size=8",
  "total_steps=4",
  "checkpoint_every=2",
  "data.canvas_hw=(64, 32)",
  "data.threads=1",
  "model.image_hw=(64, 32)",
  "optimizer.warmup_fraction=0.0",
)


def add_toys(monkeypatch) -> None:
  """Makes `vit_toy` known and heads narrow."""
  add_toy_backbone(monkeypatch)
  monkeypatch.setattr(dense, "UpsamplingHead", functools.partial(UpsamplingHead, width=16))
  monkeypatch.setattr(text, "ImageTextHead", functools.partial(ImageTextHead, width=16, depth=1, heads=2))


def prepare_toys(out, composition="crops"):
  """Writes a set of 96 toy pictures and returns its folder: of 12 persons, or scenes of several."""
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.setattr(prepare, "render_picture", toy_picture)
    spec = SetSpec(composition, (64, 32), 0, 12 if composition == "crops" else 120)
    prepare.prepare_people(out, spec, 96, progress=False, processes=1)
  return out


def config_of(task, people, *overrides):
  """Returns the settings of a demo at toy size, with the head that the set needs."""
  recipe = load_recipe(REPO / "configs" / f"finetune_{task}_demo.py")
  names = FIELDS[SUPERVISED[task].label](PeopleSource(people, "train")).classes
  settings = (*TINY, f"data.path={people}", "model.backbone=vit_toy", *overrides)
  recipe["method"] |= class_settings(task, names)
  return parse_config(apply_overrides(recipe, [f"--config.{s}" for s in settings]))


def data_of(people, config, method):
  return TrainData(
    PeopleSource(people, "train"),
    None,
    dataclasses.replace(config.data, threads=1, max_damaged_fraction=0.0),
    fields=tuple(method.batch_spec(1)),
    batch_size=config.batch_size,
    seed=config.seed,
  )


def evaluate_finetuned(task, people, *arguments, recipe=None, checkpoint="random:vit_toy"):
  """Runs `saip evaluate --finetune` at toy size and returns its status."""
  recipe = recipe or REPO / "configs" / f"finetune_{task}_demo.py"
  settings = [f"--config.{s}" for s in (*TINY, "batch_size=8", "log_every=2")]
  return cli.main(
    [
      "evaluate",
      f"--checkpoint={checkpoint}",
      f"--task={task}",
      f"--data=people:{people}",
      f"--finetune={recipe}",
      *settings,
      *arguments,
    ]
  )
