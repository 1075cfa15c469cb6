"""Opens what the loop needs: the state and its checkpoints, the compiled step, records and batches."""

import dataclasses
import functools
import time
from typing import Any

import jax

from input_pipeline.schema import differences, to_dict
from saip_jax.config import RunConfig
from saip_jax.run_folder.files import CONFIG, PROFILE
from saip_jax.run_folder.folder import read_config, record_damage
from saip_jax.run_folder.workdir import RunFolder
from saip_jax.training.checkpoint import Checkpoints
from saip_jax.training.ending import Ending
from saip_jax.training.goodput import Goodput
from saip_jax.training.loggers import make_loggers
from saip_jax.training.mesh import lower_step, options_of_one_run, place_state, shardings_of
from saip_jax.training.metrics import MetricsWriter
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.profiler import ProfileWindow
from saip_jax.training.progress import Progress, parameter_table, run_banner
from saip_jax.training.state import TrainState
from saip_jax.training.step import init_state, make_train_step, state_shapes
from saip_jax.training.telemetry import Telemetry

_PANEL_IMAGES = 4


@dataclasses.dataclass(frozen=True)
class OpenRun:
  """An open run.

  Attributes:
    abstract_state: shapes and shardings of its state.
    start: updates done.
    checkpoints: its checkpoints.
    goodput: its useful time, on the first host; None on the others, and where nothing may be written.
    tx: the optimizer.
    schedule: its learning rate.
  """

  abstract_state: TrainState
  start: int
  checkpoints: Checkpoints
  goodput: Goodput | None
  tx: Any
  schedule: Any


def open_state(config, method, data, folder, model, initial, mesh, starting, progress, ending):
  """Returns (state, `OpenRun`): the state of the newest checkpoint, or a new one made in place on the devices."""
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  new_state = functools.partial(init_state, method, tx, config.seed)
  abstract_state = place_state(mesh, state_shapes(method, tx, config.seed))
  shardings = shardings_of(abstract_state)
  with starting("opening the checkpoints"):
    checkpoints = Checkpoints(folder, config.keep_last, config.keep_every, run_fingerprint(config, method, data), model)
    start = checkpoints.latest() or 0
  ending.then("closing the checkpoints", checkpoints.close)
  goodput = Goodput(folder.path, start) if jax.process_index() == 0 and not folder.read_only else None
  progress.details(parameter_table(abstract_state))
  progress.say(run_banner(mesh, abstract_state, config, data, folder.name))
  if start:
    progress.say(f"state    resuming at step {start}{_changes(folder, config)}")
  load = initial() if initial and not start else None  # before anything is compiled
  with starting("making the first state" if not start else f"restoring the state of step {start}"):
    options = options_of_one_run(mesh.devices.flat[0].platform)
    make = jax.jit(new_state, out_shardings=shardings.replace(frozen={}), compiler_options=options)
    state = checkpoints.restore(abstract_state) if start else make()
    if method.frozen:
      place = jax.jit(lambda tree: tree, out_shardings=shardings.frozen, compiler_options=options)
      state = state.replace(frozen=place(method.frozen))
  if load is not None:
    state, line = load(state, (shardings.params, shardings.method_state))
    progress.say(line)
  return state, OpenRun(abstract_state, start, checkpoints, goodput, tx, schedule)


def compile_step(config: RunConfig, method, run: OpenRun, mesh, spec, starting, progress):
  """Returns the step, compiled ahead so that no measured time contains the compilation."""
  compile_start = time.perf_counter()
  train_step = make_train_step(method, run.tx, run.schedule, config.accumulate, config.seed)
  with starting("compiling the step"):
    train_step = lower_step(mesh, train_step, run.abstract_state, spec).compile()
  progress.say(f"step     compiled the step in {time.perf_counter() - compile_start:.1f} s")
  return train_step


def open_records(config: RunConfig, data, folder: RunFolder, run: OpenRun, progress: Progress, ending: Ending):
  """Opens what follows the steps: (metrics writer, list of damaged images, batches, telemetry, profile)."""
  host, hosts = jax.process_index(), jax.process_count()
  writer = MetricsWriter(folder.path, run.start, make_loggers(config, folder)) if host == 0 else None
  if writer:
    for line in writer.summary:
      progress.say(line)
    ending.then("closing the records", writer.close)
  damaged = functools.cache(lambda: record_damage(folder.path, data.damage.lines()))  # once, when the data are closed
  ending.then("listing damaged images", damaged)
  batches = data.batches(run.start, host, hosts)
  ending.then("closing the data", batches.close)
  telemetry = Telemetry(config, len(data), writer, run.goodput, progress, run.checkpoints, folder)
  profile = ProfileWindow(folder.path / PROFILE, config.profile_window if host == 0 else None)
  ending.then("ending the profile", profile.close)
  progress.start(run.start)
  ending.then("closing the live line", progress.close)
  return writer, damaged, batches, telemetry, profile


def first_rows(data, spec) -> dict[str, Any]:
  """Returns the first few samples of the run, whichever step it resumes at: panels stay comparable."""
  batches = data.batches(0, jax.process_index(), jax.process_count())
  rows = next(batches)
  batches.close()
  return {name: rows[name][:_PANEL_IMAGES] for name in spec}


def run_fingerprint(config: RunConfig, method, data) -> dict[str, Any]:
  """Returns the settings that must not change between the checkpoints of a run.

  The schedule (`total_steps`, `optimizer`) is left out: a run may continue for longer or with another learning rate.
  So is how the network is computed (`remat`, `model.attention`).
  """
  settings = to_dict(config) | {"method": method.fixed_settings()}
  del settings["model"]["attention"]
  settings["model"] = {name: value for name, value in settings["model"].items() if value is not None}  # as before
  fixed = ("seed", "batch_size", "accumulate", "precision", "model", "method")
  if config.init_from:  # absent otherwise, as in runs made before it existed
    fixed += ("init_from", "init_heads", *["init_which"] * (config.init_which == "teacher"))
  canvases = {name: settings["data"][name] for name in ("canvas_hw", "scene_canvas_hw")}
  return {f"config.{name}": settings[name] for name in fixed} | {
    "config.data": canvases,
    "data": dict(data.identity) | {"images": len(data)},
  }


def _changes(folder: RunFolder, config: RunConfig) -> str:
  """Returns the end of the message on resuming: the settings that differ from the last start."""
  try:
    changed = "; ".join(differences(read_config(folder.path), to_dict(config)))
  except ValueError:
    return f"; {folder.child(CONFIG)} cannot be read and is written anew"
  return f" with changed settings: {changed}" if changed else ""
