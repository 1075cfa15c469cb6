"""The pre-training loop of every method, top to bottom."""

import functools
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

from input_pipeline.names import shown
from input_pipeline.schema import differences, to_dict
from saip_jax.config import RunConfig
from saip_jax.pictures import save_panel
from saip_jax.run_folder.lock import holding
from saip_jax.training import progress as reports
from saip_jax.training.checkpoint import Checkpoints, claim_workdir, read_config, write_config
from saip_jax.training.distributed import barrier, first_host_first
from saip_jax.training.ending import Ending
from saip_jax.training.goodput import Goodput
from saip_jax.training.initial import open_start, start_from
from saip_jax.training.mesh import (
  check_batch_size,
  lower_step,
  make_mesh,
  on_one_device,
  place_state,
  shard_batch,
  shardings_of,
)
from saip_jax.training.metrics import MetricsWriter
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.preemption import StopRequest
from saip_jax.training.profiler import ProfileWindow
from saip_jax.training.starts import record_start
from saip_jax.training.state import TrainState
from saip_jax.training.step import init_state, make_train_step
from saip_jax.training.telemetry import Telemetry
from saip_jax.training.watchdog import Watchdog

_PANEL_IMAGES = 4


def pretrain(config: RunConfig, method, data, workdir, devices: Sequence[jax.Device] | None = None) -> TrainState:
  """Trains `method` on `data` up to `config.total_steps`, from the newest checkpoint in `workdir` if there is one.

  A run that was stopped, however roughly, and started again ends in the same bits as one that was not: the state
  is restored exactly, and data and draws are pure functions of (seed, step).

  Args:
    config: the run.
    method: a `saip_jax.methods.base.Method`.
    data: the images: `len(data)` per epoch, `identity`, `summary()`, `batches(start_step, host, hosts)`, `damage`
      (see `input_pipeline.pipeline.TrainData`).
    workdir: folder of the run; holds config.json, run.lock, starts.jsonl, metrics.jsonl, tensorboard/, checkpoints/,
      panels/. While this runs no other run may use it.
    devices: where to train; all devices by default.

  Returns:
    The state after the last update done.

  Raises:
    ValueError: settings that do not fit the devices, a workdir of another run or in use by one, or a newest checkpoint
      that is damaged.
    NonFiniteLoss: a loss became infinite or NaN.
    CheckpointError: a checkpoint could not be written.
  """
  with Ending() as ending:
    return _pretrain(config, method, data, workdir, devices, ending)


def _pretrain(config: RunConfig, method, data, workdir, devices, ending: Ending) -> TrainState:
  """`pretrain`, which leaves with `ending` what must be closed whatever happens."""
  if config.compile_cache:
    jax.config.update("jax_compilation_cache_dir", config.compile_cache)
  host, hosts = jax.process_index(), jax.process_count()
  with first_host_first():
    workdir = claim_workdir(workdir, to_dict(config))
  ending.enter("letting go of the folder", holding(workdir))
  progress = reports.Progress(config.total_steps, enabled=host == 0)
  mesh = make_mesh(devices, config.fsdp)
  check_batch_size(mesh, config.batch_size, config.accumulate)

  # The state: restored, or made in place on the devices.
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  new_state = functools.partial(init_state, method, tx, config.seed)
  abstract_state = place_state(mesh, jax.eval_shape(new_state))
  shardings = shardings_of(abstract_state)
  watch = functools.partial(Watchdog, path=workdir / f"watchdog_{host}.txt")
  starting = functools.partial(
    watch, minutes=config.watchdog_startup_minutes, advice="config.watchdog_startup_minutes sets the time"
  )
  with starting("opening the checkpoints"):
    checkpoints = Checkpoints(workdir, config.keep_last, config.keep_every, fingerprint(config, data))
    start = checkpoints.latest() or 0
  ending.then("closing the checkpoints", checkpoints.close)
  goodput = Goodput(workdir, start) if host == 0 else None
  progress.say(reports.banner(mesh, abstract_state, config, data, workdir))
  if start:
    progress.say(f"resuming at step {start}{_changes(workdir, config)}")
  initial = open_start(config) if config.init_from and not start else None  # before anything is compiled
  with starting("making the first state" if not start else f"restoring the state of step {start}"):
    state = checkpoints.restore(abstract_state) if start else jax.jit(new_state, out_shardings=shardings)()
  if initial is not None:
    state, line = start_from(config, method, state, (shardings.params, shardings.method_state), initial)
    progress.say(line)
  if start >= config.total_steps:
    progress.say(f"already complete: step {start} of {config.total_steps}; raise config.total_steps to go on")
    progress.say(reports.summary(workdir, checkpoints.step_path(start), _list_damage(workdir, data)))
    return state
  if host == 0:
    write_config(workdir, to_dict(config))
    record_start(workdir, start, mesh)

  # Data first: what is wrong with it shows before the compiler has taken its minute.
  spec = method.batch_spec(config.batch_size)
  panel_batch = _first_rows(data, spec, host, hosts) if config.panel_every and host == 0 else None
  monitor_every = config.monitor_every if config.monitors else 0
  monitors = _open_monitors(config, method.backbone, _student(mesh, method, state), progress) if monitor_every else None

  # The step, compiled ahead so that no measured time contains it.
  compile_start = time.perf_counter()
  train_step = make_train_step(method, tx, schedule, config.accumulate, config.seed)
  with starting("compiling the step"):
    train_step = lower_step(mesh, train_step, abstract_state, spec).compile()
  progress.say(f"compiled the step in {time.perf_counter() - compile_start:.1f} s")

  writer = MetricsWriter(workdir, start) if host == 0 else None
  if writer:
    ending.then("closing the records", writer.close)
  damaged = functools.cache(lambda: _list_damage(workdir, data))  # once, when the data are closed
  ending.then("listing damaged images", damaged)
  batches = data.batches(start, host, hosts)
  ending.then("closing the data", batches.close)
  telemetry = Telemetry(config, len(data), writer, goodput, progress, checkpoints)
  profile = ProfileWindow(workdir / "profile", config.profile_window if host == 0 else None)
  ending.then("ending the profile", profile.close)
  progress.start(start)
  ending.then("closing the live line", progress.close)
  step = start
  with starting("waiting for the other hosts"):
    barrier("start")  # not all have compiled equally fast
  stepping = watch("a step", config.watchdog_minutes, "config.watchdog_minutes sets the time")
  with stepping as watchdog, telemetry, StopRequest() as stop:
    # The order is fixed: panels, monitors, save, next batch, step. A checkpoint of step k knows nothing of batch k.
    while True:
      finished = step == config.total_steps
      leaving = stop.due(step) or finished
      save_due = step > start and (leaving or step % config.checkpoint_every == 0)
      panels_due = config.panel_every and step > start and (finished or step % config.panel_every == 0)
      monitors_due = monitor_every and (step > start or step == 0) and (finished or step % monitor_every == 0)
      pausing = save_due or panels_due or monitors_due or profile.is_due(step)
      if pausing:
        telemetry.settle()  # raises on a non-finite value: nothing non-finite is drawn or saved
      if profile.is_due(step):
        profile.switch()
      if panels_due:
        params, method_state = on_one_device(mesh, (state.params, state.method_state))
        if host == 0:
          _draw_panels(method, params, method_state, panel_batch, config.seed, workdir, step)
        barrier("panels")
      if monitors_due:
        _measure(monitors, _student(mesh, method, state), writer, progress, step)
        barrier("monitors")
      if save_due:
        with telemetry.saving(step):
          checkpoints.save(step, state)
        progress.checkpoint(step)
      if pausing:
        telemetry.restart_clock()
      if leaving:
        break

      asked = time.perf_counter()
      rows = next(batches)
      arrived = time.perf_counter()
      with profile.step(step), jax.transfer_guard("disallow"):  # a hidden copy to or from the host stalls every step
        batch = shard_batch(mesh, {name: rows[name] for name in spec})
        state, metrics = train_step(state, batch)
      step += 1
      telemetry.follow(step, metrics, rows["index"], asked, arrived)
      watchdog.restart()
    checkpoints.wait()
  ending.close()

  progress.say(f"finished step {step}" if finished else f"stopped at step {step}; the same command goes on from here")
  progress.say(reports.summary(workdir, checkpoints.step_path(step) if step else None, damaged()))
  return state


def fingerprint(config: RunConfig, data) -> dict[str, Any]:
  """Returns the settings that a checkpoint cannot outlive: with any of them changed it would be another run.

  The schedule (`total_steps`, `optimizer`) is left out: to train longer or more gently from here is a choice.
  """
  settings = to_dict(config)
  settings["model"] = {name: value for name, value in settings["model"].items() if value is not None}  # as before
  kept = ("seed", "batch_size", "accumulate", "precision", "model", "method")
  if config.init_from:  # absent otherwise, as in runs made before it existed
    kept += ("init_from", "init_heads", *["init_which"] * (config.init_which == "teacher"))
  canvases = {name: settings["data"][name] for name in ("canvas_hw", "scene_canvas_hw")}
  return {f"config.{name}": settings[name] for name in kept} | {
    "config.data": canvases,
    "data": dict(data.identity) | {"images": len(data)},
  }


def _first_rows(data, spec, host: int, hosts: int) -> dict[str, Any]:
  """Returns the first few samples of the run, whichever step it resumes at: pictures stay comparable."""
  batches = data.batches(0, host, hosts)
  rows = next(batches)
  batches.close()
  return {name: rows[name][:_PANEL_IMAGES] for name in spec}


def _draw_panels(method, params, method_state, batch, seed: int, workdir: pathlib.Path, step: int) -> None:
  """Writes W/panels/<step>_<name>.png for every panel of the method; on one device, outside the mesh."""
  for name, panel in method.panels(params, method_state, batch, jax.random.key(seed)).items():
    save_panel(workdir / "panels" / f"{step:06d}_{name}.png", panel)


def _student(mesh, method, state: TrainState):
  """Returns the parameters of the encoder that is trained, whole and on one device; all hosts must ask."""
  return on_one_device(mesh, method.export_params(state.params, state.method_state, "student"))


def _open_monitors(config: RunConfig, backbone, encoder, progress):
  """Returns the run's `Monitors`; one host measures, but all see what is wrong with their data."""
  from saip_jax.evaluation.monitors import Monitors  # and all that measures: a second that most runs need not wait

  with first_host_first():
    monitors = Monitors(config, backbone, encoder)
  progress.say(f"monitors {monitors.summary}")
  return monitors


def _measure(monitors, encoder, writer: MetricsWriter | None, progress, step: int) -> None:
  """Records what the monitors say of the encoder after update `step`, and how long that took, on the host that does."""
  if writer is None:
    return
  started = time.perf_counter()
  values = monitors.measure(encoder)
  writer.write(step, values | {"time/monitors_s": time.perf_counter() - started})
  progress.say(f"step {step}, " + ", ".join(f"{name.removeprefix('monitor/')} {v:.4f}" for name, v in values.items()))


def _changes(workdir: pathlib.Path, config: RunConfig) -> str:
  """Returns the words on settings that are not those of the last start."""
  try:
    changed = "; ".join(differences(read_config(workdir), to_dict(config)))
  except ValueError:
    return f"; {workdir / 'config.json'} cannot be read and is written anew"
  return f" with changed settings: {changed}" if changed else ""


def _list_damage(workdir: pathlib.Path, data) -> list[str]:
  """Returns the damaged images that this host has met in the run, and keeps them in a file; no file means none."""
  host = jax.process_index()
  path = workdir / (f"damaged_images_{host}.txt" if host else "damaged_images.txt")
  lines = [shown(line) for line in data.damage.lines()]
  try:
    known = path.read_text("utf-8", "backslashreplace").splitlines() if path.exists() else []
    lines = list(dict.fromkeys(known + lines))
    if lines:
      path.write_text("\n".join(lines) + "\n", "utf-8")
  except OSError as e:  # the summary shows them too
    print(f"warning: {path} cannot be written ({e.strerror})", file=sys.stderr, flush=True)
  return lines
