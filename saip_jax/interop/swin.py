"""The names of a Swin-T's tensors in PyTorch."""

from saip_jax.backbones.swin import Swin
from saip_jax.interop.tables import CONV_LAYOUT, Row, TensorNames, linear_rows, norm_rows


def _block(torch: str, path: str) -> list[Row]:
  offsets = "attn{}relative_position_bias_table"
  return [
    *norm_rows(f"{torch}.norm1", f"{path}/norm1"),
    Row(f"{torch}.{offsets.format('.')}", f"{path}/{offsets.format('/')}"),
    linear_rows(f"{torch}.attn.qkv", f"{path}/attn/qkv")[0],
    Row(f"{torch}.attn.qkv.bias", f"{path}/attn/qkv_bias"),
    *linear_rows(f"{torch}.attn.proj", f"{path}/attn/proj"),
    *norm_rows(f"{torch}.norm2", f"{path}/norm2"),
    *linear_rows(f"{torch}.mlp.fc1", f"{path}/mlp/fc1"),
    *linear_rows(f"{torch}.mlp.fc2", f"{path}/mlp/fc2"),
  ]


def _stages() -> list[Row]:
  rows = []
  for stage, depth in enumerate(Swin.depths):
    torch, path = f"layers.{stage}", f"layers_{stage}"
    if stage:
      rows += norm_rows(f"{torch}.downsample.norm", f"{path}/downsample/norm")
      rows += linear_rows(f"{torch}.downsample.reduction", f"{path}/downsample/reduction")[:1]  # has no bias
    for i in range(depth):
      rows += _block(f"{torch}.blocks.{i}", f"{path}/blocks_{i}")
  return rows


_BUFFERS = (r"\.relative_position_index$", r"\.attn_mask$")  # indices and masks, determined by the sizes

SWIN_NAMES = TensorNames(
  timm=[
    *linear_rows("patch_embed.proj", "patch_embed/proj", CONV_LAYOUT),
    *norm_rows("patch_embed.norm", "patch_embed/norm"),
    *_stages(),
    *norm_rows("norm", "norm"),
  ],
  extra=norm_rows("inter_norm", "inter_norm"),
  ignored=(*_BUFFERS, r"^head\."),  # and the classifier
  buffers=_BUFFERS,
)
