"""Mean and deviation of the images that an encoder was trained with."""

import re

from saip_jax.interop.declared import Declared, ReadOptions
from saip_jax.interop.nesting import FileEncoder
from saip_jax.interop.spec import IMAGENET, BackboneSpec, Normalization

ASSUMED = (
  "assumed images with ImageNet's mean and deviation: the file states none; --mean=R,G,B and --std=R,G,B of saip import"
  " set others"
)
# Families whose training programs all normalize with ImageNet's mean and deviation, by the name of the backbone.
_FAMILIES = {"pass": "PASS", "dinov2": "DINOv2", "dinov3": "DINOv3 and EUPE"}
_DIALECTS = {"saip": "SAIP", "mae": "MAE, HAP and PATH"}

_SAPIENS = ((1024, 768), (1024, 1024))


def normalization_of(
  spec: BackboneSpec, dialect: str, encoder: FileEncoder, declared: Declared, options: ReadOptions
) -> tuple[Normalization | None, str]:
  """Returns mean and deviation, None if nothing states them, and a note on where they are from, empty if stated.

  Args:
    spec: the backbone.
    dialect: dialect of the file.
    encoder: the encoder in the file.
    declared: what the file and the files beside it declare.
    options: what the user specifies.

  Raises:
    ValueError: the user and the file state different ones.
  """
  given, stated = options.normalization, declared.normalization
  if given and stated and given != stated:
    mean, std = (",".join(map(str, values)) for values in stated)
    raise ValueError(f"--mean and --std differ from what the file states: --mean={mean} --std={std}")
  if given or stated:
    return given or stated, ""
  published = _published(spec, dialect, encoder)
  if published:
    return IMAGENET, f"images with ImageNet's mean and deviation, as {published} have in their published layout"
  return None, ASSUMED


def _published(spec: BackboneSpec, dialect: str, encoder: FileEncoder) -> str | None:
  """Returns the published encoders of this layout; None if it is not theirs alone."""
  if re.search(r"(^|\.)backbone_module\.", encoder.prefix):
    return "PATH and UniHCP"
  if dialect == "mmpose" and spec.name.startswith("vit_large") and spec.image_hw in _SAPIENS:
    return "the models of Sapiens"
  family = spec.name.partition("_")[0]
  return _FAMILIES.get(family) or _DIALECTS.get(dialect)
