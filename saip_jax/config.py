"""The typed config of a run: frozen dataclasses that refuse impossible values.

`recipes.parse_config` builds a `RunConfig` from a recipe; code below it reads attributes, never keys.
"""

import dataclasses
from typing import Any, Literal

from input_pipeline.checks import require, require_sizes
from input_pipeline.settings import DataConfig
from input_pipeline.storage import as_place

MonitorName = Literal["reid", "attributes", "parts"]
"""A measurement of frozen features during training; see `saip_jax.evaluation.monitors`."""
LoggerName = Literal["wandb"]
"""A logger beside metrics.jsonl and TensorBoard; see `saip_jax.training.loggers`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """The network that is pre-trained and exported.

  Attributes:
    backbone: a name in `saip_jax.backbones.BACKBONES`.
    image_hw: height and width in pixels of the global views, multiples of the patch size 16.
    heads: attention heads of a ViT; None uses those of the named backbone.
    last_heads: attention heads of its last block; None uses `heads`. Distilled students have more there, see
      `saip_jax.interop.attention_heads`.
    norm_eps: epsilon of a ViT's norms; None uses that of the named backbone. transformers' ViTs have 1e-12.
    patch_padding: zero pixels around an image before a ViT cuts it into patches; None uses that of the named backbone.
      Sapiens' models for pose, segmentation and depth have 2.
    attention: "xla"; or "pallas", the transformer blocks of a ViT and of the decoders as kernels for TPUs, for training
      alone: whole blocks up to a width of 512, attention alone above that, with rotary positions and in blocks with
      cross-attention. No TPU has run them yet, so "pallas" is not the default.
  """

  backbone: str
  image_hw: tuple[int, int]
  heads: int | None = None
  last_heads: int | None = None
  norm_eps: float | None = None
  patch_padding: int | None = None
  attention: Literal["xla", "pallas"] = "xla"

  def __post_init__(self):
    require_sizes("config.model.image_hw", self.image_hw, multiple=16)

  @property
  def own_attributes(self) -> dict[str, int | float]:
    """Attributes other than the named backbone's, as options of `backbones.build_backbone`."""
    names = ("heads", "last_heads", "norm_eps", "patch_padding")
    return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


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
    final_weight_decay: value of `weight_decay` at the last update, reached along half a cosine (DINO); None keeps it
      constant.
    grad_clip_norm: gradients are scaled down to this global norm; None disables clipping.
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
    require(self.learning_rate > 0, f"{at}.learning_rate is {self.learning_rate}: it must be positive")
    require(
      0 <= self.min_learning_rate <= self.learning_rate,
      f"{at}.min_learning_rate is {self.min_learning_rate}: it must lie in 0 to {at}.learning_rate,"
      f" which is {self.learning_rate}",
    )
    warmup = self.warmup_fraction
    require(0 <= warmup < 1, f"{at}.warmup_fraction is {warmup}: it must lie in 0 to 1, 1 excluded")
    for name in ("b1", "b2"):
      require(0 <= getattr(self, name) < 1, f"{at}.{name} is {getattr(self, name)}: it must lie in 0 to 1, 1 excluded")
    require(self.eps > 0, f"{at}.eps is {self.eps}: it must be positive")
    require(self.weight_decay >= 0, f"{at}.weight_decay is {self.weight_decay}: it must be 0 or more")
    final = self.final_weight_decay
    require(final is None or final >= 0, f"{at}.final_weight_decay is {final}: it must be 0 or more, or None")
    clip = self.grad_clip_norm
    require(clip is None or clip > 0, f"{at}.grad_clip_norm is {clip}: it must be positive, or None for no clipping")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
  """One pre-training run.

  Attributes:
    seed: seed of all randomness: weights, data order, views. 0 to 2**32 - 1.
    batch_size: images per update, over all devices and hosts.
    accumulate: micro-steps per update; each computes the gradient of batch_size / accumulate images.
    total_steps: updates of the whole run.
    checkpoint_every: updates between two checkpoints.
    keep_last: number of newest checkpoints kept.
    keep_every: checkpoints at multiples of this many updates are kept for good; None keeps only the newest.
    panel_every: updates between two sets of panels; 0 draws none.
    monitor_every: updates between two measurements of the encoder's frozen features, the first before any update, the
      last after all; 0 disables them. They do not change the run.
    monitors: the measurements.
    monitor_data: their data: "people", or SOURCE:PATH as for `--data` of `saip evaluate`.
    monitor_hold_out: cut one split of the data in two, as `--hold-out` does, instead of using its own splits.
    monitor_images: approximate number of images to measure on, and as many to fit probes on.
    log_every: updates between two records in metrics.jsonl and TensorBoard.
    loggers: further loggers that get the records, panels and the summary. They do not change the run.
    precision: type of the arithmetic in the network; parameters, losses and norms are always float32.
    init_from: weights that a new run starts from, anything that `saip_jax.interop.weights.open_weights` reads: another
      run (its newest whole checkpoint), a folder made by `saip import`, a file in a published layout, or
      "saip_nano_people", a model of this package; None starts from random weights.
    init_heads: load the heads of these weights too, where present; False loads the backbone alone.
    init_which: "teacher" starts from the teacher among these weights.
    fsdp: devices that share one copy of the state (parameters, teacher, optimizer); 1 replicates it on every device.
      For models too large for one device: it costs communication and does not change the result.
    watchdog_minutes: a process in which no step finishes for this long writes its stacks and ends with an error, to be
      started again; 0 disables the watchdog.
    watchdog_startup_minutes: the same limit for each part of the start: opening and restoring a checkpoint, compiling,
      waiting for the other hosts.
    profile_steps: "10:15" records the updates after 10 up to 15 in W/profile, for xprof or TensorBoard; None records
      none.
    compile_cache: folder or URL (gs://) of compiled programs, so that a restart need not compile again; None uses the
      environment variable JAX_COMPILATION_CACHE_DIR, if set.
    remat: which activations the backward pass recomputes instead of storing them: "none"; "light", which saves most of
      the memory for little work: of a transformer block all but inputs and results of attention, of other blocks all
      but products with weights; "full", whole blocks, a third more work.
    unroll: compile every block of the encoder and the decoders by itself instead of one loop over equal blocks, whose
      stored activations XLA on CPU first fills with zeros and then copies; pays for few small blocks on CPU.
    data: the images.
    model: the network.
    method: the objective; its class is in `saip_jax.methods`.
    optimizer: the optimizer and its schedule.
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
  loggers: tuple[LoggerName, ...] = ()
  precision: Literal["bfloat16", "float32"]
  init_from: str | None = None
  init_heads: bool = True
  init_which: Literal["student", "teacher"] = "student"
  fsdp: int = 1
  watchdog_minutes: float = 30.0
  watchdog_startup_minutes: float = 60.0
  profile_steps: str | None = None
  compile_cache: str | None = None
  remat: Literal["none", "light", "full"] = "light"
  unroll: bool = False
  data: DataConfig
  model: ModelConfig
  method: Any
  optimizer: OptimizerConfig

  def __post_init__(self):
    require(0 <= self.seed < 2**32, f"config.seed is {self.seed}: it must lie in 0 to 2**32 - 1")
    for name in (
      "batch_size",
      "accumulate",
      "total_steps",
      "checkpoint_every",
      "keep_last",
      "monitor_images",
      "log_every",
      "fsdp",
    ):
      require(getattr(self, name) > 0, f"config.{name} is {getattr(self, name)}: it must be positive")
    require(
      self.keep_every is None or self.keep_every > 0,
      f"config.keep_every is {self.keep_every}: it must be positive, or None to keep only the newest checkpoints",
    )
    if self.init_from:
      as_place(self.init_from, "config.init_from")
    require(
      len(set(self.loggers)) == len(self.loggers), f"config.loggers is {self.loggers}: it must name each logger once"
    )
    for name in ("panel_every", "monitor_every"):
      require(getattr(self, name) >= 0, f"config.{name} is {getattr(self, name)}: it must be positive, or 0 for never")
    require(
      self.batch_size % self.accumulate == 0,
      f"config.batch_size is {self.batch_size}: it must be a multiple of config.accumulate, which is {self.accumulate}",
    )
    pictures = self.data.pictures_per_identity
    require(
      not pictures or self.batch_size % pictures == 0,
      f"config.batch_size is {self.batch_size}: it must be a multiple of config.data.pictures_per_identity, which is"
      f" {pictures}",
    )
    for name in ("watchdog_minutes", "watchdog_startup_minutes"):
      require(
        getattr(self, name) >= 0, f"config.{name} is {getattr(self, name)}: it must be positive, or 0 for no watchdog"
      )
    _ = self.profile_window

  @property
  def profile_window(self) -> tuple[int, int] | None:
    """`profile_steps` as (first, last) in updates done."""
    if self.profile_steps is None:
      return None
    first, _, last = self.profile_steps.partition(":")
    require(
      first.isdigit() and last.isdigit() and int(first) < int(last),
      f"config.profile_steps is {self.profile_steps!r}: expected FIRST:LAST in updates, as in 10:15",
    )
    return int(first), int(last)

  @property
  def head_counts(self) -> dict[str, int]:
    """Attention heads of the decoders of the method, as "csr_heads"."""
    return {f"{name}_heads": part.heads for name, part in vars(self.method).items() if hasattr(part, "heads")}
