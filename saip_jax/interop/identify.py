"""Which backbone a file holds; lookalikes that compute something else are refused."""

import math
import re
from collections.abc import Mapping
from typing import Any

from saip_jax.backbones import build_backbone
from saip_jax.interop.architectures import ARCHITECTURES
from saip_jax.interop.spec import BackboneSpec

# Names that files use for a fact; the name of this program first.
_SYNONYMS = {
  "heads": ("heads", "num_heads"),
  "last_heads": ("last_heads",),
  "width": ("width", "embed_dim"),
  "depth": ("depth",),
  "patch": ("patch", "patch_size"),
  "dims": ("dims", "embed_dims"),
  "depths": ("depths",),
  "window": ("window", "window_size"),
  "windows": ("windows",),
  "stride": ("stride",),
  "norm_eps": ("norm_eps", "layer_norm_eps"),
  "gelu": ("gelu", "act_layer", "hidden_act"),
  "tapped_block": ("tapped_block",),
  "tapped_stage": ("tapped_stage",),
}
_EXACT_GELU = ("exact", "gelu", "nn.gelu")


def name_of(width: int, depth: int, patch: int, rope: bool = False) -> str:
  """Returns the name of the ViT of this width and patch; of several, the one nearest in depth.

  Args:
    width: D.
    depth: blocks.
    patch: side of a patch in pixels.
    rope: whether it has rotary positions.

  Raises:
    ValueError: no ViT has this width and patch.
  """
  vits = {name: build_backbone(name) for name, architecture in ARCHITECTURES.items() if architecture.kind == "vit"}
  modules = {name: m for name, m in vits.items() if m.rope == rope}
  fitting = [name for name, m in modules.items() if (m.width, m.patch) == (width, patch)]
  if not fitting:
    known = ", ".join(f"{name} ({m.width} wide, {m.depth} blocks, patch {m.patch})" for name, m in modules.items())
    raise ValueError(f"a backbone {width} wide with {depth} blocks and patch {patch} is none of {known}")
  return min(fitting, key=lambda name: abs(modules[name].depth - depth))


def refuse_other_facts(declared: Mapping[str, Any], spec: BackboneSpec) -> None:
  """Raises ValueError, listing all differences, if a file declares another model than this backbone.

  Args:
    declared: `facts()` of an export, `model_args` of a timm configuration, or `args` of a published file.
    spec: the backbone that the tensors fit.
  """
  facts, wrong, advice = spec.facts(), [], ""
  for fact, names in ((fact, names) for fact, names in _SYNONYMS.items() if fact in facts):
    for name in (name for name in names if declared.get(name) is not None):
      if not _same(declared[name], facts[fact], exact_gelu=fact == "gelu"):
        wrong.append(f"{name} is {declared[name]!r}, here {facts[fact]!r}")
        if fact in ("heads", "last_heads"):
          advice = "; --heads and --last-heads of saip import set other numbers of heads"
  if wrong:
    raise ValueError(f"the file holds another model than {spec.name}: {'; '.join(wrong)}{advice}")


def _same(value, fact, exact_gelu: bool) -> bool:
  """Returns whether a declared value is the fact; a number may be declared as a list of equal ones (patch_size)."""
  if exact_gelu:
    return str(value).lower() in _EXACT_GELU
  if isinstance(fact, list):
    return _as_list(value) == fact
  return all(_is_number(v) and float(v) == fact for v in _as_list(value))


def refuse_other_architecture(timm_name: str, name: str) -> None:
  """Raises ValueError if timm's name of a model is not that of backbone `name`, at any image size.

  Other models have the same tensors and compute something else: another GELU, another norm, other heads.
  """
  architecture = ARCHITECTURES[name]
  if not re.fullmatch(architecture.equivalents, timm_name.partition(".")[0]):
    raise ValueError(
      f"the file's architecture is {timm_name!r}, which computes something else than {name}; expected"
      f" {architecture.timm_name} or another image size of it"
    )


def size_of_positions(
  patches: int, patch: int, declared: tuple[int, int] | None, given: tuple[int, int] | None
) -> tuple[tuple[int, int], str | None]:
  """Returns the image size of a table of positions, and a note if it was assumed.

  Args:
    patches: rows of the table, class token excluded.
    patch: patch side in pixels.
    declared: image size that the file declares; None if unspecified.
    given: image size that the user specifies; None if unspecified.

  Raises:
    ValueError: sizes that do not fit the table or each other, or an ambiguous table without a size.
  """
  text = lambda hw: f"{hw[0]}x{hw[1]}"
  if given and any(side % patch for side in given):
    raise ValueError(f"--image-hw={text(given)}: height and width must be positive multiples of the patch, {patch}")
  for source, hw in (("the file declares", declared), ("--image-hw is", given)):
    if hw and (hw[0] // patch) * (hw[1] // patch) != patches:
      raise ValueError(f"{source} {text(hw)} pixels, but there are {patches} positions of {patch}x{patch} patches")
  if declared and given and declared != given:
    raise ValueError(f"--image-hw={text(given)}, but the file declares positions for {text(declared)}")
  if declared or given:
    return declared or given, None
  hw = _usual_size(patches, patch)
  if hw:
    return hw, f"assumed {patches} positions to be for {text(hw)} pixels; --image-hw=HxW sets another size"
  raise ValueError(
    f"{patches} positions of {patch}x{patch} patches (or {patches + 1}, if the class token has none) fit neither a"
    " square nor height = 2 x width: set the image size with --image-hw=HxW"
  )


def has_class_row(rows: int, patch: int, declared: tuple[int, int] | None, given: tuple[int, int] | None) -> bool:
  """Returns whether the first row of a table of positions belongs to the class token.

  It does not if the table fits an image size only without such a row: timm's `no_embed_class=True`.

  Args:
    rows: number of rows of the table.
    patch: patch side in pixels.
    declared: image size that the file declares; None if unspecified.
    given: image size that the user specifies; None if unspecified.
  """

  def fits(patches):
    hw = declared or given
    return (hw[0] // patch) * (hw[1] // patch) == patches if hw else _usual_size(patches, patch) is not None

  return fits(rows - 1) or not fits(rows)


def _usual_size(patches: int, patch: int) -> tuple[int, int] | None:
  """Returns the image size of so many patches if they fill a 2:1 (height:width) rectangle or a square; else None."""
  for ratio in (2, 1):
    w = math.isqrt(patches // ratio)
    if w and ratio * w * w == patches:
      return ratio * w * patch, w * patch
  return None


def _as_list(value) -> list:
  return list(value) if isinstance(value, (list, tuple)) else [value]


def _is_number(value) -> bool:
  try:
    float(value)
  except (TypeError, ValueError):
    return False
  return True
