"""The attention kernels, interpreted on CPU: the formula in float64, gradients, segments, odd lengths, a mesh."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

from saip_jax.backbones import pallas_rows
from saip_jax.backbones.pallas_attention import attend_rows
from saip_jax.training.mesh import make_mesh

interpreted = functools.partial(attend_rows, interpret=True)


def arrays(batch, queries, keys, width, dtype=np.float32):
  """q, k, v and the gradient of the output; logits of a few units, as in trained networks."""
  random = np.random.default_rng(0)
  lengths = (queries, keys, keys, queries)
  return [jnp.asarray(random.normal(0, 1.5, (batch, length, width)), dtype) for length in lengths]


def formula(q, k, v, heads, segments=None):
  """Attention in float64."""
  q, k, v = (np.asarray(a, np.float64).reshape(*a.shape[:2], heads, -1) for a in (q, k, v))
  logits = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
  seen = np.ones(logits.shape, bool)
  if segments is not None:
    of_q, of_k = (np.broadcast_to(s, (len(q), np.shape(s)[-1])) for s in segments)
    seen &= ((of_q[:, :, None] == of_k[:, None]) & (of_k >= 0)[:, None])[:, None]
  weights = np.where(seen, np.exp(logits), 0.0)
  weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
  return np.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*q.shape[:2], -1)


def slopes(f, inputs, gradient):
  """Returns, for a random direction of each input, (the direction, the derivative of sum(f * gradient) along it)."""
  random, step = np.random.default_rng(1), 1e-4
  inputs = [np.asarray(a, np.float64) for a in inputs]
  for place, a in enumerate(inputs):
    direction = random.normal(size=a.shape)
    moved = lambda sign: f(*inputs[:place], a + sign * step * direction, *inputs[place + 1 :])
    yield direction, np.sum((moved(1) - moved(-1)) * np.asarray(gradient, np.float64)) / (2 * step)


PACKED = (0,) * 33 + (1,) * 20 + (-1,) * 4
CASES = {
  "an image of 128 patches": (129, 129, 192, 3, None),
  "short, other keys": (5, 33, 64, 4, None),
  "wide heads": (9, 9, 256, 2, None),
  "packed, padded": (57, 57, 192, 3, (PACKED, PACKED)),
  "segments of each row": (129, 40, 48, 6, "random"),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
  queries, keys, width, heads, segments = request.param
  if segments == "random":
    random = np.random.default_rng(2)
    segments = random.integers(-1, 3, (3, queries)), random.integers(-1, 3, (3, keys))
  return arrays(3, queries, keys, width), heads, segments


def test_output_and_gradients_are_those_of_the_formula(case):
  (q, k, v, gradient), heads, segments = case
  out, pull = jax.vjp(jax.jit(lambda *qkv: interpreted(*qkv, heads, *segments or ())), q, k, v)
  exact = functools.partial(formula, heads=heads, segments=segments)
  np.testing.assert_allclose(out, exact(q, k, v), atol=1e-5)
  for ours, (direction, slope) in zip(pull(gradient), slopes(exact, (q, k, v), gradient)):
    along, size = np.sum(np.asarray(ours, np.float64) * direction), np.linalg.norm(ours)
    assert size > 0.1 and abs(along - slope) < 1e-5 * max(size, 1.0)


def test_bfloat16_rounds_as_much_as_its_dtype():
  *qkv, gradient = arrays(2, 129, 129, 192, jnp.bfloat16)
  wide = [np.asarray(a, np.float32) for a in qkv]
  both = lambda f, qkv, g: (lambda out, pull: (out, *pull(g)))(*jax.vjp(f, *qkv))
  f = jax.jit(lambda *qkv: interpreted(*qkv, 3))
  for ours, exact in zip(both(f, qkv, gradient), both(f, wide, np.asarray(gradient, np.float32))):
    assert ours.dtype == jnp.bfloat16
    error = np.linalg.norm(np.asarray(ours, np.float32) - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 1e-2


def test_rows_are_worked_off_in_several_steps(monkeypatch):
  q, k, v, gradient = arrays(7, 17, 17, 64)
  call = lambda: jax.vjp(lambda *qkv: interpreted(*qkv, 2), q, k, v)
  out, pull = call()
  row = pallas_rows.row_bytes(q)
  monkeypatch.setattr(pallas_rows, "_WINDOW_BYTES", 2 * 9 * row * 3)  # two or three rows a step, the last cut off
  stepped, stepped_pull = call()
  np.testing.assert_array_equal(stepped, out)
  for ours, whole in zip(stepped_pull(gradient), pull(gradient)):
    np.testing.assert_array_equal(ours, whole)


def looped(x, attend):
  """A scan of blocks that recompute, as the encoders run."""
  body = jax.checkpoint(lambda x, scale: (x + attend(x * scale, x, x - scale), None))
  return jax.lax.scan(body, x, jnp.asarray([0.1, 0.3, 0.5]))[0]


def test_scan_and_checkpoint():
  x = arrays(2, 12, 12, 32)[0] / 4  # errors of rounding grow from block to block
  loss = lambda attend: lambda x: jnp.sum(jnp.sin(looped(x, attend)))
  ours = jax.jit(jax.grad(loss(lambda q, k, v: interpreted(q, k, v, 4))))(x)
  plain = lambda q, k, v: jax.nn.dot_product_attention(*(a.reshape(*a.shape[:2], 4, 8) for a in (q, k, v))).reshape(
    q.shape
  )
  np.testing.assert_allclose(ours, jax.jit(jax.grad(loss(plain)))(x), rtol=1e-5, atol=1e-5)


def test_vmap():
  q, k, v, _ = arrays(6, 12, 12, 32)
  split = lambda a: a.reshape(2, 3, *a.shape[1:])
  mapped = jax.vmap(lambda *qkv: interpreted(*qkv, 4))(*map(split, (q, k, v)))
  np.testing.assert_allclose(mapped, split(interpreted(q, k, v, 4)), atol=1e-6)


@pytest.mark.parametrize("fsdp", [1, 2])
def test_each_device_computes_its_own_rows(fsdp):
  mesh, x = make_mesh(jax.devices()[:8], fsdp), arrays(16, 12, 12, 32)[0] / 4
  attend = lambda q, k, v: interpreted(q, k, v, 4, PACKED[-12:], PACKED[-12:])
  loss = lambda x: jnp.mean(jnp.sin(looped(x, attend)))

  def on_mesh(x):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return jax.value_and_grad(loss)(x)

  placed = jax.device_put(x, NamedSharding(mesh, P(mesh.axis_names)))
  compiled = jax.jit(on_mesh).lower(placed).compile()
  assert not re.search("all-gather|all-to-all|collective-permute", compiled.as_text())
  for ours, alone in zip(compiled(placed), jax.jit(jax.value_and_grad(loss))(x)):
    np.testing.assert_allclose(ours, alone, atol=1e-6)


def test_errors_name_the_setting():
  x = jnp.zeros((8, 4, 96))
  with pytest.raises(ValueError, match="config.model.attention"):
    interpreted(x, x, x, 2)  # 48 lanes a head
  with pytest.raises(ValueError, match="segments_k"):
    interpreted(x, x, x, 3, segments_q=(0, 0, 1, 1))
  with jax.sharding.use_abstract_mesh(make_mesh(jax.devices()[:8]).abstract_mesh):
    with pytest.raises(ValueError, match="config.model.attention.*'cpu'"):
      attend_rows(x, x, x, 3)
