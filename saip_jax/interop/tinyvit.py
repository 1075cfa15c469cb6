"""The names of a TinyViT's tensors in PyTorch; the neck is not part of timm's model."""

from saip_jax.backbones.tinyvit import TinyViT
from saip_jax.interop.tables import CONV_LAYOUT, Row, TensorNames, batch_norm_rows, linear_rows, norm_rows


def _conv_norm(torch: str, path: str) -> list[Row]:
  return [
    Row(f"{torch}.conv.weight", f"{path}/conv/kernel", CONV_LAYOUT),
    *batch_norm_rows(f"{torch}.bn", f"{path}/bn"),
  ]


def _conv_norms(torch: str, path: str, count: int) -> list[Row]:
  return [row for i in range(1, 1 + count) for row in _conv_norm(f"{torch}.conv{i}", f"{path}/conv{i}")]


def _attention_block(torch: str, path: str) -> list[Row]:
  return [
    *norm_rows(f"{torch}.attn.norm", f"{path}/attn/norm"),
    *linear_rows(f"{torch}.attn.qkv", f"{path}/attn/qkv"),
    *linear_rows(f"{torch}.attn.proj", f"{path}/attn/proj"),
    Row(f"{torch}.attn.attention_biases", f"{path}/attn/attention_biases"),
    *_conv_norm(f"{torch}.local_conv", f"{path}/local_conv"),
    *norm_rows(f"{torch}.mlp.norm", f"{path}/mlp/norm"),
    *linear_rows(f"{torch}.mlp.fc1", f"{path}/mlp/fc1"),
    *linear_rows(f"{torch}.mlp.fc2", f"{path}/mlp/fc2"),
  ]


def _stages() -> list[Row]:
  rows = []
  for stage, depth in enumerate(TinyViT.depths):
    torch, path = f"stages.{stage}", f"stages_{stage}"
    if stage:
      rows += _conv_norms(f"{torch}.downsample", f"{path}/downsample", 3)
    for i in range(depth):
      block = f"{torch}.blocks.{i}", f"{path}/blocks_{i}"
      rows += _attention_block(*block) if stage else _conv_norms(*block, 3)
  return rows


_BUFFERS = (r"\.num_batches_tracked$", r"\.attention_bias_idxs$")  # counters, and indices determined by the window

TINYVIT_NAMES = TensorNames(
  timm=[*_conv_norms("patch_embed", "patch_embed", 2), *_stages()],
  extra=[
    Row("neck.0.weight", "neck/conv1/kernel", CONV_LAYOUT),
    *norm_rows("neck.1", "neck/norm1"),
    Row("neck.2.weight", "neck/conv2/kernel", CONV_LAYOUT),
    *norm_rows("neck.3", "neck/norm2"),
    *norm_rows("inter_norm", "inter_norm"),
  ],
  ignored=(*_BUFFERS, r"^head\."),  # and the classifier with its norm
  buffers=_BUFFERS,
)
