"""Which backbone a file holds, and the refusal of those that look like it and compute something else."""

import math
import re
from collections.abc import Mapping
from typing import Any

from saip_jax.backbones import build_backbone
from saip_jax.interop.architectures import TWINS
from saip_jax.interop.spec import BackboneSpec

# Names that files use for a fact, ours first.
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
  """Returns the name of the ViT of that width, of the nearest depth where none has this one.

  Args:
    width: D.
    depth: blocks.
    patch: side of a patch in pixels.
    rope: with rotary positions.

  Raises:
    ValueError: there is none.
  """
  vits = {name: build_backbone(name) for name, twin in TWINS.items() if twin.kind == "vit"}
  modules = {name: m for name, m in vits.items() if m.rope == rope}
  fitting = [name for name, m in modules.items() if (m.width, m.patch) == (width, patch)]
  if not fitting:
    known = ", ".join(f"{name} ({m.width} wide, {m.depth} blocks, patch {m.patch})" for name, m in modules.items())
    raise ValueError(f"a backbone {width} wide with {depth} blocks and patch {patch} is none of {known}")
  return min(fitting, key=lambda name: abs(modules[name].depth - depth))


def refuse_other_facts(stated: Mapping[str, Any], spec: BackboneSpec) -> None:
  """Raises ValueError, naming each, if what a file says of itself is not what this backbone computes.

  Args:
    stated: `facts()` of an export, `model_args` of a timm configuration, or `args` of a published file.
    spec: the backbone that the tensors fit.
  """
  facts, wrong, advice = spec.facts(), [], ""
  for fact, names in ((fact, names) for fact, names in _SYNONYMS.items() if fact in facts):
    for name in (name for name in names if stated.get(name) is not None):
      if not _same(stated[name], facts[fact], exact_gelu=fact == "gelu"):
        wrong.append(f"{name} is {stated[name]!r}, here {facts[fact]!r}")
        if fact in ("heads", "last_heads"):
          advice = "; --heads and --last-heads of saip import set other numbers of heads"
  if wrong:
    raise ValueError(f"the file holds another model than {spec.name}: {'; '.join(wrong)}{advice}")


def _same(value, fact, exact_gelu: bool) -> bool:
  """Whether what is stated is the fact; a single number may stand as a list of equal ones, as in patch_size."""
  if exact_gelu:
    return str(value).lower() in _EXACT_GELU
  if isinstance(fact, list):
    return _as_list(value) == fact
  return all(_is_number(v) and float(v) == fact for v in _as_list(value))


def refuse_other_architecture(architecture: str, name: str) -> None:
  """Raises ValueError if timm's name of a model is not that of the twin of backbone `name`, at whatever size.

  Others hold the same tensors and compute something else: another GELU, another norm, another number of heads.
  """
  twin = TWINS[name]
  if not re.fullmatch(twin.same, architecture.partition(".")[0]):
    raise ValueError(
      f"the file's architecture is {architecture!r}, which computes something else than {name}; expected"
      f" {twin.architecture} or another image size of it"
    )


def size_of_positions(
  patches: int, patch: int, stated: tuple[int, int] | None, asked: tuple[int, int] | None
) -> tuple[tuple[int, int], str | None]:
  """Returns the image size that a table of positions is for, and a note if it had to be assumed.

  Args:
    patches: rows of the table, class token excluded.
    patch: patch side in pixels.
    stated: size that the file states, if it does.
    asked: size that the user states, if they do.

  Raises:
    ValueError: sizes that do not fit the table or each other, or a table that tells no shape.
  """
  text = lambda hw: f"{hw[0]}x{hw[1]}"
  if asked and any(side % patch for side in asked):
    raise ValueError(f"--image-hw={text(asked)}: height and width must be positive multiples of the patch, {patch}")
  for source, hw in (("the file states", stated), ("--image-hw states", asked)):
    if hw and (hw[0] // patch) * (hw[1] // patch) != patches:
      raise ValueError(f"{source} {text(hw)} pixels, but there are {patches} positions of {patch}x{patch} patches")
  if stated and asked and stated != asked:
    raise ValueError(f"--image-hw={text(asked)}, but the file states that its positions are for {text(stated)}")
  if stated or asked:
    return stated or asked, None
  hw = _usual_size(patches, patch)
  if hw:
    return hw, f"assumed {patches} positions to be for {text(hw)} pixels; --image-hw=HxW states another size"
  raise ValueError(
    f"{patches} positions of {patch}x{patch} patches (or {patches + 1}, if the class token has none) fit neither a"
    " square nor height = 2 x width: state the size they are for with --image-hw=HxW"
  )


def class_row_is_there(rows: int, patch: int, stated: tuple[int, int] | None, asked: tuple[int, int] | None) -> bool:
  """Returns whether the first row of a table of positions is that of the class token.

  It is unless the table fits an image size without such a row and none with it: timm's `no_embed_class=True`.

  Args:
    rows: of the table.
    patch: patch side in pixels.
    stated: size that the file states, if it does.
    asked: size that the user states, if they do.
  """

  def fits(patches):
    hw = stated or asked
    return (hw[0] // patch) * (hw[1] // patch) == patches if hw else _usual_size(patches, patch) is not None

  return fits(rows - 1) or not fits(rows)


def _usual_size(patches: int, patch: int) -> tuple[int, int] | None:
  """Returns the size in pixels of so many patches if it is twice as high as wide or a square."""
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
