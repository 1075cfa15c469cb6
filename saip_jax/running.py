"""Trains any method on any data in the folder of a run: what pre-training and fine-tuning have in common."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from input_pipeline.schema import to_dict
from saip_jax.config import RunConfig
from saip_jax.initial import open_initial
from saip_jax.interop.spec import BackboneSpec
from saip_jax.run_folder.folder import claim_workdir
from saip_jax.run_folder.lock import holding
from saip_jax.training.distributed import first_host_first, on_first_host
from saip_jax.training.ending import Ending
from saip_jax.training.loggers import check_loggers
from saip_jax.training.loop import EncoderMonitors, train
from saip_jax.training.state import TrainState
from saip_jax.version import __version__


def train_in_folder(
  config: RunConfig,
  method,
  open_data: Callable[[Path], Any],
  workdir,
  monitors: Callable[[Any], EncoderMonitors] | None = None,
  devices: Sequence[jax.Device] | None = None,
) -> TrainState:
  """Claims the folder of a run, opens its data, trains, and prints the labels that were unknown.

  Args:
    config: the run.
    method: a `saip_jax.methods.base.Method`.
    open_data: local folder -> data of `training.loop.train`, called on the first host first: files that it renders or
      indexes there are found by the others. The folder is that of the run, or for a run in a bucket the user's cache.
    workdir: folder of the run, a path or a URL: new, empty, or of this run.
    monitors: parameters of the encoder -> measurements, as in `training.loop.train`.
    devices: where to train; None uses all devices.

  Returns:
    The state after the last update done.

  Raises:
    ValueError: settings, data or a folder that do not fit.
    NonFiniteLoss: a loss became infinite or NaN.
    CheckpointError: a checkpoint could not be written.
  """
  on_first_host(lambda: check_loggers(config.loggers))
  with first_host_first():
    folder = claim_workdir(workdir, to_dict(config))
  with holding(folder.path, on_first_host), Ending() as ending:
    ending.then("closing the folder of the run", folder.end)
    with first_host_first():
      folder.begin(to_dict(config))
      data = open_data(folder.data_cache)
    state = train(
      config,
      method,
      data,
      folder,
      model=describe_model(config, method),
      monitors=monitors,
      initial=(lambda: open_initial(config, method)) if config.init_from else None,
      devices=devices,
    )
  for line in data.unknown.lines():
    print(line)
  return state


def describe_model(config: RunConfig, method) -> dict[str, Any]:
  """Returns the model.json of a run's checkpoints: its backbone as `saip import` describes one, and decoders' heads."""
  interpolation = getattr(method.backbone, "pos_interpolation", None)  # of backbones with a table of positions
  spec = BackboneSpec(config.model.backbone, config.model.image_hw, interpolation)
  spec = spec.having(**config.model.own_attributes)
  return {"saip_jax": __version__, "facts": spec.facts(), "head_counts": config.head_counts}
