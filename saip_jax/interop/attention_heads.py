"""The numbers of attention heads of a ViT in a file, which its tensors do not determine."""

import re
from collections.abc import Mapping
from typing import Any

from saip_jax.backbones import build_backbone
from saip_jax.interop.declared import Asked, Stated
from saip_jax.interop.nesting import Encoder
from saip_jax.interop.saip import ADAPTER
from saip_jax.interop.spec import BackboneSpec

# Heads of the students that SAIP-KD and DPAL distil from larger ViTs, and of their last block (arXiv 2508.07144).
_DISTILLED = {"vit_tiny": (6, 12), "vit_small": (6, 12), "vit_base": (12, 16)}
_SIGN = re.compile(r"(^|[_\-.])kd([_\-.]|$)|dpal|distil", re.IGNORECASE)
_SIZE = re.compile(r"(?:vit|deit)_(tiny|small|base|large|huge)", re.IGNORECASE)
_ADAPTER = re.compile(rf"(^|\.){ADAPTER}")
_PRETRAINING_HEAD = re.compile(r"(^|\.)(head|dino_head|ibot_head|csm_decoder|csr_decoder|css_decoder)\.")


def heads_of(
  spec: BackboneSpec, dialect: str, encoder: Encoder, stated: Stated, asked: Asked
) -> tuple[BackboneSpec, list[str]]:
  """Returns the spec with the numbers of heads of the file's ViT, and what was taken or assumed.

  The first of these that applies decides:
  1. `--heads` and `--last-heads`.
  2. A statement about both numbers: an export or an import of this program, or the `args` of its published layout.
  3. The name of the model in the file (`args.model`, `arch`, ...), where it is that of a distilled student:
     `kd_vit_tiny` and `kd_vit_small` have 6 heads and 12 in the last block; any other is a reason to ask.
  4. Tensors of an adapter, an expert in `args`, a name of the model that contradicts the width: a reason to ask.
  5. The name of a plain model, timm's name of the architecture beside the file, or a number of heads: those of the
     named backbone; another number is refused by `identify.refuse_other_facts`.
  6. A file name of a distilled student: a reason to ask.
  7. A file of the published SAIP, or one with sections student and teacher, that holds a backbone alone, at a width at
     which distilled students exist: they are saved like this once their adapter is taken off, a reason to ask. With a
     head of SAIP's or DINO's pre-training it is no such student.
  8. Otherwise those of the named backbone, with a note that they are assumed.
  To ask is to raise ValueError with the flags that answer.

  Args:
    spec: the backbone, of any heads.
    dialect: the file's.
    encoder: where it stands in the file.
    stated: what the file and the files beside it state.
    asked: what the user states.

  Raises:
    ValueError: the file leaves a choice, or numbers that do not divide the width.
  """
  if asked.heads or asked.last_heads:
    return spec.attending(asked.heads, asked.last_heads), []
  if spec.twin.kind != "vit":
    return spec, []
  for facts in stated.facts:
    heads, last_heads = _count(facts, "heads", "num_heads"), _count(facts, "last_heads")
    if heads and last_heads:
      return spec.attending(heads, last_heads), []

  for place, model in stated.models.items():
    if f"kd_{spec.name}" in model.lower() and spec.name in ("vit_tiny", "vit_small"):
      distilled = spec.attending(*_DISTILLED[spec.name])
      note = f"{place} is {model!r}: {_numbers(distilled)}; --heads and --last-heads of saip import set others"
      return distilled, [note]
    if _SIGN.search(model):
      raise _question(spec, f"{place} is {model!r}, a distilled student")
  adapters = [name for name in encoder.state if _ADAPTER.search(name)]
  if adapters:
    count = f"{len(adapters)} tensors of an adapter ({adapters[0]}, ...)"
    raise _question(spec, f"it has {count}: a distilled student")
  experts = [key for facts in stated.facts for key, value in facts.items() if key.startswith("expert") and value]
  if experts:
    raise _question(spec, f"args.{experts[0]} is set: a distilled student")

  sizes = {place: found[1].lower() for place, model in stated.models.items() if (found := _SIZE.search(model))}
  for place, size in sizes.items():
    if spec.name in _DISTILLED and size != spec.name.removeprefix("vit_"):
      raise _question(spec, f"{place} is {stated.models[place]!r}, while its width is that of {spec.name}")
  if sizes or stated.architecture or any(_count(facts, "heads", "num_heads") for facts in stated.facts):
    return spec, []
  if _SIGN.search(stated.file_name):
    raise _question(spec, "the file's name is that of a distilled student")
  pretrained = any(_PRETRAINING_HEAD.search(name) for name in encoder.state)
  in_halves = any(section in ("student", "teacher") for section in encoder.sections)
  if (dialect == "saip" or in_halves) and spec.name in _DISTILLED and not pretrained:
    raise _question(spec, f"a {dialect} file with a backbone alone may be of a distilled student")
  usual = build_backbone(spec.name).heads
  return spec, [
    f"assumed {usual} attention heads in every block, as {spec.name} has: the tensors do not determine them;"
    " --heads and --last-heads of saip import set others"
  ]


def _count(facts: Mapping[str, Any], *names: str) -> int | None:
  """Returns the first of these facts that is a whole number."""
  return next((facts[name] for name in names if type(facts.get(name)) is int), None)


def _numbers(spec: BackboneSpec) -> str:
  module = spec.build()
  return f"{module.heads} attention heads, {module.last_heads or module.heads} in the last block"


def _question(spec: BackboneSpec, reason: str) -> ValueError:
  flags = f"--heads={build_backbone(spec.name).heads} if it is a plain {spec.name}"
  if spec.name in _DISTILLED:
    flags += ", --heads={} --last-heads={} if it was distilled by SAIP-KD or DPAL".format(*_DISTILLED[spec.name])
  return ValueError(
    f"the tensors do not determine the number of attention heads, and {reason}: set it with saip import, {flags}"
  )
