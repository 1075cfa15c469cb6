"""The published SAIP naming (`backbone.*`, `csm_decoder.*`, `csr_decoder.*`, `css_decoder.*`)."""

from collections.abc import Mapping

import jax
import numpy as np

from saip_jax.backbones.vit import ViT
from saip_jax.heads.mae_decoder import MaeDecoder
from saip_jax.heads.prototype import PrototypeHead
from saip_jax.heads.search import SearchDecoder
from saip_jax.interop.shapes import parameter_shapes, shapes_of
from saip_jax.interop.tables import (
  CONV_1X1_LAYOUT,
  CONV_LAYOUT,
  LINEAR_LAYOUT,
  Row,
  block_rows,
  from_torch,
  linear_rows,
  norm_rows,
  to_torch,
)
from saip_jax.interop.vit import VIT_NAMES, inside

_BACKBONE = inside([*VIT_NAMES.timm, *VIT_NAMES.extra], "backbone.", "backbone/")
_CSM = [
  *linear_rows("csm_decoder.mlp.0", "csm/fc1"),
  *linear_rows("csm_decoder.mlp.2", "csm/fc2"),
  *linear_rows("csm_decoder.mlp.4", "csm/fc3"),
  Row("csm_decoder.last_layer.weight_v", "csm/prototypes", LINEAR_LAYOUT),
]
_CSR = [
  Row("csr_decoder.mask_token", "csr/mask_token"),
  Row("csr_decoder.decoder_pos_embed", "csr/pos_embed"),
  *linear_rows("csr_decoder.decoder_embed", "csr/embed"),
  *block_rows("csr_decoder.decoder_blocks", "csr/blocks"),
  *norm_rows("csr_decoder.decoder_norm", "csr/norm"),
  *linear_rows("csr_decoder.decoder_pred", "csr/pred"),
]
_CSS = [
  *linear_rows("css_decoder.q_decoder_embed", "css/query_embed"),
  *linear_rows("css_decoder.kv_decoder_embed", "css/reference_embed"),
  *norm_rows("css_decoder.kv_decoder_norm", "css/reference_norm"),
  *block_rows("css_decoder.self_atten_blocks", "css/blocks"),
  *norm_rows("css_decoder.cross_atten_block.norm1", "css/cross_norm1"),
  Row("css_decoder.cross_atten_block.attn.in_proj_weight", "css/cross_qkv/kernel", LINEAR_LAYOUT),
  Row("css_decoder.cross_atten_block.attn.in_proj_bias", "css/cross_qkv/bias"),
  *linear_rows("css_decoder.cross_atten_block.attn.out_proj", "css/cross_proj"),
  *norm_rows("css_decoder.cross_atten_block.norm2", "css/cross_norm2"),
  *linear_rows("css_decoder.cross_atten_block.mlp.fc1", "css/cross_mlp/fc1"),
  *linear_rows("css_decoder.cross_atten_block.mlp.fc2", "css/cross_mlp/fc2"),
  *norm_rows("css_decoder.q_decoder_norm", "css/kernel_norm"),
  *linear_rows("css_decoder.kernel_pred", "css/kernel"),
  *linear_rows("css_decoder.mask_head.0", "css/map_embed", CONV_1X1_LAYOUT),
  *linear_rows("css_decoder.mask_head.2", "css/map1", CONV_LAYOUT),
  *linear_rows("css_decoder.mask_head.4", "css/map2", CONV_LAYOUT),
  *linear_rows("css_decoder.mask_head.6", "css/map3", CONV_LAYOUT),
]
HEADS = {"csm": ("csm_decoder.", _CSM), "csr": ("csr_decoder.", _CSR), "css": ("css_decoder.", _CSS)}
"""Head -> prefix of its published names, and its rows."""

SAIP_ROWS = [*_BACKBONE, *_CSM, *_CSR, *_CSS]

ADAPTER = r"(adapter|align_decoder|translator|expert)\w*\."  # modules that train a distilled student

# An unused norm, the gain of the prototypes' weight norm (frozen at one), mask tokens, an adapter.
SAIP_IGNORED = (
  r"^csm_decoder\.decoder_norm\.",
  r"^csm_decoder\.last_layer\.weight_g$",
  r"^backbone\.(mask_token|masked_embed)$",
  f"^{ADAPTER}",
)


def read(state: Mapping[str, np.ndarray], backbone: ViT | None = None) -> dict:
  """Returns the parameter tree of a published state dict (names after `module.` is stripped).

  Args:
    state: name -> array; heads may be absent.
    backbone: the expected module; None accepts any shapes.

  Raises:
    ValueError: missing or unexpected tensors, wrong shapes, or prototypes with a gain other than one.
  """
  gain = state.get("csm_decoder.last_layer.weight_g")
  if gain is not None and not np.all(np.asarray(gain) == 1):
    raise ValueError(
      "csm_decoder.last_layer.weight_g is not all ones; SAIP freezes it at one, and the model here has no gain"
    )
  table = list(_BACKBONE)
  for prefix, rows in HEADS.values():
    if any(name.startswith(prefix) for name in state):
      table += rows
  if backbone is None:
    return from_torch(state, table, SAIP_IGNORED)
  return from_torch(state, table, SAIP_IGNORED, _shapes(state, backbone), backbone.patch)


def write(tree: dict, patch: int) -> dict[str, np.ndarray]:
  """Returns the published state dict of a parameter tree, with the unused tensors of the published modules.

  An adapter is left out: downstream programs drop it.

  Raises:
    ValueError: the published model has no such heads.
  """
  tree = {name: module for name, module in tree.items() if name != "adapter"}  # of training with an expert alone
  others = sorted(tree.keys() - {"backbone", *HEADS})
  if "memory_embed" in tree.get("csr", {}):
    others.append("csr with cross-attention (behavior.csr_context='tokens')")
  if others:
    raise ValueError(f"the published files have no place for {', '.join(others)}: choose another --dialect")
  table = [*_BACKBONE, *(row for name, (_, rows) in HEADS.items() if name in tree for row in rows)]
  state = to_torch(tree, table, patch)
  if "csm" in tree:
    width, ones = state["backbone.cls_token"].shape[-1], lambda *shape: np.ones(shape, np.float32)
    state["csm_decoder.last_layer.weight_g"] = ones(len(state["csm_decoder.last_layer.weight_v"]), 1)
    state["csm_decoder.decoder_norm.weight"] = ones(width)
    state["csm_decoder.decoder_norm.bias"] = 0 * ones(width)
  return state


def _shapes(state, backbone: ViT) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every parameter; the sizes of heads are those of their first tensors."""
  first = lambda name: state[name].shape[0]
  depth = lambda prefix: len({n.removeprefix(prefix).partition(".")[0] for n in state if n.startswith(prefix)})
  tokens, scene = (jax.ShapeDtypeStruct((1, *shape, backbone.width), np.float32) for shape in ((2,), (1, 1)))
  h, w = backbone.stored_grid

  def csm():
    sizes = (first(f"csm_decoder.{name}") for name in ("last_layer.weight_v", "mlp.0.weight", "mlp.4.weight"))
    return PrototypeHead(*sizes).init, (tokens,)

  def csr():
    head = MaeDecoder(
      3 * backbone.patch**2,
      (h, w),
      first("csr_decoder.decoder_embed.weight"),
      depth("csr_decoder.decoder_blocks."),
      heads=1,
      context="token",
    )
    order = jax.ShapeDtypeStruct((1, h * w), np.int32)
    return lambda key, x, ids: head.init(key, x, ids, (h, w), x[:, :1]), (tokens, order)

  def css():
    head = SearchDecoder(first("css_decoder.q_decoder_embed.weight"), depth("css_decoder.self_atten_blocks."), heads=1)
    search = lambda module, query, scene: module([query], module.prepare(scene))
    return lambda key, *args: head.init(key, *args, method=search), (tokens, scene)

  shapes = {f"backbone/{path}": shape for path, shape in parameter_shapes(backbone).items()}
  for name, make in (("csm", csm), ("csr", csr), ("css", css)):
    try:
      init, arguments = make()
      tree = jax.eval_shape(init, jax.random.key(0), *arguments)["params"]
    except (KeyError, IndexError, ValueError, TypeError, ArithmeticError):
      continue  # the tensors that determine its sizes are missing or malformed
    shapes |= {f"{name}/{path}": shape for path, shape in shapes_of(tree).items()}
  return shapes
