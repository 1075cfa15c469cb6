"""What a model's weights are: parameters, and what parameters cannot carry."""

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
from saip_jax.interop.architectures import TWINS, Twin
from saip_jax.interop.tables import flatten
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD

ENCODERS = {"student": "backbone", "teacher": "backbone", "depth": "depth_backbone"}
"""What can be exported -> the module that it is; "depth" is HCMoCo's encoder of depth, of the backbone's kind."""


@dataclasses.dataclass(frozen=True)
class BackboneSpec:
  """What the tensors of a backbone cannot carry.

  Attributes:
    name: key of `saip_jax.backbones.BACKBONES`.
    image_hw: size in pixels that the stored positions are for, or the one to use where there are none.
    pos_interpolation: how the run that made them resized positions, one of `pos_embed.INTERPOLATIONS`; of no account
      for a backbone without a table of positions.
    heads: attention heads of a ViT; None: those of the named backbone. See `attending`.
    last_heads: those of its last block; None: as in the others.
  """

  name: str
  image_hw: tuple[int, int]
  pos_interpolation: str | None = None
  heads: int | None = None
  last_heads: int | None = None

  @property
  def twin(self) -> Twin:
    return TWINS[self.name]

  def build(self, **options) -> Backbone:
    """Returns the module, float32 unless the options say otherwise."""
    if self.twin.positions:
      options = {"pos_interpolation": self.pos_interpolation} | options
    options = {name: n for name, n in self.own_heads.items() if n} | options
    return build_backbone(self.name, image_hw=self.image_hw, **options)

  @property
  def own_heads(self) -> dict[str, int | None]:
    """The numbers of heads that the named backbone does not have, as options of its module; None: as it has them."""
    return {"heads": self.heads, "last_heads": self.last_heads}

  def attending(self, heads: int | None, last_heads: int | None) -> "BackboneSpec":
    """Returns the spec with these numbers of attention heads.

    What the named backbone has anyway is stored as None, so that equal networks have equal specs.

    Args:
      heads: of every block; None: those of the named backbone.
      last_heads: of the last block; None: as in the others.

    Raises:
      ValueError: no ViT, or a number that does not divide its width.
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
    """Arguments of `timm.create_model` that the features depend on; none tells heads of the last block alone."""
    return self.twin.arguments(self.image_hw) | ({"num_heads": self.heads} if self.heads else {})

  @property
  def patch(self) -> int:
    """Pixels from one cell of the hidden grid to the next: the side of a ViT's patch."""
    return self.build().stride

  @property
  def grid(self) -> tuple[int, int]:
    """The hidden grid at `image_hw`, which positions are stored for."""
    return self.build().hidden_grid(self.image_hw)

  def facts(self) -> dict[str, Any]:
    """Returns them for a JSON file, with all that a reader of other software needs to know."""
    return {
      "name": self.name,
      **self.twin.facts(self.build()),
      "image_hw": list(self.image_hw),
      **({"pos_interpolation": self.pos_interpolation} if self.twin.positions else {}),
      "mean": list(IMAGENET_MEAN),
      "std": list(IMAGENET_STD),
    }

  def check_size(self, image_hw: tuple[int, int], flag: str = "--image-hw") -> None:
    """Raises ValueError unless an image of that size in pixels can be encoded, in whole patches where it has some."""
    height, width = image_hw
    if self.twin.positions and any(side <= 0 or side % self.patch for side in image_hw):
      raise ValueError(
        f"{flag}={height}x{width}: height and width must be positive multiples of the patch, {self.patch}"
      )
    if min(image_hw) < self.patch:
      raise ValueError(f"{flag}={height}x{width}: height and width must be at least the stride, {self.patch}")


@dataclasses.dataclass(frozen=True)
class Weights:
  """Parameters, as nested dicts of float32 numpy arrays, and what they belong to.

  A backbone's running statistics are among its parameters: `backbones.statistics` takes them apart.

  Attributes:
    spec: the backbone.
    student: "backbone", and "csm", "csr", "css" where there are such heads; of a run, all that it trains, and "banks",
      its memory banks.
    teacher: the same of the teacher, None where there is none.
    origin: what a person would call them.
    notes: what was assumed or could not be used when they were read, one line each.
    new: parameters that were not there and are as in a new model, as "student/backbone/inter_norm/scale".
    head_counts: attention heads of the decoders, as "csr_heads", where the source tells them; no tensor does.
    step: of a run, the updates that made them; None for others.
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
    """Returns an encoder of `ENCODERS`: parameters, running statistics, what timm does not have.

    Raises:
      ValueError: there is no such encoder.
    """
    if which not in ENCODERS:
      raise ValueError(f"--which={which} is unknown; choose {' or '.join(ENCODERS)}")
    tree = self.teacher if which == "teacher" else self.student
    if ENCODERS[which] not in (tree or {}):
      raise ValueError(f"{self.origin} has no {which}; choose --which=student")
    return tree[ENCODERS[which]]

  def counts(self) -> dict[str, int]:
    """Returns the number of tensors of each part, as in "student/backbone", blocks counted one by one."""
    counts = collections.Counter()
    for path, array in flatten({"student": self.student, "teacher": self.teacher or {}}).items():
      stacked = np.shape(array)[: len(re.findall(r"/(?:blocks|branches_\d)(?=/)", path))]
      counts["/".join(path.split("/")[:2])] += 0 if path in self.new else math.prod(stacked)
    return dict(counts)

  def resized(self, image_hw: tuple[int, int], mode: str = "grid2d") -> "Weights":
    """Returns the weights with positions, those of a decoder too, for another size.

    Args:
      image_hw: pixels, see `BackboneSpec.check_size`.
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
  """(1, 1 + h * w, D) -> the same for another grid; the class token's row stays as it is."""
  patches = interpolate_positions(jnp.asarray(table[0, 1:]), stored, wanted, mode)
  return np.concatenate([table[:, :1], np.asarray(patches)[None]], axis=1)
