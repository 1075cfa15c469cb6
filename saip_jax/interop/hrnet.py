"""The names of an HRNet-W18's tensors in PyTorch; timm's are the published ones."""

from saip_jax.backbones.hrnet import HRNet
from saip_jax.interop.tables import CONV_LAYOUT, Row, TensorNames, batch_norm_rows, norm_rows


def _conv_norm(conv: str, bn: str, path: str) -> list[Row]:
  return [Row(f"{conv}.weight", f"{path}/conv/kernel", CONV_LAYOUT), *batch_norm_rows(bn, f"{path}/bn")]


def _pair(torch: str, path: str) -> list[Row]:
  """Returns the rows of a convolution and its norm, the first two modules of a sequence."""
  return _conv_norm(f"{torch}.0", f"{torch}.1", path)


def _block(torch: str, path: str, convolutions: int) -> list[Row]:
  numbers = range(1, 1 + convolutions)
  return [row for i in numbers for row in _conv_norm(f"{torch}.conv{i}", f"{torch}.bn{i}", f"{path}/conv{i}")]


def _stage(number: int) -> list[Row]:
  """Returns the rows of the stage with `number` maps."""
  transition, torch, path = f"transition{number - 1}", f"stage{number}.{{}}", f"stage{number}/blocks"
  table = _pair(f"{transition}.0", "stage2/narrowed") if number == 2 else []
  table += _pair(f"{transition}.{number - 1}.0", f"stage{number}/added")
  for i in range(number):
    table += _block(f"{torch}.branches.{i}.{{}}", f"{path}/branches_{i}", 2)
    for j in range(number):
      fuse, brought = f"{torch}.fuse_layers.{i}.{j}", f"{path}/from_{j}_to_{i}"
      table += _pair(fuse, brought) if j > i else []
      for k in range(i - j):
        table += _pair(f"{fuse}.{k}", f"{brought}/convs_{k}")
  return table


def hrnet_rows(bottlenecks: int) -> list[Row]:
  """Returns the rows of an HRNetV2 with `bottlenecks` blocks in its first stage, in timm's names."""
  return [
    *_stage(2),  # first: its first tensor has the width of the network
    *_conv_norm("conv1", "bn1", "conv1"),
    *_conv_norm("conv2", "bn2", "conv2"),
    *[row for i in range(bottlenecks) for row in _block(f"layer1.{i}", f"stage1/blocks_{i}", 3)],
    *_pair("layer1.0.downsample", "stage1/blocks_0/downsample"),
    *_stage(3),
    *_stage(4),
  ]


_BUFFERS = (r"\.num_batches_tracked$",)  # counters

HRNET_NAMES = TensorNames(
  timm=hrnet_rows(HRNet.depths[0]),
  extra=norm_rows("inter_norm", "inter_norm"),
  # And the convolutions before the classifier, and the classifier.
  ignored=(*_BUFFERS, r"^(incre_modules|downsamp_modules|final_layer|classifier)\."),
  buffers=_BUFFERS,
)
