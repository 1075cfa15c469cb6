"""The names of a Swin-T's tensors: timm's, and beside them those of the norm of the tapped layer."""

from saip_jax.backbones.swin import Swin
from saip_jax.interop.tables import CONV, Row, linear, norm


def _block(torch: str, path: str) -> list[Row]:
  offsets = "attn{}relative_position_bias_table"
  return [
    *norm(f"{torch}.norm1", f"{path}/norm1"),
    Row(f"{torch}.{offsets.format('.')}", f"{path}/{offsets.format('/')}"),
    linear(f"{torch}.attn.qkv", f"{path}/attn/qkv")[0],
    Row(f"{torch}.attn.qkv.bias", f"{path}/attn/qkv_bias"),
    *linear(f"{torch}.attn.proj", f"{path}/attn/proj"),
    *norm(f"{torch}.norm2", f"{path}/norm2"),
    *linear(f"{torch}.mlp.fc1", f"{path}/mlp/fc1"),
    *linear(f"{torch}.mlp.fc2", f"{path}/mlp/fc2"),
  ]


def _stages() -> list[Row]:
  rows = []
  for stage, depth in enumerate(Swin.depths):
    torch, path = f"layers.{stage}", f"layers_{stage}"
    if stage:
      rows += norm(f"{torch}.downsample.norm", f"{path}/downsample/norm")
      rows += linear(f"{torch}.downsample.reduction", f"{path}/downsample/reduction")[:1]  # has no bias
    for i in range(depth):
      rows += _block(f"{torch}.blocks.{i}", f"{path}/blocks_{i}")
  return rows


TIMM = [
  *linear("patch_embed.proj", "patch_embed/proj", CONV),
  *norm("patch_embed.norm", "patch_embed/norm"),
  *_stages(),
  *norm("norm", "norm"),
]
EXTRA = norm("inter_norm", "inter_norm")  # no loader of timm's names accepts these

BUFFERS = (r"\.relative_position_index$", r"\.attn_mask$")  # indices and masks that sizes tell
IGNORED = (*BUFFERS, r"^head\.")  # what timm's files hold beside: also the classifier
