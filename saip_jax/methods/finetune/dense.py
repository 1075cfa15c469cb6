"""Base class of the tasks that predict a map."""

from saip_jax.backbones.features import Backbone
from saip_jax.heads.upsampling import FINE_STRIDE, UpsamplingHead
from saip_jax.methods.finetune.task import SupervisedTask
from saip_jax.methods.finetune.views import Placement


class DenseTask(SupervisedTask):
  """ViTPose's classic decoder: maps of cells of 4 pixels, from the coarsest map of the backbone."""

  reads, mirrors = "maps", True

  def outputs(self, classes: int) -> int:
    """Returns the number of channels of the map."""
    return classes

  def head(self, classes: int, backbone: Backbone) -> UpsamplingHead:
    return UpsamplingHead(self.outputs(classes), backbone.map_strides[-1], dtype=backbone.dtype)

  def grid(self, place: Placement) -> tuple[int, int]:
    """Returns the (h, w) of the map."""
    return tuple(side // FINE_STRIDE for side in place.out_hw)

  def check_config(self, config) -> None:
    super().check_config(config)
    if any(side % 32 for side in config.model.image_hw):
      raise ValueError(f"config.model.image_hw is {config.model.image_hw}: {config.method.task} needs multiples of 32")
