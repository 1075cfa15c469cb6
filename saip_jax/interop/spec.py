"""A model's weights: its parameters, and the facts about the model that parameters do not determine."""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from saip_jax.backbones import OWN_ATTRIBUTES, build_backbone, check_attributes
from saip_jax.backbones.features import Backbone
from saip_jax.backbones.pos_embed import interpolate_positions
from saip_jax.interop.architectures import ARCHITECTURES, TorchArchitecture
from saip_jax.interop.tables import flatten
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: Normalization = (IMAGENET_MEAN, IMAGENET_STD)

ENCODER_MODULES = {"student": "backbone", "teacher": "backbone", "depth": "depth_backbone"}
"""Encoders that can be exported -> their module; "depth" is HCMoCo's depth encoder, of the backbone's kind."""


@dataclasses.dataclass(frozen=True)
class BackboneSpec:
  """The facts about a backbone that its tensors do not determine.

  Attributes:
    name: key of `saip_jax.backbones.BACKBONES`.
    image_hw: image size in pixels of the stored positions, or the size to use if there are none.
    pos_interpolation: how training resized positions, one of `pos_embed.INTERPOLATIONS`; ignored for a backbone
      without a table of positions.
    heads: attention heads of a ViT; None for those of the named backbone. See `having`.
    last_heads: attention heads of its last block; None for as many as in the other blocks.
    norm_eps: epsilon of a ViT's norms; None for that of the named backbone.
    patch_padding: zero pixels around an image of a ViT; None for those of the named backbone.
    normalization: (mean, std) of each channel that images are normalized with, for values 0 to 1, RGB; None if unknown.
  """

  name: str
  image_hw: tuple[int, int]
  pos_interpolation: str | None = None
  heads: int | None = None
  last_heads: int | None = None
  norm_eps: float | None = None
  patch_padding: int | None = None
  normalization: Normalization | None = IMAGENET

  @property
  def architecture(self) -> TorchArchitecture:
    """Its counterpart in PyTorch.

    Raises:
      ValueError: a new backbone without one.
    """
    if self.name not in ARCHITECTURES:
      raise ValueError(
        f"the backbone {self.name} has no entry in saip_jax/interop/architectures.py, by which weights are stored: see"
        ' "Add a backbone" in CONTRIBUTING.md'
      )
    return ARCHITECTURES[self.name]

  def build(self, **options) -> Backbone:
    """Returns the module, float32 unless `options` set another precision."""
    if self.architecture.positions:
      options = {"pos_interpolation": self.pos_interpolation} | options
    return build_backbone(self.name, image_hw=self.image_hw, **self.own_attributes | options)

  @property
  def own_attributes(self) -> dict[str, int | float]:
    """Attributes other than those of the named backbone, as options of the module."""
    return {name: getattr(self, name) for name in OWN_ATTRIBUTES if getattr(self, name) is not None}

  def having(self, **attributes) -> "BackboneSpec":
    """Returns the spec with these attributes of `OWN_ATTRIBUTES`.

    The defaults of the named backbone are stored as None, so that equal networks have equal specs; those that are
    absent or None become the defaults too.

    Raises:
      ValueError: see `backbones.check_attributes`.
    """
    given = {name: value for name, value in attributes.items() if value is not None}
    check_attributes(self.name, **given)
    module = build_backbone(self.name)
    usual = {name: getattr(module, name, None) for name in OWN_ATTRIBUTES}
    usual["last_heads"] = given.get("heads", usual["heads"])
    own = {name: given.get(name) for name in OWN_ATTRIBUTES}
    return dataclasses.replace(self, **{name: value if value != usual[name] else None for name, value in own.items()})

  def attending(self, heads: int | None, last_heads: int | None) -> "BackboneSpec":
    """Returns the spec with these numbers of attention heads, see `having`."""
    return self.having(**self.own_attributes | {"heads": heads, "last_heads": last_heads})

  @property
  def timm_arguments(self) -> dict[str, Any]:
    """Arguments of `timm.create_model` that the features depend on; heads of the last block are not among them."""
    return self.architecture.arguments(self.image_hw) | ({"num_heads": self.heads} if self.heads else {})

  @property
  def patch(self) -> int:
    """Pixels from one cell of the hidden grid to the next; for a ViT, the side of a patch."""
    return self.build().stride

  @property
  def grid(self) -> tuple[int, int]:
    """The hidden grid at `image_hw`, the grid of stored positions."""
    return self.build().hidden_grid(self.image_hw)

  def facts(self) -> dict[str, Any]:
    """Returns JSON-able facts: all that a reader in other software needs to know."""
    return {
      "name": self.name,
      **self.architecture.facts(self.build()),
      "image_hw": list(self.image_hw),
      **({"pos_interpolation": self.pos_interpolation} if self.architecture.positions else {}),
      "mean": self.normalization and list(self.normalization[0]),
      "std": self.normalization and list(self.normalization[1]),
    }

  def check_size(self, image_hw: tuple[int, int], flag: str = "--image-hw") -> None:
    """Raises ValueError unless images of this size in pixels can be encoded; ViTs need whole patches."""
    height, width = image_hw
    if self.architecture.positions and any(side <= 0 or side % self.patch for side in image_hw):
      raise ValueError(
        f"{flag}={height}x{width}: height and width must be positive multiples of the patch, {self.patch}"
      )
    if min(image_hw) < self.patch:
      raise ValueError(f"{flag}={height}x{width}: height and width must be at least the stride, {self.patch}")


@dataclasses.dataclass(frozen=True)
class Weights:
  """The parameters of a model, as nested dicts of float32 numpy arrays, with their spec.

  A backbone's running statistics are among its parameters; `backbones.statistics` splits them.

  Attributes:
    spec: the backbone.
    student: "backbone", and "csm", "csr", "css" if there are such heads; for a run, all modules that it trains, and
      "banks", its memory banks.
    teacher: the same for the teacher; None if there is no teacher.
    origin: where the weights come from, for messages and records.
    notes: assumptions and unused content when they were read, one line each.
    new: parameters that the source lacks, initialized as in a new model, such as "student/backbone/inter_norm/scale".
    head_counts: attention heads of the decoders, such as "csr_heads", if the source declares them.
    step: number of updates, for weights of a run; else None.
  """

  spec: BackboneSpec
  student: dict
  teacher: dict | None
  origin: str
  notes: tuple[str, ...] = ()
  new: tuple[str, ...] = ()
  head_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
  step: int | None = None

  def backbone(self, which: str = "student") -> dict:
    """Returns an encoder of `ENCODER_MODULES`: its parameters, running statistics and extra tensors.

    Raises:
      ValueError: there is no such encoder.
    """
    if which not in ENCODER_MODULES:
      raise ValueError(f"--which={which} is unknown; choose {' or '.join(ENCODER_MODULES)}")
    tree = self.teacher if which == "teacher" else self.student
    if ENCODER_MODULES[which] not in (tree or {}):
      raise ValueError(f"{self.origin} has no {which}; choose --which=student")
    return tree[ENCODER_MODULES[which]]

  def counts(self) -> dict[str, int]:
    """Returns the number of tensors of each part, such as "student/backbone"; stacked blocks count one by one."""
    counts = collections.Counter()
    for path, array in flatten({"student": self.student, "teacher": self.teacher or {}}).items():
      stacked = np.shape(array)[: len(re.findall(r"/(?:blocks|branches_\d)(?=/)", path))]
      counts["/".join(path.split("/")[:2])] += 0 if path in self.new else math.prod(stacked)
    return dict(counts)

  @property
  def normalization(self) -> Normalization | None:
    """Mean and deviation of each channel that the encoder was trained with; None if nothing states them."""
    return self.spec.normalization

  def resized(self, image_hw: tuple[int, int], mode: str | None = None) -> "Weights":
    """Returns the weights with positions, also those of a decoder, resized for another image size.

    Args:
      image_hw: image size in pixels, see `BackboneSpec.check_size`.
      mode: one of `pos_embed.INTERPOLATIONS`; None resizes the grid to the exact size, antialiased if that is the
        way of the backbone.
    """
    own = self.spec.pos_interpolation
    mode = mode or (own if own == "grid2d_antialiased" else "grid2d")
    image_hw = tuple(image_hw)
    self.spec.check_size(image_hw)
    if image_hw == self.spec.image_hw:
      return self
    spec = dataclasses.replace(self.spec, image_hw=image_hw)
    stored, wanted = self.spec.grid, spec.grid

    def resize(tree):
      if tree is None:
        return None
      return {
        name: resize(a) if isinstance(a, dict) else _resize(a, stored, wanted, mode) if name == "pos_embed" else a
        for name, a in tree.items()
      }

    return dataclasses.replace(self, spec=spec, student=resize(self.student), teacher=resize(self.teacher))


def _resize(table: np.ndarray, stored: tuple[int, int], wanted: tuple[int, int], mode: str) -> np.ndarray:
  """Resizes a table (1, P + h * w, D) to another grid; the rows of class and prefix tokens are unchanged."""
  prefix = table.shape[1] - stored[0] * stored[1]
  patches = interpolate_positions(jnp.asarray(table[0, prefix:]), stored, wanted, mode)
  return np.concatenate([table[:, :prefix], np.asarray(patches)[None]], axis=1)
