"""Messages of a run in the terminal: banner, one live line, closing summary."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from tqdm import tqdm

from input_pipeline.names import ESCAPED
from saip_jax.run_folder.files import CHECKPOINTS, DAMAGED, METRICS, PANELS
from saip_jax.run_folder.workdir import RunFolder
from saip_jax.training.mesh import device_kinds

# Text of these metrics on the live line; losses are shown with their own names.
_LIVE_METRICS = {"time/images_per_s": "{:.1f} images/s", "time/input_wait_fraction": "input wait {:.0%}"}
_DAMAGED_SHOWN = 20


class Progress:
  """Prints on one host and is silent on all others.

  The banner and the summary go to standard output. The live line goes to standard error if that is a terminal;
  otherwise there is a plain line at each checkpoint and at the end.
  """

  def __init__(self, total_steps: int, enabled: bool = True):
    self._total_steps, self._enabled = total_steps, enabled
    self._bar, self._newest = None, ""

  def say(self, line: str) -> None:
    """Prints a line, above the live line if there is one."""
    if self._enabled:
      encoding = sys.stdout.encoding or "utf-8"
      tqdm.write(
        line.encode(encoding, ESCAPED).decode(encoding), file=sys.stdout
      )  # names of data sets may have any characters
      sys.stdout.flush()

  def details(self, text: str) -> None:
    """Prints lines that a summary leaves out."""
    self.say(text)

  def start(self, step: int) -> None:
    """Shows the live line of a run that is at `step`."""
    if self._enabled and sys.stderr.isatty():
      layout = "{n_fmt}/{total_fmt} |{bar:16}| {desc}, {remaining} left"
      self._bar = tqdm(total=self._total_steps, initial=step, bar_format=layout, dynamic_ncols=True, file=sys.stderr)

  def update(self, step: int, record: Mapping[str, Any]) -> None:
    """Takes the record of an update: `epoch`, `loss/*` and `time/*`."""
    names = sorted((name for name in record if name.startswith("loss/")), key=lambda name: name != "loss/total")
    losses = [f"{name.removeprefix('loss/')} {record[name]:.4g}" for name in names]
    speed = [text.format(record[name]) for name, text in _LIVE_METRICS.items()]
    self._newest = f"epoch {record['epoch']:.2f}, {' '.join(losses)}, {', '.join(speed)}"
    if self._bar is not None:
      self._bar.set_description_str(self._newest, refresh=False)
      self._bar.update(step - self._bar.n)

  def checkpoint(self, step: int) -> None:
    """Notes that a checkpoint of `step` was started."""
    if self._bar is None:
      self.say(f"step {step}/{self._total_steps}" + (f", {self._newest}" if self._newest else "") + ", checkpoint")

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()
      self._bar = None


def parameter_table(state) -> str:
  """Returns a table of the parameters of a `TrainState`, arrays or their shapes."""
  from clu import parameter_overview  # the table only; clu's metric writers would need TensorFlow

  shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state.params)
  return parameter_overview.get_parameter_overview(shapes, include_stats=False)


def run_banner(mesh, state, config, data, workdir: str) -> str:
  """Returns the message before the first step: numbers of parameters, devices, data, length, outputs.

  Args:
    mesh: the devices.
    state: the initial `TrainState`, arrays or their shapes.
    config: the `RunConfig`.
    data: the training data (`len`, `summary()`).
    workdir: the run's folder, as the user named it.
  """
  epochs = config.total_steps * config.batch_size / len(data)
  return "\n".join(
    [
      f"weights  {', '.join(f'{name} {count:,}' for name, count in _counts(state.params).items())}",
      f"devices  {device_kinds(mesh)}, mesh {dict(mesh.shape)}, {jax.process_count()} host(s)",
      f"method   {config.method.name} on {config.model.backbone}, {config.precision}",
      *data.summary(),
      f"run      {config.total_steps:,} steps of {config.batch_size} images (micro-steps: {config.accumulate}),"
      f" {epochs:.4g} epochs of {len(data):,} images",
      f"outputs  {workdir}: metrics.jsonl, tensorboard/, checkpoints/ every {config.checkpoint_every} steps,"
      + (f" panels/ every {config.panel_every} steps" if config.panel_every else " no panels"),
    ]
  )


def _counts(params) -> dict[str, int]:
  """Returns the number of parameters of each module of the method and in total."""
  size = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
  return {name: size(tree) for name, tree in params.items()} | {"total": size(params)}


def run_summary(folder: RunFolder, step: int, damage_lines: Sequence[str]) -> str:
  """Returns the message at the end of a run: the paths of its outputs.

  Args:
    folder: the run's folder.
    step: that of the newest checkpoint, 0 before the first.
    damage_lines: the damaged images, one line each.
  """
  checkpoint = folder.child(CHECKPOINTS, str(step)) if step else "none yet"
  lines = [f"checkpoint {checkpoint}", f"metrics    {folder.child(METRICS)}"]
  panels = sorted(path.name for path in (folder.path / PANELS).glob("*.png"))
  newest = max((name.split("_")[0] for name in panels), key=int, default=None)
  lines += [f"panel      {folder.child(PANELS, name)}" for name in panels if name.startswith(f"{newest}_")]
  if damage_lines:
    lines.append(f"damaged    {len(damage_lines)} images skipped, listed in {folder.child(DAMAGED)}")
    lines += [f"           {line}" for line in damage_lines[:_DAMAGED_SHOWN]]
  return "\n".join(lines)
