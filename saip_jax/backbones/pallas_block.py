"""A whole transformer block as two Pallas TPU kernels: between its input and its output nothing leaves fast memory."""

import functools

import jax
import jax.numpy as jnp

from saip_jax.backbones.linear import NORM_EPSILON
from saip_jax.backbones.pallas_attention import check_heads
from saip_jax.backbones.pallas_kernels import Heads, backward_group, forward_group, product, rows_rows
from saip_jax.backbones.pallas_rows import Arrays, as_rows, run_rows, together

_HIDDEN_LANES = 256
"""The hidden layer of the MLP is computed in parts of this width, so that it stays near the registers."""
_NAMES = (
  *("norm1_scale", "norm1_bias", "q", "k", "v", "q_bias", "k_bias", "v_bias", "proj", "proj_bias"),
  *("norm2_scale", "norm2_bias", "fc1", "fc1_bias", "fc2", "fc2_bias"),
)


def block_rows(params, x: jax.Array, heads: int, segments=None, interpret: bool = False) -> jax.Array:
  """Returns a `block.Block` of rows: x + attention(norm(x)), then x + mlp(norm(x)).

  The backward pass keeps x alone and recomputes the rest.

  Args:
    params: of a `Block`; products are computed in the dtype of x.
    x: (B, L, width).
    heads: number of heads.
    segments: as in `pallas_attention.attend_rows`, of queries and keys.
    interpret: as in `attend_rows`.

  Returns:
    (B, L, width).

  Raises:
    ValueError: widths do not fit, or the devices of the mesh are not TPUs.
  """
  check_heads(heads, x.shape[-1])
  segments = None if segments is None else as_rows(segments)
  return _block(_as_weights(params, x.dtype), x, segments, heads, interpret)


def fits(width: int, norm_eps: float = NORM_EPSILON) -> bool:
  """Returns whether the kernels compute a block without rotary positions, LayerScale and biases left out.

  Its weights and their gradients must fit into fast memory, and its norms have the one epsilon that is compiled in.
  """
  return width <= 512 and norm_eps == NORM_EPSILON


def _as_weights(params, dtype) -> tuple[jax.Array, ...]:
  """Returns the weights in the order of `_NAMES`: matrices in the dtype of products, the others (1, n) float32."""
  rows = lambda a: a.astype(jnp.float32)[None]
  kernels = jnp.split(params["qkv"]["kernel"], 3, axis=1)
  biases = jnp.split(params["qkv"]["bias"], 3)
  linear = lambda layer: (layer["kernel"].astype(dtype), rows(layer["bias"]))
  norm = lambda layer: (rows(layer["scale"]), rows(layer["bias"]))
  return (
    *norm(params["norm1"]),
    *(kernel.astype(dtype) for kernel in kernels),
    *map(rows, biases),
    *linear(params["proj"]),
    *norm(params["norm2"]),
    *linear(params["mlp"]["fc1"]),
    *linear(params["mlp"]["fc2"]),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _block(weights, x, segments, heads, interpret):
  return _block_forward(weights, x, segments, heads, interpret)[0]


def _block_forward(weights, x, segments, heads, interpret):
  both = () if segments is None else (segments, segments)
  group = functools.partial(_forward_rows, Heads(heads, x.shape[2]))
  arrays = Arrays((x,), (x,), weights, scratch=_scratch(x, 4, heads), segments=both)
  (out,) = run_rows(group, arrays, heads, interpret, "block_forward")
  return out, (weights, x, segments)


def _block_backward(heads, interpret, residuals, dout):
  weights, x, segments = residuals
  both = () if segments is None else (segments, segments)
  group = functools.partial(_backward_rows, Heads(heads, x.shape[2]))
  turned = lambda name, a: a.T if name == "fc2" else a  # the kernel adds up its transpose, which is cheaper
  sums = [jax.ShapeDtypeStruct(turned(*item).shape, jnp.float32) for item in zip(_NAMES, weights)]
  arrays = Arrays((x, dout), (x,), weights, sums, _scratch(x, 9, heads), both)
  dx, *gradients = run_rows(group, arrays, heads, interpret, "block_backward")
  gradients = map(turned, _NAMES, gradients)
  return tuple(g.astype(w.dtype) for g, w in zip(gradients, weights)), dx, None


_block.defvjp(_block_forward, _block_backward)


def _scratch(x, tokens: int, heads: int):
  """Returns the log-sum-exp and a number of arrays of tokens, of the rows that are computed together."""
  lse = jax.ShapeDtypeStruct((together(heads), heads, x.shape[1]), jnp.float32)
  return [lse] + [jax.ShapeDtypeStruct((together(heads), *x.shape[1:]), x.dtype)] * tokens


def _normalize(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns (x - mean) / deviation and 1 / deviation, float32."""
  x = x.astype(jnp.float32)
  centered = x - jnp.mean(x, axis=1, keepdims=True)
  inverse = jax.lax.rsqrt(jnp.mean(centered * centered, axis=1, keepdims=True) + NORM_EPSILON)
  return centered * inverse, inverse


def _normalize_backward(gradient: jax.Array, normal: jax.Array, inverse: jax.Array) -> jax.Array:
  along = jnp.mean(gradient * normal, axis=1, keepdims=True)
  return inverse * (gradient - jnp.mean(gradient, axis=1, keepdims=True) - normal * along)


def _hidden_parts(width: int):
  """Yields the lanes of each part of the hidden layer."""
  for start in range(0, width, _HIDDEN_LANES):
    yield slice(start, min(start + _HIDDEN_LANES, width))


def _normal_cdf(x: jax.Array) -> jax.Array:
  return 0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5)


def _attention_half(rows, masks, heads, w, x_ref, scratch) -> list[jax.Array]:
  """Returns x + attention(norm(x)) of some rows, float32; fills the scratch, where the normed x may be kept."""
  lse_ref, q_ref, k_ref, v_ref, mixed_ref, *normed_ref = scratch
  for place, row in enumerate(rows):
    normal, _ = _normalize(x_ref[row])
    y = (normal * w["norm1_scale"][...] + w["norm1_bias"][...]).astype(x_ref.dtype)
    for ref in normed_ref:
      ref[place] = y
    for name, ref in zip("qkv", (q_ref, k_ref, v_ref)):
      ref[place] = (product(y, w[name][...]) + w[f"{name}_bias"][...]).astype(ref.dtype)
  forward_group(range(len(rows)), masks, heads, q_ref, k_ref, v_ref, mixed_ref, lse_ref)
  project = lambda place: product(mixed_ref[place], w["proj"][...]) + w["proj_bias"][...]
  return [x_ref[row].astype(jnp.float32) + project(place) for place, row in enumerate(rows)]


def _forward_rows(heads: Heads, rows, masks, *refs) -> None:
  """Computes the block of some rows."""
  w, (x_ref, out_ref, *scratch) = dict(zip(_NAMES, refs)), refs[len(_NAMES) :]
  for row, x in zip(rows, _attention_half(rows, masks, heads, w, x_ref, scratch)):
    normal, _ = _normalize(x)
    y = (normal * w["norm2_scale"][...] + w["norm2_bias"][...]).astype(x_ref.dtype)
    x = x + w["fc2_bias"][...]
    for lanes in _hidden_parts(w["fc1"].shape[1]):
      hidden = product(y, w["fc1"][:, lanes]) + w["fc1_bias"][:, lanes]
      x = x + product((hidden * _normal_cdf(hidden)).astype(y.dtype), w["fc2"][lanes])
    out_ref[row] = x.astype(out_ref.dtype)


def _backward_rows(heads: Heads, rows, masks, *refs) -> None:
  """Computes the gradient of the input of some rows, and adds theirs to those of the weights."""
  count = len(_NAMES)
  w, (x_ref, dout_ref, dx_ref), grads = (
    dict(zip(_NAMES, refs)),
    refs[count : count + 3],
    refs[count + 3 : 2 * count + 3],
  )
  grads, scratch = dict(zip(_NAMES, grads)), refs[2 * count + 3 :]
  (lse_ref, q_ref, k_ref, v_ref, mixed_ref, normed_ref), gradient_refs = scratch[:6], scratch[6:]
  dmixed_ref, *dqkv_refs = gradient_refs

  middles = _attention_half(rows, masks, heads, w, x_ref, scratch[:6])
  for place, (row, x) in enumerate(zip(rows, middles)):
    dx = _mlp_backward(x, dout_ref[row], w, grads)
    _add(grads["proj_bias"], _over_tokens(dx))
    dx_ref[row] = dx = dx.astype(dx_ref.dtype)
    dmixed_ref[place] = rows_rows(dx, w["proj"][...]).astype(dx.dtype)
    _add(grads["proj"], product(mixed_ref[place].T, dx))
  backward_group(range(len(rows)), masks, heads, q_ref, k_ref, v_ref, lse_ref, dmixed_ref, *dqkv_refs)
  for place, row in enumerate(rows):
    dy, y = 0.0, normed_ref[place].T
    for name, ref in zip("qkv", dqkv_refs):
      gradient = ref[place]
      dy = dy + rows_rows(gradient, w[name][...])
      _add(grads[name], product(y, gradient))
      _add(grads[f"{name}_bias"], _over_tokens(gradient.astype(jnp.float32)))
    normal, inverse = _normalize(x_ref[row])
    dx = _norm_backward(dy, normal, inverse, "norm1", w, grads)
    dx_ref[row] = (dx_ref[row].astype(jnp.float32) + dx).astype(dx_ref.dtype)


def _mlp_backward(x: jax.Array, dout: jax.Array, w, grads) -> jax.Array:
  """Returns the gradient of x, float32, where the output is x + mlp(norm(x)); adds to those of the weights."""
  normal, inverse = _normalize(x)
  y = (normal * w["norm2_scale"][...] + w["norm2_bias"][...]).astype(dout.dtype)
  y_turned, dout_turned, dy = y.T, dout.T, 0.0
  for lanes in _hidden_parts(w["fc1"].shape[1]):
    hidden = product(y, w["fc1"][:, lanes]) + w["fc1_bias"][:, lanes]
    below = _normal_cdf(hidden)
    slope = below + hidden * jnp.exp(-0.5 * hidden * hidden) * (2 * jnp.pi) ** -0.5
    dhidden = rows_rows(dout, w["fc2"][lanes]) * slope
    _add(grads["fc1_bias"], _over_tokens(dhidden), lanes)
    dhidden = dhidden.astype(y.dtype)
    _add(grads["fc2"], product(dout_turned, (hidden * below).astype(y.dtype)), lanes)
    _add(grads["fc1"], product(y_turned, dhidden), lanes)
    dy = dy + rows_rows(dhidden, w["fc1"][:, lanes])
  wide = dout.astype(jnp.float32)
  _add(grads["fc2_bias"], _over_tokens(wide))
  return wide + _norm_backward(dy, normal, inverse, "norm2", w, grads)


def _norm_backward(gradient, normal, inverse, name: str, w, grads) -> jax.Array:
  """Returns the gradient of the input of a layer norm; adds to those of its weights."""
  _add(grads[f"{name}_scale"], _over_tokens(gradient * normal))
  _add(grads[f"{name}_bias"], _over_tokens(gradient))
  return _normalize_backward(gradient * w[f"{name}_scale"][...], normal, inverse)


def _over_tokens(x: jax.Array) -> jax.Array:
  return jnp.sum(x, axis=0, keepdims=True)


def _add(ref, gradient: jax.Array, lanes: slice = slice(None)) -> None:
  ref[:, lanes] = ref[:, lanes] + gradient
