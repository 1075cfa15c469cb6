"""What a model's weights are: parameters, and what parameters cannot carry."""

import collections
import dataclasses
from typing import Any, Mapping

import jax.numpy as jnp
import numpy as np

from saip_jax.backbones import build_backbone
from saip_jax.backbones.pos_embed import interpolate_positions
from saip_jax.backbones.transformer import NORM_EPSILON
from saip_jax.backbones.vit import ViT
from saip_jax.interop.tables import flatten
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD


@dataclasses.dataclass(frozen=True)
class BackboneSpec:
  """What the tensors of a backbone cannot carry.

  Attributes:
    name: key of `saip_jax.backbones.BACKBONES`.
    image_hw: size in pixels that the stored positions are for.
    pos_interpolation: how the run that made them resized positions, one of `pos_embed.INTERPOLATIONS`.
  """

  name: str
  image_hw: tuple[int, int]
  pos_interpolation: str

  def build(self, **options) -> ViT:
    """Returns the module, float32 unless the options say otherwise."""
    return build_backbone(self.name, image_hw=self.image_hw, pos_interpolation=self.pos_interpolation, **options)

  @property
  def patch(self) -> int:
    return self.build().patch

  def facts(self) -> dict[str, Any]:
    """Returns them for a JSON file, with all that a reader of other software needs to know."""
    module = self.build()
    return {
        "name": self.name, "width": module.width, "depth": module.depth, "heads": module.heads, "patch": module.patch,
        "image_hw": list(self.image_hw), "grid": list(module.stored_grid), "norm_eps": NORM_EPSILON, "gelu": "exact",
        "tapped_block": module.tapped_block, "pos_interpolation": self.pos_interpolation,
        "mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD),
    }


def check_size(image_hw: tuple[int, int], patch: int, flag: str = "--image-hw") -> None:
  """Raises ValueError unless both sides are positive multiples of the patch."""
  if any(side <= 0 or side % patch for side in image_hw):
    height, width = image_hw
    raise ValueError(f"{flag}={height}x{width}: height and width must be positive multiples of the patch, {patch}")


@dataclasses.dataclass(frozen=True)
class Weights:
  """Parameters, as nested dicts of float32 numpy arrays, and what they belong to.

  Attributes:
    spec: the backbone.
    student: "backbone", and "csm", "csr", "css" where there are such heads.
    teacher: the same of the teacher, None where there is none.
    origin: what a person would call them.
    notes: what was assumed or could not be used when they were read, one line each.
    new: parameters that were not there and are as in a new model, as "student/backbone/inter_norm/scale".
    head_counts: attention heads of the decoders, as "csr_heads", where the source tells them; no tensor does.
  """

  spec: BackboneSpec
  student: dict
  teacher: dict | None
  origin: str
  notes: tuple[str, ...] = ()
  new: tuple[str, ...] = ()
  head_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)

  def backbone(self, which: str = "student") -> dict:
    """Returns the parameters of the "student"'s or the "teacher"'s backbone, the norm of the tapped layer included.

    Raises:
      ValueError: there is no teacher, or `which` is neither.
    """
    if which not in ("student", "teacher"):
      raise ValueError(f"--which={which} is unknown; choose student or teacher")
    tree = self.student if which == "student" else self.teacher
    if tree is None:
      raise ValueError(f"{self.origin} has no teacher; choose --which=student")
    return tree["backbone"]

  def counts(self) -> dict[str, int]:
    """Returns the number of tensors of each part, as in "student/backbone", blocks counted one by one."""
    counts = collections.Counter()
    for path, array in flatten({"student": self.student, "teacher": self.teacher or {}}).items():
      counts["/".join(path.split("/")[:2])] += 0 if path in self.new else len(array) if "/blocks/" in path else 1
    return dict(counts)

  def resized(self, image_hw: tuple[int, int], mode: str = "grid2d") -> "Weights":
    """Returns the weights with positions, those of a decoder too, for another size.

    Args:
      image_hw: pixels, multiples of the patch.
      mode: one of `pos_embed.INTERPOLATIONS`.
    """
    image_hw = tuple(image_hw)
    check_size(image_hw, self.spec.patch)
    if image_hw == self.spec.image_hw:
      return self
    spec = dataclasses.replace(self.spec, image_hw=image_hw)
    stored, wanted = (s.build().stored_grid for s in (self.spec, spec))

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
