"""Encoders that resemble the ViTs here and compute something else, each refused by what is missing here."""

import re
from collections.abc import Iterable

_IN_BLOCK = r"(^|\.)(blocks|layers?|resblocks)\.\d+\."
# In this order: the first that a file has is named.
_MISSING = (
  (rf"{_IN_BLOCK}attn\.w[qkv]\.|{_IN_BLOCK}ffn\.w12\.", "the blocks of Sapiens2: RMSNorm, SwiGLU, grouped queries"),
  (
    rf"{_IN_BLOCK}attn\.in_proj_weight$|(^|\.)visual\.(conv1|class_embedding)",
    "packed in_proj weights, which CLIP and the Perception Encoder have; the latter also has positions of two kinds",
  ),
  (r"(^|\.)patch_embed\.conv\.\d+\.", "a stem of convolutions before the patch embedding, as in TransReID-SSL (ICS)"),
  (
    r"(^|\.)(attn_pool|attnpool)\.|(^|\.)head\.(probe$|attention\.)|(^|\.)vision_model\.head\.",
    "attention pooling, which SigLIP's image feature comes from",
  ),
  (r"(^|\.)vision_model\.(embeddings|encoder)\.", "the vision tower of CLIP or SigLIP"),
  (
    r"(^|\.)(norm_pre|pre_layrnorm|ln_pre)\.|(^|\.)patch_embed\.norm\.",
    "a norm of the tokens before the first block, as in CLIP",
  ),
  (rf"{_IN_BLOCK}(attn|attention)\.(q_norm|k_norm|norm)\.", "norms of queries and keys, or of mixed values"),
  (rf"{_IN_BLOCK}mlp\.(w12|w[123]|fc1_[gx]|gate_proj|weights_in|norm)\.", "a gated MLP (SwiGLU)"),
  (rf"{_IN_BLOCK}attn\.(gate|relative_position_bias_table|rel_pos_[hw])\b", "gates or relative positions in attention"),
  (r"^(dist_token|distillation_token)$|(^|\.)head_dist\.", "a distillation token (dist_token)"),
)


def refuse_missing_parts(names: Iterable[str]) -> None:
  """Raises ValueError, naming what is missing here, if tensors of these names belong to another architecture."""
  words = missing_part(names)
  if words:
    raise ValueError(words)


def missing_part(names: Iterable[str]) -> str | None:
  """Returns the message of `refuse_missing_parts`; None if nothing is missing."""
  names = list(names)
  for pattern, what in _MISSING:
    found = next((name for name in names if re.search(pattern, name)), None)
    if found:
      return f"it has {what}: {found!r} takes part in every feature, and the ViTs here have no such part"
  return None
