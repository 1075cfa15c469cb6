"""The names of a TinyViT's tensors: timm's, and beside them those of the neck and the norm of the tapped layer."""

from saip_jax.backbones.tinyvit import TinyViT
from saip_jax.interop.tables import CONV, Row, batch_norm, linear, norm


def _conv_norm(torch: str, path: str) -> list[Row]:
  return [Row(f"{torch}.conv.weight", f"{path}/conv/kernel", CONV), *batch_norm(f"{torch}.bn", f"{path}/bn")]


def _conv_norms(torch: str, path: str, count: int) -> list[Row]:
  return [row for i in range(1, 1 + count) for row in _conv_norm(f"{torch}.conv{i}", f"{path}/conv{i}")]


def _attention_block(torch: str, path: str) -> list[Row]:
  return [
    *norm(f"{torch}.attn.norm", f"{path}/attn/norm"),
    *linear(f"{torch}.attn.qkv", f"{path}/attn/qkv"),
    *linear(f"{torch}.attn.proj", f"{path}/attn/proj"),
    Row(f"{torch}.attn.attention_biases", f"{path}/attn/attention_biases"),
    *_conv_norm(f"{torch}.local_conv", f"{path}/local_conv"),
    *norm(f"{torch}.mlp.norm", f"{path}/mlp/norm"),
    *linear(f"{torch}.mlp.fc1", f"{path}/mlp/fc1"),
    *linear(f"{torch}.mlp.fc2", f"{path}/mlp/fc2"),
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


TIMM = [*_conv_norms("patch_embed", "patch_embed", 2), *_stages()]
EXTRA = [  # no loader of timm's names accepts these
  Row("neck.0.weight", "neck/conv1/kernel", CONV),
  *norm("neck.1", "neck/norm1"),
  Row("neck.2.weight", "neck/conv2/kernel", CONV),
  *norm("neck.3", "neck/norm2"),
  *norm("inter_norm", "inter_norm"),
]

BUFFERS = (r"\.num_batches_tracked$", r"\.attention_bias_idxs$")  # counters, indices that the window's side tells
IGNORED = (*BUFFERS, r"^head\.")  # what timm's files hold beside: also the classifier and its norm
