"""How the optimizer treats the parameters of backbones and heads, whatever the method."""

import dataclasses

from saip_jax.backbones.features import Backbone
from saip_jax.methods.base import ParamGroup


def usual_groups(decay_tokens: bool, decay_positions: bool | None = None) -> list[tuple[str, ParamGroup]]:
  """Returns `Method.param_groups`: no decay on biases, norms and scales, decay on weights.

  Tables of relative positions and attention biases are biases, prototypes, their gains and tables of words are weights.

  Args:
    decay_tokens: decay class and mask tokens.
    decay_positions: decay learned positions; None: as tokens.
  """
  decay_positions = decay_tokens if decay_positions is None else decay_positions
  return [
    (r"(bias|biases|bias_table|scale|gamma)$", ParamGroup(decay=False)),
    (r"(cls_token|mask_token)$", ParamGroup(decay=decay_tokens)),
    (r"pos_embed$", ParamGroup(decay=decay_positions)),
    (r"(kernel|prototypes|gain|word_embed)$", ParamGroup(decay=True)),
  ]


def layer_wise(groups: list[tuple[str, ParamGroup]], backbone: Backbone, decay: float) -> list[tuple[str, ParamGroup]]:
  """Returns the groups with a learning rate that falls from the head down to the pixels.

  Of L layers the learning rate of layer i is multiplied by decay ** (L - i), so that the last one has `decay`, and what
  follows the layers, the final norm and the head, has 1. A ViT has a layer for each block and one, 0, for patches and
  positions; networks of stages have one for each stage and one before them.

  Args:
    groups: of all parameters.
    backbone: what `backbone/` in their names is.
    decay: 0 to 1; 1 changes nothing.

  Source: BEiT (Bao et al. 2022), appendix; as MAE and ViTPose count layers.
  """
  layers = backbone.parameter_layers
  depths = [depth if isinstance(depth, tuple) else (depth,) for _, depth in layers]
  count = 1 + max(depth for each in depths for depth in each)
  slower = []
  for (where, depth), each in zip(layers, depths):
    rates = tuple(decay ** (count - i) for i in each)
    rates = rates if isinstance(depth, tuple) else rates[0]
    slower += [
      (f"^(?=backbone/(?:{where})).*{what}", dataclasses.replace(group, lr_multiplier=rates)) for what, group in groups
    ]
  return [*slower, *groups]
