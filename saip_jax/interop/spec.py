"""A model's weights: its parameters, and the facts about the model that parameters do not determine."""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from saip_jax.backbones import build_backbone, check_heads
from saip_jax.backbones.features import Backbone
from saip_jax.backbones.pos_embed import interpolate_positions
from saip_jax.interop.architectures import ARCHITECTURES, TorchArchitecture
from saip_jax.interop.tables import flatten
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD

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
    heads: attention heads of a ViT; None for those of the named backbone. See `attending`.
    last_heads: attention heads of its last block; None for as many as in the other blocks.
  """

  name: str
  image_hw: tuple[int, int]
  pos_interpolation: str | None = None
  heads: int | None = None
  last_heads: int | None = None

  @property
  def architecture(self) -> TorchArchitecture:
    """Its counterpart in PyTorch."""
    return ARCHITECTURES[self.name]

  def build(self, **options) -> Backbone:
    """Returns the module, float32 unless `options` set another precision."""
    if self.architecture.positions:
      options = {"pos_interpolation": self.pos_interpolation} | options
    options = {name: n for name, n in self.own_heads.items() if n} | options
    return build_backbone(self.name, image_hw=self.image_hw, **options)

  @property
  def own_heads(self) -> dict[str, int | None]:
    """Numbers of heads as options of the module; None where they are those of the named backbone."""
    return {"heads": self.heads, "last_heads": self.last_heads}

  def attending(self, heads: int | None, last_heads: int | None) -> "BackboneSpec":
    """Returns the spec with these numbers of attention heads.

    The defaults of the named backbone are stored as None, so that equal networks have equal specs.

    Args:
      heads: attention heads of every block; None for those of the named backbone.
      last_heads: attention heads of the last block; None for as many as in the other blocks.

    Raises:
      ValueError: the backbone is not a ViT, or a number does not divide its width.
    """
    if heads is None and last_heads is None:
      return dataclasses.replace(self, heads=None, last_heads=None)
    check_heads(self.name, **{k: n for k, n in (("heads", heads), ("last_heads", last_heads)) if n is not None})
    usual = build_backbone(self.name).heads
    heads = heads or usual
    return dataclasses.replace(
      self, heads=heads if heads != usual else None, last_heads=last_heads if last_heads not in (None, heads) else None
    )

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
      "mean": list(IMAGENET_MEAN),
      "std": list(IMAGENET_STD),
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

  def resized(self, image_hw: tuple[int, int], mode: str = "grid2d") -> "Weights":
    """Returns the weights with positions, also those of a decoder, resized for another image size.

    Args:
      image_hw: image size in pixels, see `BackboneSpec.check_size`.
      mode: one of `pos_embed.INTERPOLATIONS`.
    """
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
  """Resizes a table (1, 1 + h * w, D) to another grid; the row of the class token is unchanged."""
  patches = interpolate_positions(jnp.asarray(table[0, 1:]), stored, wanted, mode)
  return np.concatenate([table[:, :1], np.asarray(patches)[None]], axis=1)
