"""ViTs under the names of transformers and of mmpretrain, renamed to timm's, and messages renamed back."""

import re
from collections.abc import Mapping

from saip_jax.interop.nesting import StateDict

_BLOCK = r"blocks.\1."
# Each name matches the first pattern of its part; transformers 4 and 5 are both here.
_TRANSFORMERS = (
  (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
  (r"^embeddings\.position_embeddings$", "pos_embed"),
  (r"^embeddings\.patch_embeddings\.(?:projection\.)?", "patch_embed.proj."),
  (r"^(?:encoder\.|model\.)?layers?\.(\d+)\.", _BLOCK),
  (r"\.attention\.attention\.(q|k|v)(?:uery|ey|alue)\.", r".attn.\1."),
  (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
  (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
  (r"\.layernorm_before\.", ".norm1."),
  (r"\.layernorm_after\.", ".norm2."),
  (r"\.(?:intermediate\.dense|mlp\.up_proj)\.", ".mlp.fc1."),
  (r"\.(?:output\.dense|mlp\.down_proj)\.", ".mlp.fc2."),
  (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
  (r"^layernorm\.", "norm."),
)
_MMPRETRAIN = (  # the final norm is named like the first norm of each layer
  (r"^patch_embed\.projection\.", "patch_embed.proj."),
  (r"^ln1\.", "norm."),
  (r"^layers\.(\d+)\.", _BLOCK),
  (r"\.ln([12])\.", r".norm\1."),
  (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
  (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
)
# Names of single tensors, for messages: a missing one is in no file.
_SINGLE = {
  "transformers": {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "reg_token": "embeddings.register_tokens",
  }
}
_SIGNS = {
  "transformers": (re.compile(r"^embeddings\.(patch_embeddings\.|cls_token$|position_embeddings$)"), _TRANSFORMERS),
  "mmpose": (re.compile(r"^layers\.\d+\.ln1\.weight$"), _MMPRETRAIN),
}

RENAMED = tuple(_SIGNS)
"""Dialects of files whose tensors are renamed before they are read."""


def foreign_dialect(names) -> str | None:
  """Returns the dialect of a ViT's tensors that have neither timm's names nor the originals of DINO; else None."""
  return next((dialect for dialect, (sign, _) in _SIGNS.items() if any(map(sign.search, names))), None)


def in_timms_names(state: StateDict) -> tuple[dict, dict[str, str]]:
  """Returns a ViT's tensors in timm's names, and timm's name -> name in the file where they differ."""
  dialect, found = foreign_dialect(state), {}
  for name in state:
    timms = name
    for pattern, replacement in _SIGNS[dialect][1] if dialect else ():
      timms = re.sub(pattern, replacement, timms)
    found[name] = timms
  theirs = {timms: name for name, timms in found.items() if timms != name}
  return {found[name]: a for name, a in state.items()}, _SINGLE.get(dialect, {}) | theirs


def in_their_names(message: str, theirs: Mapping[str, str]) -> str:
  """Returns an error message with the names of the file in place of timm's.

  Args:
    message: names are in quotes.
    theirs: from `in_timms_names`; a tensor that is missing is named like that of another block, or of the same layer.
  """
  return re.sub(r"(?<=')[\w.]+(?=[' ])", lambda name: _theirs(name[0], theirs), message) if theirs else message


def _theirs(name: str, theirs: Mapping[str, str]) -> str:
  if name in theirs:
    return theirs[name]
  index = re.match(r"blocks\.(\d+)\.", name)
  if index:
    for timms, other in theirs.items():
      if re.sub(r"^blocks\.\d+\.", index[0], timms) == name:
        return re.sub(r"(?<=\.)\d+(?=\.)", index[1], other, count=1)
  layer, _, kind = name.rpartition(".")
  for timms, other in theirs.items():
    if layer and timms.rpartition(".")[0] == layer:
      return f"{other.rpartition('.')[0]}.{kind}"
  return name
