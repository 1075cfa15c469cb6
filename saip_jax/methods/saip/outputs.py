"""Results of SAIP's networks for a batch: features of the student, and the outputs that the losses compare."""

import dataclasses
from typing import Any

import jax
from flax import struct

from saip_jax.backbones.features import Features
from saip_jax.methods.saip.alignment import Aligned


@dataclasses.dataclass(frozen=True)
class StudentFeatures:
  """The student's features of a batch; None where no objective uses them.

  Attributes:
    globals: features of the global views, or of the anchor alone.
    locals: features of the local crops but the RoI.
    rescaled: features of the rescaled RoI and instance, or of the RoI alone.
    masked: features of the seen patches of the enlarged view.
    enlarged: (B, H, W, 3) this view.
    scene: features of the scene.
    statistics: running statistics after the batch.
  """

  globals: Features
  locals: Features | None = None
  rescaled: Features | None = None
  masked: Features | None = None
  enlarged: jax.Array | None = None
  scene: Features | None = None
  statistics: Any = None


@struct.dataclass
class SaipOutputs:
  """Outputs of the networks, before the losses; None where an objective is left out.

  Attributes:
    logits: (B, V, K) student prototype logits of [anchor, augmented, local crops, instance].
    teacher_logits: (B, 2, K) of [anchor, augmented].
    maps: student attention maps of the global views, two arrays (B * 2, heads, L, L).
    teacher_maps: attention maps of the teacher, the same.
    cls: (B, 2, D) student image features of the global views.
    reconstruction: (B, L, P) predicted patches.
    target: (B, L, P) patches of the enlarged augmented view, normalized.
    inst_logits: (B, h, w) search for the instance.
    roi_logits: (B, h, w) search for the RoI.
    scene: (B, 1 + h * w, D) the teacher's features of the scene; those of an expert without the class token.
    aligned: what the alignment compares.
    statistics: running statistics of "student" and "teacher" after the step, for backbones that have some.
  """

  logits: jax.Array | None = None
  teacher_logits: jax.Array | None = None
  maps: tuple[jax.Array, jax.Array] | None = None
  teacher_maps: tuple[jax.Array, jax.Array] | None = None
  cls: jax.Array | None = None
  reconstruction: jax.Array | None = None
  target: jax.Array | None = None
  inst_logits: jax.Array | None = None
  roi_logits: jax.Array | None = None
  scene: jax.Array | None = None
  aligned: Aligned | None = None
  statistics: dict[str, Any] = struct.field(default_factory=dict)
