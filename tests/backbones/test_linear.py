"""Linear layers: gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones.linear import affine


@pytest.mark.parametrize(("inputs", "outputs"), [(5, 12), (12, 5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-6), (jnp.bfloat16, 2e-2)])
def test_gradients_equal_the_formula_in_float64(inputs, outputs, dtype, tolerance):
  rng = np.random.default_rng(0)
  shapes = (3, 7, inputs), (inputs, outputs), (outputs,), (3, 7, outputs)
  x, kernel, bias, gradient = (jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)
  value, gradients = jax.jit(lambda *a: (lambda y, back: (y, back(a[3])))(*jax.vjp(affine, *a[:3])))(
    x, kernel, bias, gradient
  )
  wide = [np.asarray(a, np.float64) for a in (x, kernel, bias, gradient)]
  expected = (wide[3] @ wide[1].T, np.einsum("bnk,bnm->km", wide[0], wide[3]), wide[3].sum((0, 1)))
  for found, true in zip((value, *gradients), (wide[0] @ wide[1] + wide[2], *expected), strict=True):
    assert found.dtype == dtype and found.shape == true.shape
    assert np.abs(np.asarray(found, np.float64) - true).max() <= tolerance * np.abs(true).max()


def test_other_devices_keep_the_native_gradients():
  """Lowered for a TPU, the gradients are the program of plain automatic differentiation, without a barrier."""
  shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 12), (12, 5), (5,))]
  text = lambda f, platform: (
    jax.jit(jax.grad(lambda *a: jnp.sum(jnp.sin(f(*a))), (0, 1, 2)))
    .trace(*shapes)
    .lower(lowering_platforms=(platform,))
    .as_text()
  )
  assert "optimization_barrier" in text(affine, "cpu")
  products = lambda lowered: sorted(
    line.split("dot_general")[1] for line in lowered.splitlines() if "dot_general" in line
  )
  strip = lambda lines: [line.split(" : ")[1] for line in lines]
  ours, plain = text(affine, "tpu"), text(lambda x, kernel, bias: x @ kernel + bias, "tpu")
  assert "optimization_barrier" not in ours
  assert strip(products(ours)) == strip(products(plain))
