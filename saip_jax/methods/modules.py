"""Modules of parameters and their running statistics: applied to views, and replaced by loaded weights."""

from collections.abc import Mapping
from typing import Any

import jax

from saip_jax.backbones.features import Backbone, Features, Views
from saip_jax.backbones.statistics import split_statistics


def encode_views(backbone: Backbone, params: dict, statistics, views: list[Views]) -> tuple[list[Features], Any]:
  """Encodes views with the statistics of their batch.

  Args:
    backbone: the encoder.
    params: its parameters.
    statistics: its running statistics; None for an encoder without batch norm.
    views: views of one batch, encoded together.

  Returns:
    The features of each of the views, and the running statistics after them, None without batch norm.
  """
  variables = {"params": params} | ({"batch_stats": statistics} if statistics else {})
  features, changed = backbone.apply(variables, views, mutable=["batch_stats"], method=type(backbone).encode)
  return features, changed.get("batch_stats")


def replace_modules(params: dict, loaded: Mapping[str, Any]) -> dict:
  """Returns `params` with whole modules replaced.

  Args:
    params: module name -> tree of parameters.
    loaded: the same for some of the modules.

  Raises:
    ValueError: listing every module and every parameter that does not fit.
  """
  wrong, heads_only = [], True
  for module, tree in loaded.items():
    wanted, found = (
      {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}
      for leaves in (jax.tree_util.tree_leaves_with_path(t) for t in (params.get(module, {}), tree))
    )
    names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    wrong += [f"{module}/{name} is {found.get(name, 'missing')}, expected {wanted.get(name, 'none')}" for name in names]
    heads_only &= not names or module != "backbone"
  if wrong:
    hint = "; --config.init_heads=False takes the backbone alone" if heads_only else ""
    raise ValueError(f"these weights do not fit: {', '.join(wrong)}{hint}")
  return {**params, **loaded}


def load_modules(params: dict, method_state: dict, loaded: Mapping[str, Any]) -> tuple[dict, dict]:
  """Replaces modules where `method_state["statistics"]` has the running statistics of each module by its name.

  Args:
    params: module name -> tree of parameters.
    method_state: the state beside them.
    loaded: module name -> tree of parameters and running statistics, for some of the modules.

  Returns:
    `params` and `method_state` with these modules replaced.

  Raises:
    ValueError: see `replace_modules`.
  """
  split = {name: split_statistics(tree) for name, tree in loaded.items()}
  params = replace_modules(params, {name: parts["params"] for name, parts in split.items()})
  statistics = {name: parts["batch_stats"] for name, parts in split.items() if "batch_stats" in parts}
  return params, method_state | {"statistics": replace_modules(method_state["statistics"], statistics)}
