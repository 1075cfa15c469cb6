"""How the optimiser treats the parameters of backbones and heads, whatever the method."""

from saip_jax.methods.base import ParamGroup


def usual_groups(decay_tokens: bool) -> list[tuple[str, ParamGroup]]:
  """Returns `Method.param_groups`: no decay on biases, norms and scales, decay on weights.

  Tables of relative positions and attention biases are biases, prototypes are weights.

  Args:
    decay_tokens: decay class and mask tokens and positions.
  """
  return [
      (r"(bias|biases|bias_table|scale|gamma)$", ParamGroup(decay=False)),
      (r"(cls_token|mask_token|pos_embed)$", ParamGroup(decay=decay_tokens)),
      (r"(kernel|prototypes)$", ParamGroup(decay=True)),
  ]
