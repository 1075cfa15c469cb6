"""Follows the steps from the host without delaying them: metrics, timings, and the stop on a non-finite value."""

import concurrent.futures
import contextlib
import json
import time

import jax
import numpy as np

from saip_jax.run_folder.files import CHECKPOINTS

_INDICES_SHOWN = 64


class NonFiniteLoss(ValueError):
  """A loss, or another metric of the step, became infinite or NaN."""


class Telemetry:
  """Fetches the metrics of a step while the next one runs.

  A thread waits for each step and notes its end, so that the times are those of the device and not of the loop. Input
  wait is the time in which the device is idle because no batch has arrived. Fetching one step late also keeps at most
  two steps in flight; many more deadlock in XLA on several CPU devices.
  """

  def __init__(self, config, epoch_size: int, writer, goodput, progress, checkpoints, folder):
    """Passes records on to `writer` and `progress`.

    Args:
      config: the `RunConfig`.
      epoch_size: images per epoch.
      writer: the `MetricsWriter` that gets records every `config.log_every` steps; None on all hosts but the first.
      goodput: a `Goodput`; None on all hosts but the first.
      progress: the `Progress` that gets records at every step.
      checkpoints: the `Checkpoints`, to name the last good one when a run must stop.
      folder: the `RunFolder`.
    """
    self._config, self._epoch_size = config, epoch_size
    self._writer, self._goodput, self._progress = writer, goodput, progress
    self._checkpoints, self._folder = checkpoints, folder
    self._fetcher = concurrent.futures.ThreadPoolExecutor(1)
    self._pending = None
    self._steps, self._seconds, self._waited = 0, 0.0, 0.0
    self._save_ended, self._save_stall = time.perf_counter(), {}
    self.restart_clock()

  def __enter__(self):
    self.restart_clock()
    self._save_ended = self._clock
    return self

  def __exit__(self, *_):
    self._fetcher.shutdown()

  def restart_clock(self) -> None:
    """Excludes the time since the last step from the timings (it went into panels, a checkpoint or a profile)."""
    self._clock = time.perf_counter()

  @contextlib.contextmanager
  def saving(self, step: int):
    """Surrounds the call that saves `step`, settled: makes its records and its useful time final, and times it."""
    started = time.perf_counter()
    if self._writer:
      self._writer.flush()
      self._goodput.save(step)
    yield
    ended = time.perf_counter()
    self._save_stall = {"time/save_stall": (ended - started) / (ended - self._save_ended)}
    self._save_ended = ended

  def follow(self, step: int, metrics, indices, requested: float, arrived: float) -> None:
    """Takes a step just dispatched, and records the previous one.

    Args:
      step: number of updates with this one.
      metrics: name -> scalar, on the devices.
      indices: (B,) data set indices of this host's samples.
      requested: `time.perf_counter()` when its batch was requested, seconds.
      arrived: the same when it arrived.
    """
    pending = (step, self._fetcher.submit(_fetch, metrics), indices, requested, arrived)
    previous, self._pending = self._pending, pending
    self._record(previous)

  def settle(self) -> None:
    """Waits for the newest step and records it.

    Raises:
      NonFiniteLoss: one of its metrics is infinite or NaN.
    """
    previous, self._pending = self._pending, None
    self._record(previous)

  def _record(self, pending) -> None:
    if pending is None:
      return
    step, fetched, indices, requested, arrived = pending
    metrics, ended = fetched.result()
    self._steps += 1
    seconds, waited = ended - self._clock, max(0.0, arrived - max(requested, self._clock))
    self._seconds += seconds
    self._waited += waited
    self._clock = ended
    step_seconds = self._seconds / self._steps
    record = metrics | {
      "epoch": step * self._config.batch_size / self._epoch_size,
      "time/images_per_s": self._config.batch_size / step_seconds,
      "time/input_wait_fraction": self._waited / self._seconds,
      "time/step_s": step_seconds,
    }
    if not all(np.isfinite(value) for value in metrics.values()):
      self._stop(step, metrics, indices)
    if self._goodput:
      self._goodput.add(seconds - waited)
      record |= {"time/goodput": self._goodput.share()} | self._save_stall
    self._progress.update(step, record)
    if step % self._config.log_every == 0 or step == self._config.total_steps:
      if self._writer:
        self._writer.write(step, record)
        self._save_stall = {}
      self._steps, self._seconds, self._waited = 0, 0.0, 0.0

  def _stop(self, step: int, metrics, indices) -> None:
    name = f"nonfinite_step_{step}_host_{jax.process_index()}.json"
    path = self._folder.path / name
    values = {name: float(value) for name, value in metrics.items()}
    indices = np.asarray(indices).tolist()
    texts = {name: str(value) for name, value in values.items()}  # JSON has no NaN
    where, failures = f"all in {self._folder.child(name)}", ""
    try:
      path.write_text(json.dumps({"step": step, "metrics": texts, "indices": indices}) + "\n", "utf-8")
    except OSError as e:
      where = f"{path} cannot be written ({e.strerror})"
    try:
      self._checkpoints.wait()
    except OSError as e:
      failures = f"; {e}"
    latest = self._checkpoints.latest()
    shown = {name: v for name, v in values.items() if name.startswith("loss/") or not np.isfinite(v)}
    more = f" and {len(indices) - _INDICES_SHOWN} more" if len(indices) > _INDICES_SHOWN else ""
    raise NonFiniteLoss(
      f"non-finite loss at step {step}: {', '.join(f'{name} {value:.6g}' for name, value in shown.items())};"
      f" batch indices {indices[:_INDICES_SHOWN]}{more}; {where};"
      f" last good checkpoint: {self._folder.child(CHECKPOINTS, str(latest)) if latest is not None else 'none'};"
      f" a lower config.optimizer.learning_rate or config.precision=float32 may help{failures}"
    )


def _fetch(metrics):
  """Returns the metrics as numpy scalars, and the time when they were ready."""
  return jax.device_get(metrics), time.perf_counter()
