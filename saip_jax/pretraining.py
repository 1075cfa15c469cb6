"""`saip pretrain` as a function: from a config to a trained state."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from input_pipeline.pipeline import TrainData, build_train_data
from saip_jax.config import RunConfig
from saip_jax.methods import METHODS
from saip_jax.methods.base import Method
from saip_jax.running import train_in_folder
from saip_jax.training.distributed import initialize
from saip_jax.training.state import TrainState


def pretrain(
  config: RunConfig,
  workdir,
  *,
  devices: Sequence[jax.Device] | None = None,
  coordinator: str | None = None,
  processes: int | None = None,
  process: int | None = None,
) -> TrainState:
  """Pre-trains a model, as `saip pretrain` does; called again, it continues from the newest checkpoint.

  >>> import saip_jax
  >>> from saip_jax.recipes import open_recipe
  >>> settings = ["model.backbone=vit_nano", "model.image_hw=(64,32)", "method.mae.depth=1", "data.people_count=24"]
  >>> settings += ["batch_size=8", "total_steps=1", "panel_every=0"]
  >>> config = open_recipe("mae_demo", [f"--config.{setting}" for setting in settings])
  >>> state = saip_jax.pretrain(config, "runs/demo")
  +-...
  finished step 1
  checkpoint ...runs/demo/checkpoints/1
  metrics    ...runs/demo/metrics.jsonl
  >>> backbone = saip_jax.load_backbone("runs/demo")
  >>> images = jax.numpy.zeros((2, *backbone.preprocessing.image_hw, 3), "uint8")
  >>> backbone.module.apply(backbone.variables, backbone.preprocessing(images)).cls.shape
  (2, 96)

  Args:
    config: the run, from `saip_jax.recipes.open_recipe`.
    workdir: folder of the run: new, empty, or of this run.
    devices: where to train; None uses all devices.
    coordinator: with several processes, HOST:PORT on the machine of process 0, see `training.distributed.initialize`.
    processes: their number.
    process: which one this is, from 0.

  Returns:
    The state after the last update done.

  Raises:
    ValueError: settings, data or a folder that do not fit.
    NonFiniteLoss: a loss became infinite or NaN.
    CheckpointError: a checkpoint could not be written.
  """
  initialize(coordinator, processes, process)
  method, open_data, monitors = parts_of(config)
  return train_in_folder(config, method, open_data, workdir, monitors, devices)


def parts_of(config: RunConfig) -> tuple[Method, Callable[[Path], TrainData], Callable[..., Any] | None]:
  """Returns (method, folder for indexes -> opened data, parameters of the encoder -> monitors or None)."""
  entry = METHODS[config.method.name]
  method = entry.build(config)

  def open_data(workdir: Path):
    fields = tuple(method.batch_spec(config.batch_size))
    data = build_train_data(
      config.data, fields=fields, batch_size=config.batch_size, seed=config.seed, cache_dir=workdir
    )
    entry.check_data(config.method, data)
    return data

  monitors = None
  if config.monitor_every:
    from saip_jax.evaluation.monitors import monitors_for  # with all metrics: most runs need not wait for the import

    monitors = monitors_for(config, method.backbone)
  return method, open_data, monitors
