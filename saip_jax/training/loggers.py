"""Further loggers of a run, `config.loggers`: they get what metrics.jsonl and TensorBoard get, and panels.

A logger never ends a run: its failures are warnings on standard error.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from input_pipeline.names import shown_error
from input_pipeline.schema import to_dict
from input_pipeline.storage import write_file
from saip_jax.config import RunConfig
from saip_jax.run_folder.files import PANELS, WANDB
from saip_jax.run_folder.integrity import read_object
from saip_jax.run_folder.workdir import RunFolder

_FINISH_SECONDS = 120  # for uploads at the end of a run


class Logger(Protocol):
  """Receives the records of a run on its first host."""

  def start(self, records: Sequence[Mapping[str, Any]], start_step: int) -> str:
    """Opens the logger and returns a line for the terminal, "" if it failed.

    Args:
      records: those of metrics.jsonl that precede this start.
      start_step: updates done.
    """

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Takes scalars of an update; those of one update may come in several calls."""

  def write_panel(self, step: int, name: str, path: pathlib.Path) -> None:
    """Takes a panel, the path of a PNG."""

  def flush(self) -> None:
    """Sends everything taken so far; called before a checkpoint makes it final."""

  def finish(self, summary: Mapping[str, Any]) -> None:
    """Takes the summary of a run that ends without an error."""

  def close(self) -> None:
    """Ends the logging; without a `finish` before, the run failed."""


def check_loggers(names: Collection[str]) -> None:
  """Raises ValueError if the package of a logger in `config.loggers` is not installed."""
  for name in names:
    spec = importlib.util.find_spec(LOGGERS[name].package)
    if spec is None or spec.origin is None:  # a folder of that name in the current one is no package
      raise ValueError(f'config.loggers names {name!r}, which is not installed: pip install "saip-jax[{name}]"')


def make_loggers(config: RunConfig, folder: RunFolder) -> list[Logger]:
  """Returns the loggers of a run, to be started."""
  return [LOGGERS[name](config, folder) for name in config.loggers]


class WandbLogger:
  """Weights & Biases, https://wandb.ai; all starts of a run are one run there, whose id is in W/wandb.json.

  Its history is that of metrics.jsonl: a start first sends the records and panels that are missing there, so that
  failures before and a logger chosen late leave no gap. W&B cannot take back an update, so none is sent twice: after a
  kill they are repeated with the same values. Online, the server knows its newest update. Offline, each start writes a
  file of its own, for updates that no other has. A kill leaves that file incomplete, without a way to continue it; the
  next start puts it aside and writes these updates again.
  """

  package = "wandb"

  def __init__(self, config: RunConfig, folder: RunFolder):
    self._config, self._folder = config, folder
    self._place = os.environ.get("WANDB_DIR") or str(folder.data_cache)  # local, also for a run in a bucket
    self._run: Any = None
    self._rows: dict[int, dict[str, Any]] = {}  # of updates that are not sent yet
    self._next_step = 0  # the first update that W&B lacks
    self._exit_status = 1

  def start(self, records: Sequence[Mapping[str, Any]], start_step: int) -> str:
    with self._guarded("starting"):
      self._open()
      for record in records:
        self._add(record["step"], {name: value for name, value in record.items() if name != "step"})
      for path in (self._folder.path / PANELS).glob("*.png"):
        step, _, name = path.stem.partition("_")
        if int(step) <= start_step:
          self._add_panel(int(step), name, path)
      self._send()
      if self._run.offline:
        return f"wandb    offline in {self._place}/wandb, `wandb sync` sends it"
      return f"wandb    {self._run.url}"
    return ""

  def _open(self) -> None:
    try:
      import wandb  # an extra
    except ImportError as error:
      raise ImportError('the package is not installed: pip install "saip-jax[wandb]"') from error

    path = self._folder.path / WANDB
    stored = read_object(path) if path.exists() else {}
    _put_aside(stored.get("unfinished"))
    options = {"finish_timeout": _FINISH_SECONDS} if "finish_timeout" in wandb.Settings.model_fields else {}
    self._run = run = wandb.init(
      id=stored.get("id"),
      project=stored.get("project") or os.environ.get("WANDB_PROJECT") or "saip_jax",
      entity=stored.get("entity"),  # None: WANDB_ENTITY, or the user's own
      name=os.environ.get("WANDB_NAME") or pathlib.PurePath(self._folder.name).name,
      dir=self._place,
      config=to_dict(self._config),
      allow_val_change=True,  # another total_steps, say
      resume="allow",
      reinit="create_new",  # leaves a run that the user of a notebook has open
      settings=wandb.Settings(silent=True, console="off", **options),
    )
    self._next_step = stored.get("next_step", 0) if run.offline else run.starting_step
    self._stored = {"id": run.id, "project": run.project, "entity": run.entity or stored.get("entity")}
    self._store(unfinished=str(pathlib.Path(run.dir).parent) if run.offline else None)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    with self._guarded("taking metrics"):
      self._add(step, values)
      self._send(keep=1)  # more of this update may come

  def write_panel(self, step: int, name: str, path: pathlib.Path) -> None:
    with self._guarded("taking a panel"):
      self._add_panel(step, name, path)

  def flush(self) -> None:
    with self._guarded("sending metrics"):
      self._send()
      if self._run and not self._run.offline:
        self._store()

  def finish(self, summary: Mapping[str, Any]) -> None:
    with self._guarded("taking the summary"):
      self._send()
      if self._run:
        self._run.summary.update(dict(summary))
        self._exit_status = 0

  def close(self) -> None:
    with self._guarded("closing"):
      self._send()
      run, self._run = self._run, None
      if run:
        run.finish(exit_code=self._exit_status)
        self._store()

  def _add(self, step: int, values: Mapping[str, Any]) -> None:
    if self._run and step >= self._next_step:
      self._rows.setdefault(step, {"_timestamp": time.time()}).update(values)

  def _add_panel(self, step: int, name: str, path: pathlib.Path) -> None:
    if self._run and step >= self._next_step:
      import wandb

      self._add(step, {f"panels/{name}": wandb.Image(str(path))})

  def _send(self, keep: int = 0) -> None:
    """Sends the rows of all updates but the newest `keep`."""
    for step in sorted(self._rows)[: len(self._rows) - keep]:
      self._run.log(self._rows.pop(step), step=step, commit=True)
      self._next_step = step + 1

  def _store(self, unfinished: str | None = None) -> None:
    """Writes W/wandb.json.

    Args:
      unfinished: the folder of an offline start from now on; None: W&B has all updates before `_next_step`.
    """
    content = self._stored | {"next_step": self._next_step} | ({"unfinished": unfinished} if unfinished else {})
    write_file(str(self._folder.path / WANDB), (json.dumps(content) + "\n").encode())

  @contextlib.contextmanager
  def _guarded(self, doing: str) -> Iterator[None]:
    """Turns an error of a block into a warning, and takes no more records."""
    try:
      yield
    except Exception as e:
      self._run, self._rows = None, {}
      print(
        f"warning: Weights & Biases failed, {doing}: {shown_error(e)}; the run goes on without it, and sends what"
        " is missing there when it is resumed",
        file=sys.stderr,
        flush=True,
      )


def _put_aside(folder: str | None) -> None:
  """Renames the folder of an offline start that was killed, so that `wandb sync` does not find it."""
  if folder and os.path.isdir(folder):
    path = pathlib.Path(folder)
    path.rename(path.with_name(f"killed-{path.name}"))


LOGGERS: dict[str, type[WandbLogger]] = {"wandb": WandbLogger}
