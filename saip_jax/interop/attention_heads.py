"""Attention heads of a ViT in a file: its tensors do not determine their number."""

import re
from collections.abc import Mapping
from typing import Any

from saip_jax.backbones import build_backbone
from saip_jax.interop.declared import Declared, ReadOptions
from saip_jax.interop.nesting import FileEncoder
from saip_jax.interop.saip import ADAPTER
from saip_jax.interop.spec import BackboneSpec

# Heads of the students that SAIP-KD and DPAL distill from larger ViTs, and of their last block (arXiv 2508.07144).
_DISTILLED = {"vit_tiny": (6, 12), "vit_small": (6, 12), "vit_base": (12, 16)}
_SIGN = re.compile(r"(^|[_\-.])kd([_\-.]|$)|dpal|distil", re.IGNORECASE)
_SIZE = re.compile(r"(?:vit|deit)_(tiny|small|base|large|huge)", re.IGNORECASE)
_ADAPTER = re.compile(rf"(^|\.){ADAPTER}")
_PRETRAINING_HEAD = re.compile(
  r"(^|\.)(head|dino_head|ibot_head|csm_decoder|csr_decoder|css_decoder)\.|(^|\.)masked_embed$"
)


def heads_of(
  spec: BackboneSpec, dialect: str, encoder: FileEncoder, declared: Declared, options: ReadOptions
) -> tuple[BackboneSpec, list[str]]:
  """Returns the spec with the attention heads of the file's ViT, and notes on what was read or assumed.

  "Ask" means: raise ValueError with the options that answer. The first rule that applies decides:
  1. `--heads` and `--last-heads`.
  2. Both numbers are declared by an export or import of this program, or by `args` of its published layout.
  3. The name of the model in the file (`args.model`, `arch`, ...) is that of a distilled student: `kd_vit_tiny` and
     `kd_vit_small` have 6 heads and 12 in the last block; for any other, ask.
  4. There are tensors of an adapter, an expert in `args`, or a name of the model that contradicts the width: ask.
  5. The file gives the name of a plain model, timm's name of the architecture, or a number of heads: use the heads of
     the named backbone. `identify.refuse_other_facts` refuses another number.
  6. The file name is that of a distilled student: ask.
  7. The file is a published SAIP file, or has sections student and teacher, and holds only a backbone, at a width at
     which distilled students exist: ask, because distilled students are saved like this without their adapter. A file
     with a head of SAIP's or DINO's pre-training is not such a student.
  8. Otherwise use the heads of the named backbone, with a note that they are assumed.

  Args:
    spec: the backbone, with any heads.
    dialect: dialect of the file.
    encoder: the encoder in the file.
    declared: what the file and the files beside it declare.
    options: what the user specifies.

  Raises:
    ValueError: the file is ambiguous, or a number of heads does not divide the width.
  """
  if options.heads or options.last_heads:
    return spec.attending(options.heads, options.last_heads), []
  if spec.architecture.kind != "vit":
    return spec, []
  for facts in declared.facts:
    heads, last_heads = _count(facts, "heads", "num_heads"), _count(facts, "last_heads")
    if heads and last_heads:
      return spec.attending(heads, last_heads), []

  for place, model in declared.models.items():
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
  experts = [key for facts in declared.facts for key, value in facts.items() if key.startswith("expert") and value]
  if experts:
    raise _question(spec, f"args.{experts[0]} is set: a distilled student")

  sizes = {place: found[1].lower() for place, model in declared.models.items() if (found := _SIZE.search(model))}
  for place, size in sizes.items():
    if spec.name in _DISTILLED and size != spec.name.removeprefix("vit_"):
      raise _question(spec, f"{place} is {declared.models[place]!r}, while its width is that of {spec.name}")
  if sizes or declared.timm_name or any(_count(facts, "heads", "num_heads") for facts in declared.facts):
    return spec, []
  if _SIGN.search(declared.file_name):
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
  """Returns the first of these facts that is an integer; None if there is none."""
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
