"""Plays the package wandb, online, and the server that it sends to: runs by id, with their histories."""

import importlib.machinery
import types


class Server:
  """What was sent.

  Attributes:
    runs: id -> {"history": step -> row, "config", "summary", "exit_code", "options"}.
    ignored: (id, step) of rows for updates that a run had already.
    fails: the call that raises: "init", "log", "summary" or "finish"; None: none.
  """

  def __init__(self):
    self.runs, self.ignored, self.fails = {}, [], None

  def check(self, call: str) -> None:
    if self.fails == call:
      raise RuntimeError(f"no connection\nfor {call}")

  def package(self) -> types.ModuleType:
    """Returns the module, to be put into `sys.modules`."""
    module = types.ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None, origin="a test")
    module.Settings = Settings
    module.Image = lambda path: f"image {path}"
    module.init = lambda **options: Run(self, **options)
    return module


class Settings:
  model_fields = {"silent": None, "console": None, "finish_timeout": None}

  def __init__(self, **values):
    self.values = values


class Run:
  offline = False

  def __init__(self, server: Server, id, project, entity, config, **options):
    server.check("init")
    self._server, self.id = server, id or f"id{len(server.runs)}"
    self.project, self.entity, self.url = project, entity or "me", f"https://wandb/{project}/{self.id}"
    new = {"history": {}, "config": {}, "summary": {}, "exit_code": None, "options": options}
    self._stored = server.runs.setdefault(self.id, new)
    self._stored["config"] |= config
    self.starting_step = max(self._stored["history"], default=-1) + 1
    self.summary, self.dir = self, None

  def log(self, row, step, commit):
    assert commit
    self._server.check("log")
    if step <= max(self._stored["history"], default=-1):
      self._server.ignored.append((self.id, step))
    else:
      self._stored["history"][step] = row

  def update(self, values):
    self._server.check("summary")
    self._stored["summary"] |= values

  def finish(self, exit_code):
    self._server.check("finish")
    self._stored["exit_code"] = exit_code
