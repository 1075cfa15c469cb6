"""Which backbone a file holds; lookalikes that compute something else are refused."""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from saip_jax.backbones import build_backbone
from saip_jax.interop.architectures import ARCHITECTURES, PLAIN_VIT
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
  "patch_padding": ("patch_padding",),
  "class_token": ("class_token",),
  "prefix_tokens": ("prefix_tokens", "reg_tokens", "num_reg_tokens"),
  "layer_scale": ("layer_scale",),
  "k_bias": ("k_bias",),
  "norm_eps": ("norm_eps", "layer_norm_eps"),
  "rope_temperature": ("rope_temperature",),
  "rope_coordinates": ("rope_coordinates",),
  "gelu": ("gelu", "act_layer", "hidden_act"),
  "tapped_block": ("tapped_block",),
  "tapped_stage": ("tapped_stage",),
}
_EXACT_GELU = ("exact", "gelu", "nn.gelu")


def name_of(width: int, depth: int, patch: int, **form) -> str:
  """Returns the name of the ViT of this width and patch; of several, the nearest in form, then in depth.

  The tensors of a nearest one that is not the right one do not fit: `tables.from_torch` names them.

  Args:
    width: D.
    depth: blocks.
    patch: side of a patch in pixels.
    **form: further attributes of `ViT`, see `form_of`.

  Raises:
    ValueError: no ViT has this width and patch.
  """
  vits = {name: build_backbone(name) for name, architecture in ARCHITECTURES.items() if architecture.kind == "vit"}
  fitting = [name for name, module in vits.items() if (module.width, module.patch) == (width, patch)]
  if not fitting:
    first_of_size = {}
    for name, module in vits.items():
      first_of_size.setdefault((module.width, module.patch), f"{name} ({module.width} wide, patch {module.patch})")
    known = ", ".join(first_of_size.values())
    raise ValueError(f"a backbone {width} wide with {depth} blocks and patch {patch} is none of {known}")
  tokens = form.get("prefix_tokens", 0)
  if tokens and not any(vits[name].prefix_tokens for name in fitting):
    raise ValueError(
      f"it has {tokens} tokens beside the class token (registers), and no ViT here that is {width} wide with patch"
      f" {patch} has any"
    )
  differences = lambda module: sum(getattr(module, name) != value for name, value in form.items())
  return min(fitting, key=lambda name: (differences(vits[name]), abs(vits[name].depth - depth)))


def form_of(state: Mapping[str, Any], class_token: bool, timm_name: str | None) -> dict[str, Any]:
  """Returns the attributes of `ViT` that tensors in timm's names determine.

  Args:
    state: the tensors, from `variants.plain_vit`.
    class_token: it has a class token, or should have one by its positions.
    timm_name: timm's name of the model, if the file declares it: that of a ViT with rotary positions alone, which lacks
      nothing but the table of positions.
  """
  has = lambda *endings: any(name.endswith(endings) for name in state)
  registers, split = np.shape(state.get("reg_token", ())), has(".attn.q_bias", ".attn.v_bias")
  return {
    "class_token": class_token,
    "prefix_tokens": registers[1] if len(registers) == 3 else int("reg_token" in state),
    "prefix_positions": "reg_token" not in state,
    "layer_scale": has(".gamma", ".gamma_1", ".gamma_2"),
    "rope": split or "_rope_" in (timm_name or ""),
    "k_bias": not split,
  }


def refuse_other_facts(declared: Mapping[str, Any], spec: BackboneSpec) -> None:
  """Raises ValueError, listing all differences, if a file declares another model than this backbone.

  Args:
    declared: `facts()` of an export, `model_args` of a timm configuration, or `args` of a published file.
    spec: the backbone that the tensors fit.
  """
  facts, wrong, advice = (PLAIN_VIT if spec.architecture.kind == "vit" else {}) | spec.facts(), [], ""
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
  if isinstance(fact, str):
    return value == fact
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
  fits = functools.partial(fits_size, patch=patch, declared=declared, given=given)
  return fits(rows - 1) or not fits(rows)


def fits_size(patches: int, patch: int, declared: tuple[int, int] | None, given: tuple[int, int] | None) -> bool:
  """Returns whether so many patches are those of the specified image size, or else of a usual one."""
  hw = declared or given
  return (hw[0] // patch) * (hw[1] // patch) == patches if hw else _usual_size(patches, patch) is not None


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
