"""AdamW or SGD with decay, learning-rate multipliers and freezing by parameter name."""

import re

import jax
import jax.numpy as jnp
import optax


def parameter_names(params) -> dict[str, jax.Array]:
  """Returns the parameters keyed by their path, as in `backbone/blocks/attn/qkv/kernel`."""
  leaves = jax.tree_util.tree_flatten_with_path(params)[0]
  return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _group_of_each(params, param_groups):
  """Returns a tree like `params` with the first matching group as each leaf; every parameter must match one."""
  missing = []

  def group(path, _):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    for pattern, group in param_groups:
      if re.search(pattern, name):
        return group
    missing.append(name)

  groups = jax.tree_util.tree_map_with_path(group, params)
  if missing:
    raise ValueError(f"no parameter group covers {', '.join(missing)}: extend the method's param_groups()")
  return groups


def _multiplier(group, update: jax.Array) -> float | jax.Array:
  """Returns the factor of an update: a number, or one for each of the blocks stacked along its leading axis."""
  if group.frozen:
    return 0.0
  if not isinstance(group.lr_multiplier, tuple):
    return group.lr_multiplier
  return jnp.array(group.lr_multiplier, update.dtype).reshape(-1, *[1] * (update.ndim - 1))


def make_schedules(config, total_steps: int) -> tuple[optax.Schedule, optax.Schedule]:
  """Returns the schedules of the learning rate and of the weight decay, each a function of the update count.

  The learning rate has a linear warm-up from zero, then half a cosine to `min_learning_rate` at `total_steps` (methods
  follow MAE's rule: the first update has learning rate zero). The weight decay goes to `final_weight_decay` along half
  a cosine.

  Args:
    config: `saip_jax.config.OptimizerConfig`.
    total_steps: updates of the whole run.
  """
  warmup_steps = min(round(config.warmup_fraction * total_steps), total_steps - 1)
  schedule = optax.warmup_cosine_decay_schedule(
    0.0 if warmup_steps else config.learning_rate,
    config.learning_rate,
    warmup_steps,
    total_steps,
    config.min_learning_rate,
  )
  first, last = config.weight_decay, config.final_weight_decay
  course = optax.cosine_decay_schedule(1.0, total_steps)
  return schedule, lambda count: first if last is None else last + (first - last) * course(count)


def make_optimizer(config, total_steps: int, param_groups) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Returns the transformation and its learning-rate schedule, see `make_schedules`.

  Args:
    config: `saip_jax.config.OptimizerConfig`.
    total_steps: updates of the whole run.
    param_groups: list of (regex over parameter names, `saip_jax.methods.base.ParamGroup`), first match wins.

  Raises:
    ValueError: on first use, when a parameter is covered by no group.
  """
  schedule, rate = make_schedules(config, total_steps)

  def per_group(value):
    return lambda params: jax.tree.map(value, _group_of_each(params, param_groups))

  def multiply(updates, params):
    return jax.tree.map(lambda u, g: u * _multiplier(g, u), updates, _group_of_each(params, param_groups))

  starts = {group.start for _, group in param_groups}

  def from_their_start(rule):
    """Returns a rule that applies to each group from its `start` on; before, updates are zero and no state changes."""
    if starts == {0}:
      return rule
    later = lambda start: optax.conditionally_mask(rule, lambda count: count >= start)
    return optax.partition({start: later(start) if start else rule for start in starts}, per_group(lambda g: g.start))

  decay = config.weight_decay if config.final_weight_decay is None else rate  # a number needs no count in the state
  decay = optax.add_decayed_weights(decay, per_group(lambda g: g.decay))
  rules = {
    "adamw": (from_their_start(optax.scale_by_adam(config.b1, config.b2, config.eps)), decay),
    "sgd": (decay, from_their_start(optax.trace(config.b1))),  # as in PyTorch: the momentum includes the decay
  }
  # If all groups start together the state has no extra parts: checkpoints of such runs are read by position.
  started = lambda rule: rule if starts == {0} else optax.chain(from_their_start(optax.identity()), rule)
  tx = optax.chain(
    started(optax.clip_by_global_norm(config.grad_clip_norm) if config.grad_clip_norm else optax.identity()),
    *rules[config.name],
    started(optax.stateless(multiply)),
    optax.scale_by_learning_rate(schedule),
  )
  return tx, schedule
