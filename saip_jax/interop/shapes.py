"""The shapes of a backbone's parameters and running statistics, as one tree."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saip_jax.backbones.features import Backbone
from saip_jax.backbones.statistics import join_statistics
from saip_jax.interop.tables import unflatten

_READS = ("cls", "hidden")  # every parameter takes part in these


def _tree(backbone: Backbone, key, images) -> dict:
  variables = backbone.init(key, images, _READS)
  return join_statistics(variables["params"], variables.get("batch_stats"))


@functools.cache
def parameter_shapes(backbone: Backbone) -> dict[str, tuple[int, ...]]:
  """Returns path -> shape of every parameter and running statistic of a backbone, without allocating them."""
  images = jax.ShapeDtypeStruct((1, *backbone.image_hw, 3), np.float32)
  return shapes_of(jax.eval_shape(functools.partial(_tree, backbone), jax.random.key(0), images))


def shapes_of(tree) -> dict[str, tuple[int, ...]]:
  """Returns path -> shape of every leaf of a tree of arrays, abstract or not."""
  return {path: leaf.shape for path, leaf in _leaves(tree).items()}


def new_values(backbone: Backbone, paths: Iterable[str]) -> dict:
  """Returns the tree of the given paths with the initial values of a new backbone; deterministic, numpy arrays."""
  return unflatten({path: value.copy() for path, value in _new_values(backbone, tuple(paths)).items()})


@functools.cache
def _new_values(backbone: Backbone, paths: tuple[str, ...]) -> dict[str, np.ndarray]:
  def chosen():  # the rest is not computed
    leaves = _leaves(_tree(backbone, jax.random.key(0), jnp.zeros((1, *backbone.image_hw, 3))))
    return {path: leaves[path] for path in paths}

  return {path: np.asarray(value) for path, value in jax.jit(chosen)().items()}


def _leaves(tree) -> dict[str, Any]:
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
