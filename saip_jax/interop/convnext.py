"""The names of a ConvNeXt-Femto's tensors: timm's, and beside them those of the norm of the tapped layer."""

from saip_jax.backbones.convnext import ConvNeXt
from saip_jax.interop.tables import CONV, CONV_1X1, Row, linear, norm


def _block(torch: str, path: str) -> list[Row]:
  return [
    Row(f"{torch}.gamma", f"{path}/gamma"),
    *linear(f"{torch}.conv_dw", f"{path}/conv_dw", CONV),
    *norm(f"{torch}.norm", f"{path}/norm"),
    *linear(f"{torch}.mlp.fc1", f"{path}/mlp/fc1", CONV_1X1),
    *linear(f"{torch}.mlp.fc2", f"{path}/mlp/fc2", CONV_1X1),
  ]


def _stages() -> list[Row]:
  rows = []
  for stage, depth in enumerate(ConvNeXt.depths):
    torch, path = f"stages.{stage}", f"stages_{stage}"
    if stage:
      rows += norm(f"{torch}.downsample.0", f"{path}/downsample/norm")
      rows += linear(f"{torch}.downsample.1", f"{path}/downsample/conv", CONV)
    for i in range(depth):
      rows += _block(f"{torch}.blocks.{i}", f"{path}/blocks_{i}")
  return rows


TIMM = [*linear("stem.0", "stem/conv", CONV), *norm("stem.1", "stem/norm"), *_stages(), *norm("head.norm", "head_norm")]
EXTRA = norm("inter_norm", "inter_norm")  # no loader of timm's names accepts these

IGNORED = (r"^head\.fc\.",)  # what timm's files hold beside: the classifier
