"""Parameter groups of backbones and heads, the same for all methods."""

import dataclasses

from saip_jax.backbones.features import Backbone
from saip_jax.methods.base import ParamGroup


def usual_groups(decay_tokens: bool, decay_positions: bool | None = None) -> list[tuple[str, ParamGroup]]:
  """Returns groups without decay for biases, norms and scales, and with decay for weights, see `Method.param_groups`.

  Tables of relative positions and attention biases are biases; prototypes, their gains and word embeddings are weights.

  Args:
    decay_tokens: decay class, prefix and mask tokens.
    decay_positions: decay learned positions; None: as the tokens.

  >>> dict(usual_groups(decay_tokens=False))["pos_embed$"].decay
  False
  """
  decay_positions = decay_tokens if decay_positions is None else decay_positions
  return [
    (r"(bias|biases|bias_table|scale|gamma)$", ParamGroup(decay=False)),
    (r"(cls_token|reg_token|mask_token)$", ParamGroup(decay=decay_tokens)),
    (r"pos_embed$", ParamGroup(decay=decay_positions)),
    (r"(kernel|prototypes|gain|word_embed)$", ParamGroup(decay=True)),
  ]


def layer_wise(groups: list[tuple[str, ParamGroup]], backbone: Backbone, decay: float) -> list[tuple[str, ParamGroup]]:
  """Returns the groups with a learning rate that decays from the head down to the patches.

  With L layers, the learning rate of layer i is multiplied by decay ** (L - i): `decay` for the last layer, 1 for the
  final norm and the head. In a ViT each block is a layer, and patches and positions are layer 0; in networks of stages
  each stage is a layer, and everything before them is layer 0.

  Args:
    groups: groups of all parameters.
    backbone: the network whose parameters are below `backbone/`.
    decay: 0 to 1; 1 changes nothing.

  Source: BEiT (Bao et al. 2022), appendix; layers counted as in MAE and ViTPose.
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
