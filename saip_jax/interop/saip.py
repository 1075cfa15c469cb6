"""The published SAIP naming (`backbone.*`, `csm_decoder.*`, `csr_decoder.*`, `css_decoder.*`)."""

import numpy as np

from saip_jax.interop.tables import CONV, CONV_1X1, LINEAR, PATCH, Row, blocks, from_torch, linear, norm

VIT = [
    Row("backbone.cls_token", "backbone/cls_token"),
    Row("backbone.pos_embed", "backbone/pos_embed"),
    *linear("backbone.patch_embed.proj", "backbone/patch_embed", PATCH),
    *blocks("backbone.blocks", "backbone/blocks"),
    *norm("backbone.norm", "backbone/norm"),
    *norm("backbone.inter_norm", "backbone/inter_norm"),
]
CSM = [
    *linear("csm_decoder.mlp.0", "csm/fc1"),
    *linear("csm_decoder.mlp.2", "csm/fc2"),
    *linear("csm_decoder.mlp.4", "csm/fc3"),
    Row("csm_decoder.last_layer.weight_v", "csm/prototypes", LINEAR),
]
CSR = [
    Row("csr_decoder.mask_token", "csr/mask_token"),
    Row("csr_decoder.decoder_pos_embed", "csr/pos_embed"),
    *linear("csr_decoder.decoder_embed", "csr/embed"),
    *blocks("csr_decoder.decoder_blocks", "csr/blocks"),
    *norm("csr_decoder.decoder_norm", "csr/norm"),
    *linear("csr_decoder.decoder_pred", "csr/pred"),
]
CSS = [
    *linear("css_decoder.q_decoder_embed", "css/query_embed"),
    *linear("css_decoder.kv_decoder_embed", "css/reference_embed"),
    *norm("css_decoder.kv_decoder_norm", "css/reference_norm"),
    *blocks("css_decoder.self_atten_blocks", "css/blocks"),
    *norm("css_decoder.cross_atten_block.norm1", "css/cross_norm1"),
    Row("css_decoder.cross_atten_block.attn.in_proj_weight", "css/cross_qkv/kernel", LINEAR),
    Row("css_decoder.cross_atten_block.attn.in_proj_bias", "css/cross_qkv/bias"),
    *linear("css_decoder.cross_atten_block.attn.out_proj", "css/cross_proj"),
    *norm("css_decoder.cross_atten_block.norm2", "css/cross_norm2"),
    *linear("css_decoder.cross_atten_block.mlp.fc1", "css/cross_mlp/fc1"),
    *linear("css_decoder.cross_atten_block.mlp.fc2", "css/cross_mlp/fc2"),
    *norm("css_decoder.q_decoder_norm", "css/kernel_norm"),
    *linear("css_decoder.kernel_pred", "css/kernel"),
    *linear("css_decoder.mask_head.0", "css/map_embed", CONV_1X1),
    *linear("css_decoder.mask_head.2", "css/map1", CONV),
    *linear("css_decoder.mask_head.4", "css/map2", CONV),
    *linear("css_decoder.mask_head.6", "css/map3", CONV),
]
SAIP = [*VIT, *CSM, *CSR, *CSS]

# An unused norm, and the gain of the prototypes' weight norm, which is frozen at one.
IGNORED = (r"^csm_decoder\.decoder_norm\.", r"^csm_decoder\.last_layer\.weight_g$")


def read(state: dict[str, np.ndarray]) -> dict:
  """Returns the parameter tree of a published state dict (names after `module.` is stripped).

  Raises:
    ValueError: tensors missing or unexpected, or prototypes with a gain other than one.
  """
  gain = state.get("csm_decoder.last_layer.weight_g")
  if gain is not None and not np.all(np.asarray(gain) == 1):
    raise ValueError("csm_decoder.last_layer.weight_g is not all ones; SAIP freezes it at one, so it has no place here")
  return from_torch(state, SAIP, IGNORED)
