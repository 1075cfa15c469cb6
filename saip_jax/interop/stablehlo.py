"""The encoder as serialized StableHLO, for JAX without this package and for other compilers."""

import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from saip_jax.backbones.statistics import split_statistics

STABLEHLO_FILE = "model.stablehlo"
PLATFORMS = ("cpu", "tpu", "cuda")
_GUARANTEE = (
  "jax.export (docs.jax.dev/en/latest/export/export.html#compatibility-guarantees): it runs with a JAX whose jaxlib was"
  " built up to 6 months after or 3 weeks before the one that wrote it; for archives, keep the weights too"
)


def write_stablehlo(path: pathlib.Path, weights, which: str) -> dict[str, Any]:
  """Writes the encoder with its weights: (B, H, W, 3) normalized float32 -> {"cls", "patch_tokens"}, any batch size.

  It is traced for one image and mapped over a symbolic batch, so that no network needs to know of symbolic sizes.

  Args:
    path: the file, as `jax.export` serializes it.
    weights: the `spec.Weights`.
    which: a key of `spec.ENCODER_MODULES`.

  Returns:
    JSON-able facts: platforms, and the versions that its compatibility depends on.
  """
  module, variables = weights.spec.build(), split_statistics(weights.backbone(which))

  def encode(image):
    with jax.default_matmul_precision("highest"):
      features = module.apply(variables, image[None], ("cls", "tokens"))
    return {"cls": features.cls[0], "patch_tokens": features.tokens[0]}

  images = jax.ShapeDtypeStruct((*export.symbolic_shape("batch"), *weights.spec.image_hw, 3), jnp.float32)
  exported = export.export(jax.jit(jax.vmap(encode)), platforms=PLATFORMS)(images)
  path.write_bytes(exported.serialize())
  header = re.match(rb"ML\xefR.StableHLO_v([\d.]+)\0", exported.mlir_module_serialized, re.DOTALL)
  return {
    "platforms": list(exported.platforms),
    "input": str(exported.in_avals[0]),
    "outputs": {name: str(aval) for name, aval in zip(("cls", "patch_tokens"), exported.out_avals)},
    "calling_convention_version": exported.calling_convention_version,
    "stablehlo_version": header[1].decode() if header else None,
    "jax_version": jax.__version__,
    "guarantee": _GUARANTEE,
  }


def run_stablehlo(path: pathlib.Path, images: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the outputs of a file for (B, H, W, 3) normalized images."""
  outputs = export.deserialize(bytearray(path.read_bytes())).call(images)
  return {name: np.asarray(value) for name, value in outputs.items()}
