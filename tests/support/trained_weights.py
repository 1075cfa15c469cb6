"""ViT-Ti with SAIP's heads as training leaves it: the weights that tests of exports write."""

import functools
import pathlib

import jax
import numpy as np

from saip_jax.interop.spec import BackboneSpec
from saip_jax.interop.tables import flatten, unflatten
from saip_jax.interop.weights import Weights
from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from tests.support.tiny_saip import TINY

REPO = pathlib.Path(__file__).resolve().parents[2]
SPEC = BackboneSpec("vit_tiny", (256, 128), "flat1d")


@functools.cache
def trained_weights() -> Weights:
  """A ViT-Ti with SAIP's heads, narrow ones, and a teacher that is another."""
  recipe = load_recipe(REPO / "configs" / "saip_demo.py")
  settings = [s for s in TINY if not s.startswith(("model.", "data.canvas"))]
  settings += ["model.backbone=vit_tiny", "model.image_hw=(256, 128)", "method.css.scene_size=192"]
  method = METHODS["saip"].build(parse_config(apply_overrides(recipe, [f"--config.{s}" for s in settings])))
  params, _ = jax.eval_shape(method.init, jax.random.key(0))
  shapes = flatten(jax.tree.map(lambda a: np.broadcast_to(np.float32(0), a.shape), params))
  trees = []
  for seed in (0, 1):
    rng = np.random.default_rng(seed)
    trees.append(unflatten({path: _trained_values(rng, path, a.shape) for path, a in shapes.items()}))
  return Weights(SPEC, *trees, origin="made-up weights")


def _trained_values(rng, path: str, shape) -> np.ndarray:
  """Returns parameters of the sizes that training leaves: features are of order one, no block is idle."""
  name = path.split("/")[-1]
  if name in ("bias", "scale"):
    return (name == "scale") + 0.2 * rng.standard_normal(shape, np.float32)
  if name == "kernel":
    return rng.standard_normal(shape, np.float32) * np.float32(shape[-2] ** -0.5)
  return 0.5 * rng.standard_normal(shape, np.float32)
