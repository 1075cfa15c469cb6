"""`saip pretrain --dry-run`: everything that a run does before its first update, and what the updates will need.

It opens what the loop opens, with the same functions, in a folder that it does not write.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from saip_jax.aot.compile import count_flops, total_bytes
from saip_jax.config import RunConfig
from saip_jax.initial import open_initial
from saip_jax.methods import METHODS
from saip_jax.pretraining import parts_of
from saip_jax.run_folder.dry import DryFolder
from saip_jax.running import describe_model
from saip_jax.training.checkpoint import state_bytes
from saip_jax.training.distributed import barrier, initialize, on_all_hosts, on_first_host
from saip_jax.training.ending import Ending
from saip_jax.training.loggers import check_loggers
from saip_jax.training.loop import start_monitors
from saip_jax.training.mesh import check_batch_size, make_mesh, shard_batch
from saip_jax.training.opening import OpenRun, compile_step, open_state
from saip_jax.training.watchdog import Watchdog

_GIB = 2**30
# Steps of more operations on the processors of one machine are not timed: at some 50 GFLOP/s they take minutes, and as
# much memory as the accelerators they are meant for.
_TIMED_FLOP = 5e12
_LABEL = 9  # characters


def dry_run(
  config: RunConfig,
  workdir,
  *,
  devices: Sequence[jax.Device] | None = None,
  coordinator: str | None = None,
  processes: int | None = None,
  process: int | None = None,
) -> list[str]:
  """Does what `saip_jax.pretrain` does but the updates of the run, and leaves nothing behind.

  Recipe, data (one batch on each host), initial weights, monitors, loggers, checkpoint to resume from and the compiled
  step are those of the run. Two steps are timed on a state that is thrown away, unless they would take long. With
  several processes each takes part. The user's caches (rendered people, prepared scenes, compiled programs) are filled
  as by the run.

  Args:
    config: the run.
    workdir: the folder that it would have, a path or a URL.
    devices: where to train; None uses all devices.
    coordinator: as for `saip_jax.pretrain`, and so are the next two.
    processes: their number.
    process: which one this is, from 0.

  Returns:
    The page, one entry a line; the first process has printed it.

  Raises:
    ValueError: the run would fail; the message is the reason.
  """
  initialize(coordinator, processes, process)
  page = _Page()
  with Ending() as ending:
    scratch = ending.enter("removing temporary files", tempfile.TemporaryDirectory(prefix="saip_dry_run_"))
    on_first_host(lambda: check_loggers(config.loggers))
    folder = on_all_hosts(lambda: DryFolder(workdir, pathlib.Path(scratch)))
    _check_writable(folder)
    _open_everything(config, folder, devices, page, ending)
  if jax.process_index() == 0:
    print("\n".join(page.lines), flush=True)
  return page.lines


class _Page:
  """Collects what a run would print, without the table of parameters."""

  def __init__(self):
    self.lines: list[str] = []

  def say(self, text: str) -> None:
    self.lines += text.splitlines()

  def row(self, label: str, text: str) -> None:
    self.say(f"{label:{_LABEL}}{text}")

  def details(self, text: str) -> None:
    pass


def _check_writable(folder: DryFolder) -> None:
  with contextlib.ExitStack() as stack:
    on_first_host(lambda: stack.enter_context(folder.mark()))
    on_all_hosts(lambda: folder.check_shared(jax.process_index()))
    barrier("mark seen")


def _open_everything(config: RunConfig, folder: DryFolder, devices, page: _Page, ending: Ending) -> None:
  """Opens all that `training.loop.train` opens, in its order, and fills the page."""
  if config.compile_cache:
    jax.config.update("jax_compilation_cache_dir", config.compile_cache)
  mesh = make_mesh(devices, config.fsdp)
  check_batch_size(mesh, config.batch_size, config.accumulate)
  starting = functools.partial(
    Watchdog, minutes=config.watchdog_startup_minutes, advice="config.watchdog_startup_minutes sets the time"
  )
  method, open_data, open_monitors = parts_of(config)
  data = on_all_hosts(lambda: open_data(folder.data_cache))
  initial = (lambda: open_initial(config, method)) if config.init_from else None
  model = describe_model(config, method)
  state, run = open_state(config, method, data, folder, model, initial, mesh, starting, page, ending)
  page.row("workdir", f"{folder.name} can be written, " + ("holds this run" if folder.exists else "is new or empty"))
  if run.start >= config.total_steps:
    page.row("state", f"complete: step {run.start} of {config.total_steps}; raise config.total_steps to go on")
    return
  if not run.start:
    page.row("state", "a new run")
  spec = method.batch_spec(config.batch_size)
  rows, seconds = on_all_hosts(lambda: _first_batch(data, run.start))
  read = ", ".join(f"{name} {'x'.join(map(str, rows[name].shape[1:])) or 'number'}" for name in spec)
  page.row("batch", f"{len(rows['index']):,} samples of {jax.process_count()} host(s) each in {seconds:.1f} s: {read}")
  if open_monitors:
    start_monitors(open_monitors, mesh, method, state, page)
  page.row("loggers", ", ".join(["metrics.jsonl", "tensorboard", *config.loggers]))
  with _one_line_if_out_of_memory():
    step = compile_step(config, method, run, mesh, spec, starting, page)
    _check_memory(step, mesh, page)
    flops = count_flops(dataclasses.replace(config, remat="none"), METHODS[config.method.name].build)
    _time_steps(config, step, state, {name: rows[name] for name in spec}, mesh, flops, run, page)
  _check_room(config, folder, run, page)
  page.row("ready", "all of this is as in a run; no update was made, nothing was written to the workdir")


def _first_batch(data, step: int) -> tuple[dict[str, Any], float]:
  """Returns the batch of this host after `step` updates, and the seconds until it was there."""
  started = time.perf_counter()
  batches = data.batches(step, jax.process_index(), jax.process_count())
  try:
    return next(batches), time.perf_counter() - started
  finally:
    batches.close()


@contextlib.contextmanager
def _one_line_if_out_of_memory():
  try:
    yield
  except jax.errors.JaxRuntimeError as e:
    if "RESOURCE_EXHAUSTED" not in str(e):
      raise
    raise ValueError(f"out of memory on a device: {_cure()} ({' '.join(str(e).split())[:200]})") from e


def _cure() -> str:
  return "lower config.batch_size, raise config.accumulate or config.fsdp, or set config.remat=full"


def _check_memory(step, mesh, page: _Page) -> None:
  """Adds the memory of a device to the page; raises ValueError if it has less."""
  memory, needed = step.memory_analysis(), total_bytes(step)
  parts = {"state and batch": memory.argument_size_in_bytes, "temporaries": memory.temp_size_in_bytes}
  listed = ", ".join(f"{name} {size / _GIB:.2f}" for name, size in parts.items())
  device = mesh.local_devices[0]
  limit, of = (device.memory_stats() or {}).get("bytes_limit"), "a device"
  if device.platform == "cpu":  # all devices share the memory of the machine
    limit, of = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "this machine"
    needed *= len(mesh.local_devices)
  has = f" of {limit / _GIB:.2f}" if limit else ""
  page.row("memory", f"{needed / _GIB:.2f}{has} GiB of {of}; per device {listed} (by the compiler)")
  if limit and needed > limit:
    raise ValueError(
      f"out of memory: the step needs {needed / _GIB:.2f} of {limit / _GIB:.2f} GiB of {of} ({listed} GiB per device):"
      f" {_cure()}"
    )


def _time_steps(config: RunConfig, step, state, rows, mesh, flops: float, run: OpenRun, page: _Page) -> None:
  """Adds the work and the time of a step to the page; the state is used up.

  Raises:
    ValueError: a metric of the step is infinite or NaN.
  """
  per_device = flops / mesh.devices.size
  page.row(
    "work",
    f"{per_device / 1e9:,.4g} GFLOP a step on each device, {flops / config.batch_size / 1e9:,.4g} an image"
    " (XLA's count)",
  )
  if mesh.local_devices[0].platform == "cpu" and per_device * len(mesh.local_devices) > _TIMED_FLOP:
    page.row("time", "not measured: a step would take minutes on these processors; saip compile estimates it for TPUs")
    return
  batch = shard_batch(mesh, rows)
  for _ in range(2):  # the first is slower
    started = time.perf_counter()
    state, metrics = step(state, batch)
    values = jax.device_get(metrics)
    seconds = time.perf_counter() - started
  odd = {name: float(value) for name, value in values.items() if not np.isfinite(value)}
  if odd:
    raise ValueError(f"non-finite after two steps: {', '.join(f'{name} {value}' for name, value in odd.items())}")
  left = config.total_steps - run.start
  page.row(
    "time",
    f"{seconds:.4g} s a step (measured, on a state that is thrown away), {config.batch_size / seconds:,.1f} images/s,"
    f" {seconds * left / 3600:,.2f} hours for {left:,} steps if data arrive in time",
  )


def _check_room(config: RunConfig, folder: DryFolder, run: OpenRun, page: _Page) -> None:
  """Adds the checkpoints to the page; raises ValueError if the disk has no room for them."""
  size, every = state_bytes(run.abstract_state), config.checkpoint_every
  saves = -(-config.total_steps // every) - run.start // every
  kept = config.total_steps // config.keep_every - run.start // config.keep_every if config.keep_every else 0
  count = min(saves, config.keep_last + 1 + kept)  # the oldest is deleted when the newest is written
  needed, free = max(0, size * count - folder.checkpoint_bytes), folder.free_bytes
  room = f"; {free / 1e9:,.2f} GB are free" if free is not None else ""
  page.row("saves", f"{size / 1e6:,.1f} MB each, {count} at a time: {needed / 1e9:,.2f} GB{room}")
  if free is not None and free < needed:
    raise ValueError(
      f"too little room for checkpoints: {count} of {size / 1e6:,.1f} MB need {needed / 1e9:,.2f} GB more, the disk of"
      f" --workdir={folder.name} has {free / 1e9:,.2f} GB free; make room, lower config.keep_last, raise"
      " config.keep_every, or choose a --workdir on another disk"
    )
