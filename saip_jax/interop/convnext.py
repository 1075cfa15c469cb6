"""The names of a ConvNeXt-Femto's tensors in PyTorch."""

from saip_jax.backbones.convnext import ConvNeXt
from saip_jax.interop.tables import CONV_1X1_LAYOUT, CONV_LAYOUT, Row, TensorNames, linear_rows, norm_rows


def _block(torch: str, path: str) -> list[Row]:
  return [
    Row(f"{torch}.gamma", f"{path}/gamma"),
    *linear_rows(f"{torch}.conv_dw", f"{path}/conv_dw", CONV_LAYOUT),
    *norm_rows(f"{torch}.norm", f"{path}/norm"),
    *linear_rows(f"{torch}.mlp.fc1", f"{path}/mlp/fc1", CONV_1X1_LAYOUT),
    *linear_rows(f"{torch}.mlp.fc2", f"{path}/mlp/fc2", CONV_1X1_LAYOUT),
  ]


def _stages() -> list[Row]:
  rows = []
  for stage, depth in enumerate(ConvNeXt.depths):
    torch, path = f"stages.{stage}", f"stages_{stage}"
    if stage:
      rows += norm_rows(f"{torch}.downsample.0", f"{path}/downsample/norm")
      rows += linear_rows(f"{torch}.downsample.1", f"{path}/downsample/conv", CONV_LAYOUT)
    for i in range(depth):
      rows += _block(f"{torch}.blocks.{i}", f"{path}/blocks_{i}")
  return rows


CONVNEXT_NAMES = TensorNames(
  timm=[
    *linear_rows("stem.0", "stem/conv", CONV_LAYOUT),
    *norm_rows("stem.1", "stem/norm"),
    *_stages(),
    *norm_rows("head.norm", "head_norm"),
  ],
  extra=norm_rows("inter_norm", "inter_norm"),
  ignored=(r"^head\.fc\.",),  # the classifier
)
