"""Several processes as one run: the only file that uses JAX's multi-host interface.

In a process alone every function here returns at once.
"""

import contextlib
import inspect
import itertools
import os
import socket
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from saip_jax.training.watchdog import Watchdog

_BARRIER_SECONDS = 4 * 3600  # the first host may render or index a data set meanwhile
_MESSAGE_BYTES = 4096
_TOO_LATE = "must be called before any JAX calls"  # in the RuntimeError of jax.distributed.initialize
_numbers = itertools.count()


def initialize(
  coordinator: str | None = None, processes: int | None = None, process: int | None = None, timeout_s: int = 300
) -> None:
  """Joins this process with the others of its run; to be called before the first use of a JAX device.

  Arguments that are None are read from the variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, and
  otherwise detected: Cloud TPU, Slurm (one task per GPU), Open MPI, an indexed Kubernetes Job or JobSet (needs
  `pip install kubernetes`). Without any of these the process is alone. So is a notebook that has used its devices
  already.

  Args:
    coordinator: HOST:PORT on the machine of process 0, reachable from all.
    processes: number of processes.
    process: number of this process, from 0.
    timeout_s: seconds to wait for the others.

  Raises:
    ValueError: settings that are incomplete or impossible, or processes that do not find each other.
  """
  if jax.distributed.is_initialized():
    return
  coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
  processes = _number(processes, "JAX_NUM_PROCESSES")
  process = _number(process, "JAX_PROCESS_ID")
  given = (coordinator, processes, process)
  if processes == 1 or given == (None, None, None) and _surely_alone():
    return
  if None not in given:
    _check(*given)
    _find_coordinator(*given, timeout_s)
  advice = (
    "all must be started with the same --coordinator and --processes, each with its own --process, and see"
    " their devices"
  )
  try:
    with Watchdog(f"meeting all of {processes or 'the'} processes", timeout_s / 60, advice):
      _meet(given, timeout_s)
  except (ValueError, OSError) as e:
    if given != (None, None, None):
      raise ValueError(
        f"cannot join the other processes: {_one_line(e)}; give all of --coordinator (it is {coordinator}),"
        f" --processes ({processes}) and --process ({process})"
      ) from e
    if "JOB_COMPLETION_INDEX" in os.environ:  # possibly one of many
      raise ValueError(
        "this is one process of a Kubernetes Job and cannot find the others: `pip install kubernetes`, or give"
        " --coordinator, --processes and --process (JAX_NUM_PROCESSES=1 if it is the only one)"
      ) from e
    if isinstance(e, OSError):  # every Cloud TPU has the server that lists its hosts
      warnings.warn(f"no Cloud TPU metadata ({_one_line(e)[:80]}): this process trains alone", stacklevel=2)
  except RuntimeError as e:  # for example: Kubernetes refuses to answer, the port is taken
    if given == (None, None, None) and _TOO_LATE in str(e):
      return
    raise ValueError(f"cannot join the other processes: {_one_line(e)}") from e


def barrier(name: str) -> None:
  """Returns once all processes have called it; they wait on the network, and no device is kept busy.

  A collective would suffice between two steps, but on CPU it gives up after 30 s.
  """
  if jax.process_count() > 1:
    wait = multihost.get_barrier_sync_fn()
    wait(key=f"saip_{name}_{next(_numbers)}", timeout_ms=_BARRIER_SECONDS * 1000)


@contextlib.contextmanager
def first_host_first():
  """Runs a block on process 0, then on all others: they find the files that it made."""
  if jax.process_index():
    barrier("first_host")
  try:
    yield
  finally:  # also if it failed: the others fail by themselves instead of waiting
    if not jax.process_index():
      barrier("first_host")


def on_first_host(function: Callable[[], Any]) -> Any:
  """Calls a function on process 0 alone; returns its result there and None on all others.

  Raises:
    ValueError: the function raised an error; all processes raise it.
  """
  if jax.process_count() == 1:
    return function()
  result, error = None, None
  if jax.process_index() == 0:
    try:
      result = function()
    except BaseException as e:
      error = e
  barrier("on_first_host")  # before the broadcast: a collective does not wait for long
  message = _broadcast("" if error is None else str(error) or type(error).__name__)
  if error is not None:
    raise error
  if message:
    raise ValueError(message)
  return result


def on_all_hosts(function: Callable[[], Any]) -> Any:
  """Calls a function on every process and returns its result there.

  Raises:
    ValueError: the function raised an error on another process; the message names it.
  """
  if jax.process_count() == 1:
    return function()
  result, error = None, None
  try:
    result = function()
  except Exception as e:
    error = e
  barrier("on_all_hosts")  # before the gathering, as above
  messages = multihost_utils.process_allgather(_coded("" if error is None else str(error) or type(error).__name__))
  if error is not None:
    raise error
  for process, message in enumerate(messages):
    if message.any():
      raise ValueError(f"on process {process}: {_decoded(message)}")
  return result


def _broadcast(text: str) -> str:
  """Returns the text of process 0, cut to `_MESSAGE_BYTES`, on all processes."""
  return _decoded(np.asarray(multihost_utils.broadcast_one_to_all(_coded(text))))


def _coded(text: str) -> np.ndarray:
  """Returns the bytes of a text, one an entry, (_MESSAGE_BYTES,) int32."""
  codes = np.zeros(_MESSAGE_BYTES, np.int32)
  encoded = text.encode()[:_MESSAGE_BYTES]
  codes[: len(encoded)] = list(encoded)
  return codes


def _decoded(codes: np.ndarray) -> str:
  return bytes(codes[codes > 0].tolist()).decode(errors="ignore")


def stop_agreed(step: int) -> bool:
  """Returns whether all processes stop here, because one of them received SIGTERM; all must call it at every step.

  Args:
    step: number of updates done.
  """
  return multihost_utils.reached_preemption_sync_point(step)


def _number(value: int | None, variable: str) -> int | None:
  text = os.environ.get(variable)
  if value is not None or not text:
    return value
  if not text.isdigit():
    raise ValueError(f"{variable} is {text!r}: expected a number")
  return int(text)


def _check(coordinator: str, processes: int, process: int) -> None:
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdigit():
    raise ValueError(f"--coordinator is {coordinator!r}: expected HOST:PORT, as in 10.0.0.1:8476")
  if not 0 <= process < processes:
    raise ValueError(f"--process is {process}: it must lie in 0 to {processes - 1}, as --processes is {processes}")


def _meet(given: tuple[str | None, int | None, int | None], timeout_s: int) -> None:
  limits = {"shutdown_timeout_seconds": 60}  # a host that failed does not keep the others for longer
  known = inspect.signature(jax.distributed.initialize).parameters  # before 0.8.1 JAX waits for five minutes
  jax.distributed.initialize(
    *given,
    cluster_detection_method="deactivate" if None not in given else None,
    initialization_timeout=timeout_s + 60,  # the watchdog is first, JAX itself would abort
    **{name: seconds for name, seconds in limits.items() if name in known},
  )
  jax.devices()  # accelerators meet once more


def _find_coordinator(coordinator: str, processes: int, process: int, timeout_s: int) -> None:
  """Raises ValueError unless the coordinator accepts a connection within `timeout_s`; process 0 is the coordinator."""
  host, _, port = coordinator.rpartition(":")
  deadline = time.monotonic() + timeout_s
  while process:
    try:
      socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
      return
    except OSError as e:
      if time.monotonic() > deadline:
        raise ValueError(
          f"process {process} of {processes} found no coordinator at --coordinator={coordinator} in {timeout_s} s ({e})"
          ": it must be HOST:PORT on the machine of process 0, which must be running and its port open to all"
        ) from e
      time.sleep(0.5)


def _surely_alone() -> bool:
  """Returns whether the environment names one process where JAX's detection would wait, fail or use a single GPU."""
  hosts = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES")
  if hosts:  # Kaggle names a host "local", which JAX would look up for five minutes
    return "," not in hosts and os.environ.get("MEGASCALE_NUM_SLICES", "1") == "1"
  if "KUBERNETES_SERVICE_HOST" in os.environ:  # a notebook, a plain pod
    return "JOB_COMPLETION_INDEX" not in os.environ
  return os.environ.get("SLURM_NTASKS") == "1"


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())[:300] or type(error).__name__
