"""Recipes (plain Python files) typed once at the edge: below this file nobody asks a config for a key.

A recipe is a file whose `get_config()` returns nested mappings. `load_recipe` reads it, `apply_overrides` puts the
command line on top, `parse_config` turns the result into frozen dataclasses and refuses what cannot work.
"""

import ast
import dataclasses
import pathlib
import runpy
import sys
import types
from typing import Any, Literal, Mapping, Sequence, get_args

from saip_jax.typed import build_typed, choices_hint


def _require(condition: bool, message: str) -> None:
  """Raises ValueError(message) unless the condition holds."""
  if not condition:
    raise ValueError(message)


def _require_sizes(path: str, sizes_hw: tuple[int, int], multiple: int = 1) -> None:
  _require(
      all(size > 0 and size % multiple == 0 for size in sizes_hw),
      f"{path} is {sizes_hw}: height and width must be positive"
      + (f" multiples of {multiple}" if multiple > 1 else ""),
  )


SourceName = Literal["folder", "arrayrecord", "tfds", "webdataset", "zip", "lmdb", "video", "multiview", "coco",
                     "yolo", "pennfudan", "lsp", "market1501", "msmt17", "crowdhuman", "joints3d", "cuhkpedes",
                     "icfgpedes", "rstpreid", "pa100k", "peta", "rap", "lip", "cihp", "atr", "ccp", "fashionpedia",
                     "people"]
"""The kinds of data sets; `input_pipeline.sources.table.SOURCES` says what the path of each is."""

PeopleComposition = Literal["crops", "views", "clips"]
"""What the default set of built-in people shows: every picture another moment, 4 cameras for each, or 8 frames."""


MonitorName = Literal["reid", "attributes", "parts"]
"""What is measured while a run trains; see `saip_jax.evaluation.monitors`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixturePart:
  """One data set of a mixture.

  Attributes:
    source: its kind.
    path: where it lies; None: the default set of built-in people, for source "people" alone.
    split: which part of it; None: the usual one.
    subset: file of names, made by `saip doctor --subset`: these images alone; None: all.
    weight: its share of a batch is `weight` / the sum of all weights.
    people_count: as in `DataConfig`.
    people_composition: as in `DataConfig`.
  """

  source: SourceName
  path: str | None = None
  split: str | None = None
  subset: str | None = None
  weight: float = 1.0
  people_count: int = 0
  people_composition: PeopleComposition = "crops"

  def __post_init__(self):
    _require(self.weight > 0, f"config.data.mixture: weight is {self.weight}: it must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairsConfig:
  """What makes a pair of images, for methods that learn from pairs; see `input_pipeline.pairs`.

  Attributes:
    kinds: "view", the same instant seen by another camera; "pose", the same person and camera at another time. An image
      that has partners of both kinds is paired as often in either.
    gap: of pose pairs, the shortest and the longest time between the images, seconds, to the millisecond.
    frame_rate: frames per second of sources that number their frames without saying when they were taken.
  """

  kinds: tuple[Literal["view", "pose"], ...] = ("view", "pose")
  gap: tuple[float, float] = (0.2, 2.0)
  frame_rate: float = 30.0

  def __post_init__(self):
    at = "config.data.pairs"
    _require(bool(self.kinds), f"{at}.kinds is empty: name view, pose or both")
    _require(
        0 <= self.gap[0] <= self.gap[1], f"{at}.gap is {self.gap}: the shortest and the longest time in seconds"
    )
    _require(self.frame_rate > 0, f"{at}.frame_rate is {self.frame_rate}: it must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
  """Where the images come from and how the host decodes them.

  Attributes:
    source: what kind of data set: "people" (rendered here), "folder" (image files, searched recursively),
      "arrayrecord" (made by `saip prepare`: the fastest), another name in `SourceName`, or "mixture".
    path: where it lies, a path or a URL (gs://, s3://), or None in a recipe that leaves it to the command line; for
      "people", a folder made by `saip prepare people` without --export, or None for a default set that is rendered on
      first use.
    split: which part of it, for sources that have splits; None: the one for training.
    subset: file of names, made by `saip doctor --subset`: these images alone; None: all.
    mixture: name -> data set; for source "mixture" alone.
    scene_path: the photos that persons are pasted into: a folder, prepared into the cache on first use, or a set made
      by `saip prepare ... --scenes`; None takes other images of the same source.
    canvas_hw: height and width in pixels of the canvas an image is decoded onto (shrunk if larger).
    scene_canvas_hw: the same for scenes.
    people_count: pictures of the default set of built-in people, all splits together: about 7 of 10 are trained on;
      only "people" without a path reads it, here and in `monitor_data`.
    people_composition: what these pictures show: "crops", every one another moment; "views", each moment from 4
      cameras; "clips", 8 frames of a motion.
    pairs: for methods that learn from pairs of images, what makes a pair.
    pictures_per_identity: for methods that compare persons, images of one person that a batch holds side by side; 0:
      whatever comes.
    workers: decoding processes per host; 0 decodes in threads of the training process.
    threads: decoding threads per host or per worker.
    max_damaged_fraction: share of the set that may be unreadable before the run stops, 0 to 1.
  """

  source: Literal[*get_args(SourceName), "mixture"]
  path: str | None = None
  split: str | None = None
  subset: str | None = None
  mixture: dict[str, MixturePart] | None = None
  scene_path: str | None = None
  canvas_hw: tuple[int, int] = (320, 160)
  scene_canvas_hw: tuple[int, int] = (256, 256)
  people_count: int = 0
  people_composition: PeopleComposition = "crops"
  pairs: PairsConfig = PairsConfig()
  pictures_per_identity: int = 0
  workers: int = 0
  threads: int = 8
  max_damaged_fraction: float = 0.01

  def __post_init__(self):
    at = "config.data"
    _require(
        self.source != "people" or bool(self.path) or self.people_count > 0,
        f"{at}.source is 'people': {at}.people_count must be positive, it is {self.people_count}",
    )
    _require(
        (self.source == "mixture") == bool(self.mixture),
        f"{at}.source is {self.source!r} and {at}.mixture is {'given' if self.mixture else 'empty'}: source 'mixture'"
        " and a mixture go together",
    )
    for key in ("path", "split", "subset"):
      _require(
          self.source != "mixture" or getattr(self, key) is None,
          f"{at}.{key} is {getattr(self, key)!r}: with source 'mixture' each part has its own, {at}.mixture.NAME.{key}",
      )
    for name, part in (self.mixture or {}).items():
      _require(
          bool(part.path) or part.source == "people" and part.people_count > 0,
          f"missing: {at}.mixture.{name}.path" + " or a positive people_count" * (part.source == "people"),
      )
    _require_sizes(f"{at}.canvas_hw", self.canvas_hw)
    _require_sizes(f"{at}.scene_canvas_hw", self.scene_canvas_hw)
    _require(
        self.pictures_per_identity >= 0 and not (self.pictures_per_identity and self.source == "mixture"),
        f"{at}.pictures_per_identity is {self.pictures_per_identity}: it must be 0 or more, and 0 with source"
        " 'mixture', whose weights it would not follow",
    )
    _require(self.workers >= 0, f"{at}.workers is {self.workers}: it must be 0 or more")
    _require(self.threads > 0, f"{at}.threads is {self.threads}: it must be 1 or more")
    fraction = self.max_damaged_fraction
    _require(0 <= fraction <= 1, f"{at}.max_damaged_fraction is {fraction}: it must lie in 0 to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """The network that is pre-trained and exported.

  Attributes:
    backbone: a name in `saip_jax.backbones.BACKBONES`.
    image_hw: height and width in pixels of the global views, multiples of the patch size 16.
  """

  backbone: str
  image_hw: tuple[int, int]

  def __post_init__(self):
    _require_sizes("config.model.image_hw", self.image_hw, multiple=16)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """AdamW or SGD with linear warm-up and a half-cosine decay.

  Attributes:
    name: "adamw", or "sgd" with momentum.
    learning_rate: peak learning rate, reached after the warm-up.
    min_learning_rate: learning rate at the last update.
    warmup_fraction: share of the updates spent on the linear warm-up; 0 starts at the peak.
    b1: decay rate of the first moment; momentum of SGD.
    b2: decay rate of the second moment; AdamW alone.
    eps: added to the root of the second moment; AdamW alone.
    weight_decay: AdamW: decoupled weight decay, times the learning rate at each update; SGD: added to the gradient.
    final_weight_decay: what `weight_decay` becomes over the run, along half a cosine (DINO); None: it stays.
    grad_clip_norm: gradients are scaled down to this global norm; None leaves them.
  """

  name: Literal["adamw", "sgd"] = "adamw"
  learning_rate: float
  min_learning_rate: float
  warmup_fraction: float
  b1: float
  b2: float
  eps: float
  weight_decay: float
  final_weight_decay: float | None = None
  grad_clip_norm: float | None

  def __post_init__(self):
    at = "config.optimizer"
    _require(self.learning_rate > 0, f"{at}.learning_rate is {self.learning_rate}: it must be positive")
    _require(
        0 <= self.min_learning_rate <= self.learning_rate,
        f"{at}.min_learning_rate is {self.min_learning_rate}: it must lie in 0 to {at}.learning_rate,"
        f" which is {self.learning_rate}",
    )
    warmup = self.warmup_fraction
    _require(0 <= warmup < 1, f"{at}.warmup_fraction is {warmup}: it must lie in 0 to 1, 1 excluded")
    for name in ("b1", "b2"):
      _require(0 <= getattr(self, name) < 1, f"{at}.{name} is {getattr(self, name)}: it must lie in 0 to 1, 1 excluded")
    _require(self.eps > 0, f"{at}.eps is {self.eps}: it must be positive")
    _require(self.weight_decay >= 0, f"{at}.weight_decay is {self.weight_decay}: it must be 0 or more")
    final = self.final_weight_decay
    _require(final is None or final >= 0, f"{at}.final_weight_decay is {final}: it must be 0 or more, or None")
    clip = self.grad_clip_norm
    _require(clip is None or clip > 0, f"{at}.grad_clip_norm is {clip}: it must be positive, or None for no clipping")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
  """One pre-training run.

  Attributes:
    seed: seed of everything random: weights, data order, views. 0 to 2**32 - 1.
    batch_size: images per update, over all devices and hosts.
    accumulate: micro-steps per update; each sees batch_size / accumulate images.
    total_steps: updates of the whole run.
    checkpoint_every: updates between two checkpoints.
    keep_last: number of newest checkpoints kept.
    keep_every: checkpoints at multiples of this many updates are kept for good; None keeps only the newest.
    panel_every: updates between two sets of pictures; 0 draws none.
    monitor_every: updates between two measurements of the encoder's frozen features, the first before any update, the
      last after all; 0: never. They change nothing else.
    monitors: what is measured then.
    monitor_data: on what: "people", or SOURCE:PATH as `--data` of `saip evaluate` has it.
    monitor_hold_out: cut one split of it in two, as `--hold-out` does, instead of using its own.
    monitor_images: about how many pictures of it for each monitor to measure on, and as many for probes to fit on.
    log_every: updates between two records in metrics.jsonl and TensorBoard.
    precision: type of the arithmetic in the network; parameters, losses and norms are always float32.
    init_from: weights that a new run starts from, whatever `saip_jax.interop.weights.open_weights` reads: another
      run, a folder made by `saip import`, a file in a published layout; None starts at random.
    init_heads: take the heads of these weights too, where they have some; False takes the backbone alone.
    fsdp: devices that share one copy of the state (parameters, teacher, optimiser); 1: every device has its own. For
      models that do not fit otherwise: it costs messages, and changes no result.
    watchdog_minutes: a process in which no step finishes for this long writes down where it stands and ends with an
      error, to be started again; 0: it may hang.
    profile_steps: "10:15" records the updates after 10 up to 15 in W/profile, for xprof or TensorBoard; None: none.
    compile_cache: folder or URL (gs://) of compiled programs, so that a restart need not compile again; None: the one
      in the variable JAX_COMPILATION_CACHE_DIR, if set.
    remat: what the backward pass computes again instead of keeping it: "none"; "light", all but products with weights,
      which saves most of the memory for little work; "full", whole blocks, a third more work.
    data: the images.
    model: the network.
    method: the objective; its class stands beside the method in `saip_jax.methods`.
    optimizer: the optimiser and its schedule.
  """

  seed: int = 0
  batch_size: int
  accumulate: int
  total_steps: int
  checkpoint_every: int
  keep_last: int = 3
  keep_every: int | None = None
  panel_every: int
  monitor_every: int = 0
  monitors: tuple[MonitorName, ...] = ("reid", "attributes", "parts")
  monitor_data: str = "people"
  monitor_hold_out: bool = False
  monitor_images: int = 512
  log_every: int = 1
  precision: Literal["bfloat16", "float32"]
  init_from: str | None = None
  init_heads: bool = True
  fsdp: int = 1
  watchdog_minutes: float = 30.0
  profile_steps: str | None = None
  compile_cache: str | None = None
  remat: Literal["none", "light", "full"] = "light"
  data: DataConfig
  model: ModelConfig
  method: Any
  optimizer: OptimizerConfig

  def __post_init__(self):
    _require(0 <= self.seed < 2**32, f"config.seed is {self.seed}: it must lie in 0 to 2**32 - 1")
    for name in ("batch_size", "accumulate", "total_steps", "checkpoint_every", "keep_last", "monitor_images",
                 "log_every", "fsdp"):
      _require(getattr(self, name) > 0, f"config.{name} is {getattr(self, name)}: it must be positive")
    _require(
        self.keep_every is None or self.keep_every > 0,
        f"config.keep_every is {self.keep_every}: it must be positive, or None to keep only the newest checkpoints",
    )
    for name in ("panel_every", "monitor_every"):
      _require(getattr(self, name) >= 0, f"config.{name} is {getattr(self, name)}: it must be positive, or 0 for never")
    _require(
        self.batch_size % self.accumulate == 0,
        f"config.batch_size is {self.batch_size}: it must be a multiple of config.accumulate, which is"
        f" {self.accumulate}",
    )
    pictures = self.data.pictures_per_identity
    _require(
        not pictures or self.batch_size % pictures == 0,
        f"config.batch_size is {self.batch_size}: it must be a multiple of config.data.pictures_per_identity, which is"
        f" {pictures}",
    )
    minutes = self.watchdog_minutes
    _require(minutes >= 0, f"config.watchdog_minutes is {minutes}: it must be positive, or 0 for no watchdog")
    _ = self.profile_window

  @property
  def profile_window(self) -> tuple[int, int] | None:
    """`profile_steps` as (first, last) in updates done."""
    if self.profile_steps is None:
      return None
    first, _, last = self.profile_steps.partition(":")
    _require(
        first.isdigit() and last.isdigit() and int(first) < int(last),
        f"config.profile_steps is {self.profile_steps!r}: expected FIRST:LAST in updates, as in 10:15",
    )
    return int(first), int(last)


def load_recipe(path) -> dict[str, Any]:
  """Returns what the `get_config()` of a recipe file gives, as plain nested dicts.

  Args:
    path: a Python file, as those in configs/.

  Raises:
    ValueError: no such file, or a file that gives no config.
  """
  path = pathlib.Path(path)
  _require(path.is_file(), f"--config={path}: no such file; recipes are Python files, as in configs/")
  try:
    import ml_collections  # noqa: F401
  except ImportError:
    # Recipes write ConfigDict; a bare accelerator machine has only jax, and for reading a dict does as well.
    sys.modules["ml_collections"] = types.ModuleType("ml_collections")
    sys.modules["ml_collections"].ConfigDict = dict
  try:
    recipe = runpy.run_path(str(path))
    config = recipe["get_config"]() if "get_config" in recipe else None
  except Exception as e:
    raise ValueError(f"--config={path}: cannot be executed: {type(e).__name__}: {e}") from e
  _require("get_config" in recipe, f"--config={path}: defines no get_config(); recipes look as those in configs/")
  _require(hasattr(config, "items"), f"--config={path}: get_config() returned {type(config).__name__}, not a mapping")
  return _plain(config)


def _plain(value):
  return {str(k): _plain(v) for k, v in value.items()} if hasattr(value, "items") else value


def apply_overrides(recipe: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
  """Returns the recipe with `--config.a.b=value` settings on top.

  A value is read as a Python literal (`8`, `1e-3`, `(256, 128)`, `None`, `True`), or else as the string it is.
  Another `method.name` empties `method` first: the numbers of one method's recipe say nothing about another. So does a
  `data.source` other than "mixture" with `data.mixture`.

  Args:
    recipe: nested mappings, from `load_recipe`.
    overrides: arguments of the form `--config.a.b=value`.

  Raises:
    ValueError: an argument of another form, or one inside what is no section. Whether section and key exist is for
      `parse_config` to say, which knows the optional ones.
  """
  result = _plain(recipe)
  settings = []
  for argument in overrides:
    name, equals, text = argument.partition("=")
    if not (name.startswith("--config.") and equals):
      raise ValueError(f"unknown argument {argument!r}: settings are written --config.key=value")
    try:
      value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
      value = text
    settings.append((name.removeprefix("--config.").split("."), value))
  for path, value in settings:
    if path == ["method", "name"] and value != result.get("method", {}).get("name"):
      result["method"] = {}
    if path == ["data", "source"] and value != "mixture":
      result.get("data", {}).pop("mixture", None)
  for path, value in settings:
    section, at = result, "config"
    for key in path[:-1]:
      section, at = section.setdefault(key, {}), f"{at}.{key}"
      if not isinstance(section, dict):
        raise ValueError(f"{at} is {section!r}: it has no settings inside it")
    if isinstance(section.get(path[-1]), dict):
      raise ValueError(f"{at}.{path[-1]} is a section: set one of {', '.join(section[path[-1]])} inside it")
    section[path[-1]] = value
  return result


def parse_config(recipe: Mapping[str, Any], methods: Mapping[str, Any] | None = None) -> RunConfig:
  """Returns the typed configuration of a run.

  Args:
    recipe: nested mappings, from `load_recipe` and `apply_overrides`.
    methods: name -> entry with a `config_class`; `saip_jax.methods.METHODS` unless a test brings its own.

  Raises:
    ValueError: unknown or missing key, wrong type, unknown method or backbone, or settings that cannot go
      together; the message names the setting and what it may be.
  """
  from saip_jax.backbones import BACKBONES

  if methods is None:
    from saip_jax.methods import METHODS as methods
  recipe = _plain(recipe)
  method = recipe.get("method")
  _require(isinstance(method, dict) and "name" in method, "config.method.name is missing: it names the method")
  name = method["name"]
  if name not in methods:
    raise ValueError(f"config.method.name is {name!r}: no such method{choices_hint(name, methods)}")
  config = build_typed(RunConfig, recipe, "config", {"method": methods[name].config_class})
  backbone = config.model.backbone
  if backbone not in BACKBONES:
    raise ValueError(f"config.model.backbone is {backbone!r}: no such backbone{choices_hint(backbone, BACKBONES)}")
  return config
