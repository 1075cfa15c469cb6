"""Several processes as one run: the only file that knows JAX's multi-host interface.

A process alone needs none of it: there every function here returns at once.
"""

import contextlib
import itertools
import os
import socket
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
from jax._src.distributed import global_state  # barriers that need no device have no public name, nor has
from jax._src.xla_bridge import backends_are_initialized  # whether it is too late
from jax.experimental import multihost_utils

from saip_jax.training.watchdog import Watchdog

_BARRIER_SECONDS = 4 * 3600  # the first host may render or index a data set meanwhile
_numbers = itertools.count()


def initialize(
  coordinator: str | None = None, processes: int | None = None, process: int | None = None, timeout_s: int = 300
) -> None:
  """Joins this process with the others of its run; to be called before anything asks JAX for a device.

  What is not given is taken from the variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, and
  what is not there either from the environment: Cloud TPU, Slurm (one task per GPU), Open MPI, an indexed Kubernetes
  Job or JobSet (needs `pip install kubernetes`). Where none of these knows of other processes, this one is alone; so it
  is in a notebook that has used its devices already.

  Args:
    coordinator: HOST:PORT on the machine of process 0, reachable from all.
    processes: their number.
    process: which one this is, from 0.
    timeout_s: how long to wait for the others, seconds.

  Raises:
    ValueError: settings that are incomplete or impossible, or processes that do not find each other.
  """
  if jax.distributed.is_initialized():
    return
  coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
  processes = _number(processes, "JAX_NUM_PROCESSES")
  process = _number(process, "JAX_PROCESS_ID")
  given = (coordinator, processes, process)
  if processes == 1 or given == (None, None, None) and (_surely_alone() or backends_are_initialized()):
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
    if "JOB_COMPLETION_INDEX" in os.environ:  # one of many, for all we know
      raise ValueError(
        "this is one process of a Kubernetes Job and cannot find the others: `pip install kubernetes`, or give"
        " --coordinator, --processes and --process (JAX_NUM_PROCESSES=1 if it is the only one)"
      ) from e
    if isinstance(e, OSError):  # a TPU of Google's cloud always has the server that tells of its hosts
      warnings.warn(f"no Cloud TPU metadata ({_one_line(e)[:80]}): this process trains alone", stacklevel=2)
  except RuntimeError as e:  # among them: Kubernetes refuses to tell, the port is taken
    raise ValueError(f"cannot join the other processes: {_one_line(e)}") from e


def barrier(name: str) -> None:
  """Returns once all processes are here; they wait on the network, and no device is kept busy.

  Between two steps a collective would do, but on CPU it gives up after 30 s.
  """
  if global_state.num_processes > 1:
    global_state.client.wait_at_barrier(f"saip_{name}_{next(_numbers)}", _BARRIER_SECONDS * 1000)


@contextlib.contextmanager
def first_host_first():
  """Runs a block on process 0, then on all others: they find the files that it made."""
  if global_state.process_id:
    barrier("first_host")
  try:
    yield
  finally:  # also if it failed: the others shall fail by themselves, not wait
    if not global_state.process_id:
      barrier("first_host")


def on_first_host(function: Callable[[], Any]) -> Any:
  """Returns what a function returns on process 0, where alone it is called, and None on all others.

  Raises:
    ValueError: the function raised an error; all processes raise it.
  """
  if global_state.num_processes <= 1:
    return function()
  key, error = f"saip_first_host_{next(_numbers)}", ""
  if global_state.process_id:
    error = global_state.client.blocking_key_value_get(key, _BARRIER_SECONDS * 1000).removeprefix(":")
    if error:
      raise ValueError(error)
    return None
  try:
    return function()
  except Exception as e:
    error = str(e) or type(e).__name__
    raise
  finally:
    global_state.client.key_value_set(key, f":{error}")


def stop_agreed(step: int) -> bool:
  """Returns whether all processes stop here, because one of them got SIGTERM; all must ask at every step.

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
  jax.distributed.initialize(
    *given,
    cluster_detection_method="deactivate" if None not in given else None,
    initialization_timeout=timeout_s + 60,  # the watchdog is first, JAX itself would abort
    shutdown_timeout_seconds=60,  # a host that failed does not keep the others for longer
  )
  jax.devices()  # accelerators meet once more


def _find_coordinator(coordinator: str, processes: int, process: int, timeout_s: int) -> None:
  """Raises ValueError unless somebody listens at the address by and by; process 0 will do so itself."""
  host, _, port = coordinator.rpartition(":")
  deadline = time.monotonic() + timeout_s
  while process:
    try:
      socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
      return
    except OSError as e:
      if time.monotonic() > deadline:
        raise ValueError(
          f"process {process} of {processes} found nobody at --coordinator={coordinator} in {timeout_s} s ({e}): it"
          " must be HOST:PORT on the machine of process 0, which must be running and its port open to all"
        ) from e
      time.sleep(0.5)


def _surely_alone() -> bool:
  """Whether the environment speaks of one process where JAX's own look at it would wait, fail or take one GPU only."""
  hosts = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES")
  if hosts:  # Kaggle names a host "local", which JAX would look up for five minutes
    return "," not in hosts and os.environ.get("MEGASCALE_NUM_SLICES", "1") == "1"
  if "KUBERNETES_SERVICE_HOST" in os.environ:  # a notebook, a plain pod
    return "JOB_COMPLETION_INDEX" not in os.environ
  return os.environ.get("SLURM_NTASKS") == "1"


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())[:300] or type(error).__name__
