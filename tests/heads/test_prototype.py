"""The prototype head's cosines and their gradients, against the formula in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.heads.prototype import prototype_cosines, sum_squares

RNG = np.random.default_rng(0)
X, PROTOTYPES = RNG.normal(size=(3, 2, 8)).astype(np.float32), 3 * RNG.normal(size=(8, 50)).astype(np.float32)


def formula(x, prototypes):
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)) @ (prototypes / np.linalg.norm(prototypes, axis=0))


def test_logits_are_cosines():
  found = np.asarray(jax.jit(prototype_cosines)(X, PROTOTYPES))
  np.testing.assert_allclose(found, formula(X.astype(np.float64), PROTOTYPES.astype(np.float64)), atol=1e-6)


@pytest.mark.parametrize("which", [0, 1])
def test_gradients_equal_differences_in_float64(which):
  arguments = [X.astype(np.float64), PROTOTYPES.astype(np.float64)]
  weights = RNG.normal(size=(3, 2, 50))
  found = jax.jit(jax.grad(lambda *a: jnp.sum(prototype_cosines(*a) * weights), which))(X, PROTOTYPES)
  for index in [tuple(RNG.integers(0, n) for n in arguments[which].shape) for _ in range(20)]:
    values = []
    for step in (1e-6, -1e-6):
      moved = [a.copy() for a in arguments]
      moved[which][index] += step
      values.append(np.sum(formula(*moved) * weights))
    assert abs(found[index] - (values[0] - values[1]) / 2e-6) < 1e-4


def test_other_devices_reduce_without_a_loop():
  text = lambda platform: (
    jax.jit(sum_squares).trace(jax.ShapeDtypeStruct((8, 50), "float32")).lower(lowering_platforms=(platform,)).as_text()
  )
  assert "while" in text("cpu")
  assert "while" not in text("tpu") and "while" not in text("cuda")
