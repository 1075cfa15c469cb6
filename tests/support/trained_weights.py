"""Weights as training leaves them, that tests of exports write: ViT-Ti with SAIP's heads, and every backbone alone."""

import functools
import pathlib

import jax
import numpy as np

from saip_jax.interop.architectures import ARCHITECTURES
from saip_jax.interop.shapes import parameter_shapes
from saip_jax.interop.spec import BackboneSpec
from saip_jax.interop.tables import flatten, unflatten
from saip_jax.interop.weights import Weights
from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from tests.support.pyramid_laws import values_of_training
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


@functools.cache
def backbone_weights(name: str, image_hw: tuple[int, int] = (64, 32)) -> Weights:
  """A backbone of this name without heads, and a teacher that is another."""
  spec, trees = BackboneSpec(name, image_hw, "grid2d" if ARCHITECTURES[name].positions else None), []
  for seed in (0, 1):
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(spec.build())
    made_up = {path: values_of_training(rng, path, shape) for path, shape in shapes.items()}
    trees.append({"backbone": unflatten(made_up)})
  return Weights(spec, *trees, "made-up weights")


def _trained_values(rng, path: str, shape) -> np.ndarray:
  """Returns parameters of the sizes that training leaves: features are of order one, no block is idle."""
  name = path.split("/")[-1]
  if name in ("bias", "scale"):
    return (name == "scale") + 0.2 * rng.standard_normal(shape, np.float32)
  if name == "kernel":
    return rng.standard_normal(shape, np.float32) * np.float32(shape[-2] ** -0.5)
  return 0.5 * rng.standard_normal(shape, np.float32)
