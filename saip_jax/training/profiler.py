"""Records a window of steps for xprof and TensorBoard's profile page."""

import contextlib
import pathlib

import jax


class ProfileWindow:
  """Records the activity of host and devices during some updates of a run."""

  def __init__(self, folder: pathlib.Path, window: tuple[int, int] | None):
    """Prepares to record.

    Args:
      folder: destination of plugins/profile/<date>/<host>.xplane.pb and .trace.json.gz.
      window: (first, last) in updates done: those after `first` up to `last`; None records nothing.
    """
    self._folder, self._window, self._running = folder, window, False

  def is_due(self, step: int) -> bool:
    """Returns whether `switch` at this step starts or ends the recording."""
    return self._running != (self._window is not None and self._window[0] <= step < self._window[1])

  def switch(self) -> None:
    """Starts or ends the recording; all steps dispatched should have finished."""
    if self._running:
      jax.profiler.stop_trace()
    else:
      jax.profiler.start_trace(str(self._folder))
    self._running = not self._running

  def step(self, step: int):
    """Returns the context in which update `step + 1` is dispatched, which marks the steps for the tools."""
    return jax.profiler.StepTraceAnnotation("train", step_num=step + 1) if self._running else contextlib.nullcontext()

  def close(self) -> None:
    """Ends the recording if it runs."""
    if self._running:
      self.switch()
