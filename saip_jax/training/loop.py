"""The pre-training loop of every method, top to bottom."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax

from input_pipeline.schema import to_dict
from saip_jax.config import RunConfig
from saip_jax.pictures import save_panel
from saip_jax.run_folder.files import CHECKPOINTS, PANELS
from saip_jax.run_folder.folder import record_damage, record_start, write_config
from saip_jax.run_folder.workdir import RunFolder
from saip_jax.training.distributed import barrier, first_host_first
from saip_jax.training.ending import Ending
from saip_jax.training.mesh import check_batch_size, device_kinds, make_mesh, on_one_device, shard_batch
from saip_jax.training.metrics import MetricsWriter
from saip_jax.training.opening import compile_step, first_rows, open_records, open_state
from saip_jax.training.preemption import StopRequest
from saip_jax.training.progress import Progress, run_summary
from saip_jax.training.state import TrainState
from saip_jax.training.watchdog import Watchdog


class EncoderMonitors(Protocol):
  """Measures the encoder while it trains, see `saip_jax.evaluation.monitors.Monitors`.

  Attributes:
    summary: one line for the log.
  """

  summary: str

  def measure(self, params) -> dict[str, float]:
    """Returns "monitor/<name>" -> value of the encoder with these parameters."""


def train(
  config: RunConfig,
  method,
  data,
  workdir: RunFolder | pathlib.Path,
  *,
  model: Mapping[str, Any] | None = None,
  monitors: Callable[[Any], EncoderMonitors] | None = None,
  initial: Callable[[], Callable[[TrainState, Any], tuple[TrainState, str]]] | None = None,
  devices: Sequence[jax.Device] | None = None,
) -> TrainState:
  """Trains `method` on `data` up to `config.total_steps`, from the newest checkpoint in `workdir` if there is one.

  A run that was stopped, however abruptly, and started again ends in the same bits as an uninterrupted one: the state
  is restored exactly, and data and draws are pure functions of (seed, step).

  Args:
    config: the run.
    method: a `saip_jax.methods.base.Method`.
    data: the images: `len(data)` per epoch, `identity`, `summary()`, `batches(start_step, host, hosts)`, `damage`
      (see `input_pipeline.pipeline.TrainData`).
    workdir: folder of the run, claimed and held by the caller, see `saip_jax.running`.
    model: JSON-able description of the backbone, written into every checkpoint as model.json; None writes none.
    monitors: parameters of the encoder, of any values -> measurements for `config.monitor_every`, opened before
      anything is compiled; None measures nothing.
    initial: opens other weights and returns (new state, its shardings) -> (state with these weights, a line for the
      log); called for a new run only, before anything is compiled. None starts from random weights.
    devices: where to train; None uses all devices.

  Returns:
    The state after the last update done.

  Raises:
    ValueError: settings that do not fit the devices, a workdir of another run, or a newest checkpoint that is damaged.
    NonFiniteLoss: a loss became infinite or NaN.
    CheckpointError: a checkpoint could not be written.
  """
  with Ending() as ending:
    return _train(config, method, data, RunFolder.of(workdir), model, monitors, initial, devices, ending)


def _train(config, method, data, folder, model, open_monitors, initial, devices, ending: Ending) -> TrainState:
  """`train`, which registers with `ending` everything that must be closed in any case."""
  if config.compile_cache:
    jax.config.update("jax_compilation_cache_dir", config.compile_cache)
  host = jax.process_index()
  progress = Progress(config.total_steps, enabled=host == 0)
  mesh = make_mesh(devices, config.fsdp)
  check_batch_size(mesh, config.batch_size, config.accumulate)
  watch = functools.partial(Watchdog, path=folder.path / f"watchdog_{host}.txt")
  starting = functools.partial(
    watch, minutes=config.watchdog_startup_minutes, advice="config.watchdog_startup_minutes sets the time"
  )

  state, run = open_state(config, method, data, folder, model, initial, mesh, starting, progress, ending)
  start, checkpoints = run.start, run.checkpoints
  if start >= config.total_steps:
    progress.say(f"already complete: step {start} of {config.total_steps}; raise config.total_steps to go on")
    progress.say(run_summary(folder, start, record_damage(folder.path, data.damage.lines())))
    return state
  if host == 0:
    write_config(folder.path, to_dict(config))
    record_start(folder.path, start, device_kinds(mesh), mesh.shape)

  # Data first: their errors come before the compiler has taken its minute.
  spec = method.batch_spec(config.batch_size)
  panel_batch = first_rows(data, spec) if config.panel_every and host == 0 else None
  monitors = start_monitors(open_monitors, mesh, method, state, progress) if open_monitors else None
  train_step = compile_step(config, method, run, mesh, spec, starting, progress)
  writer, damaged, batches, telemetry, profile = open_records(config, data, folder, run, progress, ending)
  step = start
  with starting("waiting for the other hosts"):
    barrier("start")  # not all have compiled equally fast
  stepping = watch("a step", config.watchdog_minutes, "config.watchdog_minutes sets the time")
  with stepping as watchdog, telemetry, StopRequest() as stop:
    # The order is fixed: panels, monitors, save, next batch, step. A checkpoint of step k does not depend on batch k.
    while True:
      due = Due.at(step, start, config, stopping=stop.due(step), monitored=monitors is not None)
      profile_due = profile.is_due(step)
      if due.pause or profile_due:
        telemetry.settle()  # raises on a non-finite value: nothing non-finite is drawn or saved
      if profile_due:
        profile.switch()
      if due.panels:
        _draw_panels(mesh, method, state, panel_batch, config.seed, folder.path, writer, step)
      if due.monitors:
        _measure(monitors, _student(mesh, method, state), writer, progress, step)
      if due.save:
        with telemetry.saving(step):
          checkpoints.save(step, state, wait=due.leave)
        progress.checkpoint(step)
      if due.pause or profile_due:
        telemetry.restart_clock()
      if due.leave:
        break

      requested = time.perf_counter()
      rows = next(batches)
      arrived = time.perf_counter()
      with profile.step(step), jax.transfer_guard("disallow"):  # a hidden copy to or from the host stalls every step
        batch = shard_batch(mesh, {name: rows[name] for name in spec})
        state, metrics = train_step(state, batch)
      step += 1
      telemetry.follow(step, metrics, rows["index"], requested, arrived)
      watchdog.restart()
    checkpoints.wait()
  finished = step == config.total_steps
  if writer:
    checkpoint = folder.child(CHECKPOINTS, str(step)) if step else None
    writer.finish({"step": step, "finished": finished, "checkpoint": checkpoint, "damaged_images": len(damaged())})
  ending.close()
  folder.publish()

  progress.say(f"finished step {step}" if finished else f"stopped at step {step}; the same command goes on from here")
  progress.say(run_summary(folder, step, damaged()))
  return state


@dataclasses.dataclass(frozen=True)
class Due:
  """The work between two steps.

  Attributes:
    panels: draw panels.
    monitors: measure the encoder.
    save: write a checkpoint.
    leave: the run ends or stops here.
  """

  panels: bool
  monitors: bool
  save: bool
  leave: bool

  @property
  def pause(self) -> bool:
    """Whether the last step must be settled first."""
    return self.panels or self.monitors or self.save

  @classmethod
  def at(cls, step: int, start: int, config: RunConfig, stopping: bool, monitored: bool) -> "Due":
    """Returns the work after update `step` of a run that continued after update `start`."""
    finished, new = step == config.total_steps, step > start
    reached = lambda every: finished or step % every == 0
    return cls(
      panels=bool(config.panel_every) and new and reached(config.panel_every),
      monitors=monitored and (new or step == 0) and reached(config.monitor_every),
      save=new and (stopping or reached(config.checkpoint_every)),
      leave=stopping or finished,
    )


def _draw_panels(mesh, method, state: TrainState, batch, seed: int, workdir: pathlib.Path, writer, step: int) -> None:
  """Writes W/panels/<step>_<name>.png for every panel of the method, on one device; all hosts must call it.

  Args:
    batch: the samples to draw on the first host, None on the others.
    writer: the `MetricsWriter` that gets the panels there.
  """
  params, method_state = on_one_device(mesh, (state.params, state.readable))
  if batch is not None:
    for name, panel in method.panels(params, method_state, batch, jax.random.key(seed)).items():
      path = workdir / PANELS / f"{step:06d}_{name}.png"
      save_panel(path, panel)
      writer.write_panel(step, name, path)
  barrier("panels")


def _student(mesh, method, state: TrainState):
  """Returns the parameters of the trained encoder, whole and on one device; all hosts must call it."""
  return on_one_device(mesh, method.export_params(state.params, state.method_state, "student"))


def start_monitors(open_monitors, mesh, method, state: TrainState, progress) -> EncoderMonitors:
  """Returns the open monitors; one host measures, but all raise the errors of their data."""
  encoder = _student(mesh, method, state)
  with first_host_first():
    monitors = open_monitors(encoder)
  progress.say(f"monitors {monitors.summary}")
  return monitors


def _measure(monitors: EncoderMonitors, encoder, writer: MetricsWriter | None, progress: Progress, step: int) -> None:
  """Records, on the first host, the monitors' values after update `step` and the time that they took."""
  if writer is not None:
    started = time.perf_counter()
    values = monitors.measure(encoder)
    writer.write(step, values | {"time/monitors_s": time.perf_counter() - started})
    listed = ", ".join(f"{name.removeprefix('monitor/')} {value:.4f}" for name, value in values.items())
    progress.say(f"step {step}, {listed}")
  barrier("monitors")
