"""Pre-norm transformer blocks, stacked and scanned: one piece of code for the encoder and every decoder."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers

from saip_jax.backbones.rope import turn

NORM_EPSILON = 1e-6

# What the forward pass keeps of a block for the backward pass, which computes the rest again.
REMAT = {
  "none": jax.checkpoint_policies.everything_saveable,
  "light": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # products with weights, not attention
  "full": jax.checkpoint_policies.nothing_saveable,  # but its input
}

KeyMasks = Sequence[jax.Array | None] | None


def uniform_initializer(low: float, high: float):
  """Returns an initializer drawing from U[low, high)."""
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, low, high)


TOKENS = {
  "uniform": uniform_initializer(0.0, 1.0),  # as the published SAIP starts positions and mask tokens
  "normal": initializers.normal(0.02),
}
"""How learned positions and mask tokens start."""


WEIGHTS = {
  "xavier": initializers.xavier_uniform(),  # MAE's and SAIP's
  "normal": initializers.normal(0.02),  # DINO's: its cut, at 100 standard deviations, cuts nothing
}
"""How the kernels of linear layers start."""

TORCH_DEFAULT = initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for kernels of linear layers and convolutions, U(+-1 / sqrt(fan in))."""


def in_parts(init: initializers.Initializer, parts: int) -> initializers.Initializer:
  """Returns an initializer of kernels (C, parts * D) that draws each (C, D) as the kernel of a layer of its own."""

  def draw(key, shape, dtype=jnp.float32):
    inputs, features = shape
    drawn = [init(k, (inputs, features // parts), dtype) for k in jax.random.split(key, parts)]
    return jnp.concatenate(drawn, axis=1)

  return draw


class Linear(nn.Module):
  """Dense layer with Xavier-uniform weights and zero bias, able to compute only some of its outputs.

  Attributes:
    features: outputs.
    dtype: computation dtype; parameters stay float32.
    uniform_bias: start the bias at U(+-1/sqrt(inputs)) instead of zero, as PyTorch does by default.
    kernel_init: of the kernel (inputs, features).
  """

  features: int
  dtype: jnp.dtype = jnp.float32
  uniform_bias: bool = False
  kernel_init: initializers.Initializer = WEIGHTS["xavier"]

  @nn.compact
  def __call__(self, x: jax.Array, outputs: slice = slice(None)) -> jax.Array:
    kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
    bound = x.shape[-1] ** -0.5 if self.uniform_bias else 0.0
    bias = self.param("bias", uniform_initializer(-bound, bound), (self.features,))
    return x.astype(self.dtype) @ kernel[:, outputs].astype(self.dtype) + bias[outputs].astype(self.dtype)


def layer_norm(dtype) -> nn.LayerNorm:
  """Returns the layer norm used everywhere: epsilon 1e-6, statistics in float32."""
  return nn.LayerNorm(epsilon=NORM_EPSILON, dtype=dtype)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
  """Returns x * Phi(x), the exact GELU, computed in float32 and given in x's type.

  Its gradient is computed from x again: what automatic differentiation would keep is float32 and larger than x.
  """
  return (x.astype(jnp.float32) * _normal_cdf(x)).astype(x.dtype)


def _normal_cdf(x: jax.Array) -> jax.Array:
  return 0.5 + 0.5 * jax.lax.erf(x.astype(jnp.float32) * 0.5**0.5)


def _gelu_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
  wide = x.astype(jnp.float32)
  density = jnp.exp(-0.5 * wide * wide) * (2 * jnp.pi) ** -0.5
  return ((gradient.astype(jnp.float32) * (_normal_cdf(x) + wide * density)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


@dataclasses.dataclass(frozen=True)
class Packing:
  """Sequences of several lengths in one row of tokens, so that all go through one layer together.

  Only attention knows where one sequence ends. One body of code for all views compiles several times faster than
  one for each length, and its matrix products are larger.

  Attributes:
    groups: (sequences, tokens of each) in their order along the row.
  """

  groups: tuple[tuple[int, int], ...]

  def split(self, x: jax.Array) -> list[jax.Array]:
    """Returns one array (B * sequences, tokens, ...) per group of x (B, L, ...)."""
    return [part.reshape(-1, tokens, *x.shape[2:]) for (_, tokens), part in zip(self.groups, self._parts(x))]

  def join(self, parts: Sequence[jax.Array]) -> jax.Array:
    """Inverse of `split`; the sequences may have another length than before, the same for all of a group."""
    rows = [part.reshape(-1, count * part.shape[1], *part.shape[2:]) for (count, _), part in zip(self.groups, parts)]
    return rows[0] if len(rows) == 1 else jnp.concatenate(rows, axis=1)

  def _parts(self, x: jax.Array) -> list[jax.Array]:
    stops = [0]
    for count, tokens in self.groups:
      stops.append(stops[-1] + count * tokens)
    assert stops[-1] == x.shape[1], f"{self.groups} does not cover {x.shape[1]} tokens"
    return [x[:, start:stop] for start, stop in zip(stops, stops[1:])]

  def merged(self, batch: int, key_masks: "KeyMasks") -> tuple["Packing", "KeyMasks"]:
    """Returns the same with neighboring groups of one length as one group: less to compile."""
    groups, masks = [], []
    for (count, tokens), mask in zip(self.groups, key_masks or [None] * len(self.groups), strict=True):
      if not (groups and groups[-1][1] == tokens):
        groups.append((count, tokens))
        masks.append(mask)
        continue
      before = groups[-1][0]
      if not (masks[-1] is None and mask is None):
        whole = lambda m, n: jnp.ones((batch, n, tokens), bool) if m is None else m.reshape(batch, n, tokens)
        masks[-1] = jnp.concatenate([whole(masks[-1], before), whole(mask, count)], axis=1).reshape(-1, tokens)
      groups[-1] = before + count, tokens
    return Packing(tuple(groups)), masks

  def firsts(self, x: jax.Array) -> jax.Array:
    """Returns the first token of each sequence: (B, L, D) -> (B, sequences, D)."""
    return self.join([part[:, :1] for part in self.split(x)])


def attention_map(q: jax.Array, k: jax.Array, key_mask: jax.Array | None = None) -> jax.Array:
  """Returns softmax(q k^T / sqrt(d)) in float32.

  Args:
    q: (B, Lq, heads, d).
    k: (B, Lk, heads, d).
    key_mask: (B, Lk) bool, False where a key is padding.

  Returns:
    (B, heads, Lq, Lk).
  """
  logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
  if key_mask is not None:
    logits = jnp.where(key_mask[:, None, None, :], logits, jnp.finfo(jnp.float32).min)
  return jax.nn.softmax(logits, axis=-1)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, key_mask: jax.Array | None = None) -> jax.Array:
  """Returns attention (B, Lq, heads, d); arguments as in `attention_map`, v (B, Lk, heads, d).

  Logits are kept in the type of q, the softmax is computed in float32: in bfloat16 half the bytes of the largest
  arrays there are. On CPU `jax.nn.dot_product_attention` took twice the time.
  """
  logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
  if key_mask is not None:
    logits = jnp.where(key_mask[:, None, None, :], logits, jnp.finfo(logits.dtype).min)
  return mix(jax.nn.softmax(logits.astype(jnp.float32), axis=-1), v)


def mix(weights: jax.Array, v: jax.Array) -> jax.Array:
  """Returns weighted values: (B, heads, Lq, Lk) and (B, Lk, heads, d) -> (B, Lq, heads, d)."""
  return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)


class Mlp(nn.Module):
  """Linear, exact GELU, Linear, with a hidden layer four times as wide.

  Attributes:
    dtype: computation dtype.
    weights: how its kernels start, a key of `WEIGHTS`.
  """

  dtype: jnp.dtype = jnp.float32
  weights: str = "xavier"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    linear = lambda features, name: Linear(features, self.dtype, kernel_init=WEIGHTS[self.weights], name=name)
    return linear(x.shape[-1], "fc2")(gelu(linear(4 * x.shape[-1], "fc1")(x)))


class Block(nn.Module):
  """Transformer block as in ViT: x + attention(norm(x)), then x + mlp(norm(x)).

  Attributes:
    width: D.
    heads: attention heads.
    dtype: computation dtype.
    weights: how its kernels start, a key of `WEIGHTS`.
  """

  width: int
  heads: int
  dtype: jnp.dtype = jnp.float32
  weights: str = "xavier"

  def setup(self):
    self.norm1, self.norm2 = layer_norm(self.dtype), layer_norm(self.dtype)
    linear = lambda features: Linear(features, self.dtype, kernel_init=WEIGHTS[self.weights])
    self.qkv, self.proj = linear(3 * self.width), linear(self.width)
    self.mlp = Mlp(self.dtype, self.weights)

  def _split(self, projected: jax.Array, parts: int) -> list[jax.Array]:
    batch, length, _ = projected.shape
    split = jnp.split(projected, parts, axis=-1)
    return [part.reshape(batch, length, self.heads, self.width // self.heads) for part in split]

  def _finish(self, x: jax.Array, mixed: jax.Array) -> jax.Array:
    x = x + self.proj(mixed.reshape(x.shape))
    return x + self.mlp(self.norm2(x))

  def __call__(
    self, x: jax.Array, packing: Packing | None = None, key_masks: KeyMasks = None, angles: jax.Array | None = None
  ) -> jax.Array:
    """Computes the block.

    Args:
      x: (B, L, D).
      packing: the sequences of a row; None for one.
      key_masks: for each group None or (B * sequences, tokens) bool, False where a key is padding; None for no mask.
      angles: (B or 1, L, d / 2) that queries and keys are turned by, see `rope.turn`; None for no rotary positions.

    Returns:
      (B, L, D).
    """
    packing, key_masks = _defaults(x, packing, key_masks)
    q, k, v = self._split(self.qkv(self.norm1(x)), 3)
    groups = zip(*map(packing.split, (turn(q, angles), turn(k, angles), v)), key_masks, strict=True)
    return self._finish(x, packing.join([attend(q, k, v, mask) for q, k, v, mask in groups]))

  def read_first(
    self,
    x: jax.Array,
    packing: Packing | None = None,
    key_masks: KeyMasks = None,
    maps_of: int | None = None,
    angles: jax.Array | None = None,
  ) -> tuple[jax.Array, tuple[jax.Array, jax.Array] | None]:
    """Computes the first token of each sequence alone: projection and MLP for no other, queries if maps want them.

    Args:
      x: (B, L, D).
      packing: as in `__call__`.
      key_masks: as in `__call__`.
      maps_of: the group whose attention maps are wanted.
      angles: as in `__call__`.

    Returns:
      The first tokens' outputs (B, sequences, D), and None or the group's query-key and value-value maps, each
      (B * sequences, heads, tokens, tokens) float32. The value-value map softmax(v v^T / sqrt(d)) is read by SAIP's
      matching; it mixes nothing.
    """
    packing, key_masks = _defaults(x, packing, key_masks)
    y = self.norm1(x)
    k, v = self._split(self.qkv(y, slice(self.width, None)), 2)
    k, v = packing.split(turn(k, angles)), packing.split(v)
    asking = lambda row: [part if i == maps_of else part[:, :1] for i, part in enumerate(packing.split(row))]
    asked = Packing(tuple((count, part.shape[1]) for (count, _), part in zip(packing.groups, asking(y))))
    (q,) = self._split(self.qkv(packing.join(asking(y)), slice(0, self.width)), 1)
    q = turn(q, None if angles is None else packing.join(asking(angles)))
    weights = [attention_map(*args) for args in zip(asked.split(q), k, key_masks, strict=True)]
    maps = None if maps_of is None else (weights[maps_of], attention_map(v[maps_of], v[maps_of], key_masks[maps_of]))
    mixed = packing.join([mix(w[:, :, :1], values) for w, values in zip(weights, v)])
    return self._finish(packing.firsts(x), mixed), maps


def _defaults(x: jax.Array, packing: Packing | None, key_masks: KeyMasks) -> tuple[Packing, KeyMasks]:
  packing = packing or Packing(((1, x.shape[1]),))
  return packing, key_masks or (None,) * len(packing.groups)


def init_stack(key: jax.Array, block: nn.Module, depth: int, inputs: int = 1):
  """Returns parameters of `depth` equal blocks, each leaf stacked along a leading axis.

  Args:
    key: random key.
    block: the (unbound) block, of attribute `width`.
    depth: how many.
    inputs: arrays of tokens that it takes.
  """
  tokens = jnp.zeros((1, 2, block.width))
  return jax.vmap(lambda k: block.init(k, *[tokens] * inputs)["params"])(jax.random.split(key, depth))


def scan_blocks(
  apply: Callable,
  stacked,
  x: jax.Array,
  *,
  start: int = 0,
  stop: int | None = None,
  unroll: bool = False,
  remat: str = "none",
) -> jax.Array:
  """Runs blocks start..stop-1 as one scan: compiles once, and on CPU runs faster than unrolled.

  Args:
    apply: (parameters of a block, x) -> x.
    stacked: parameters from `init_stack`.
    x: what goes through them.
    start: first block.
    stop: block to stop before; None for the last.
    unroll: write the blocks out; XLA's cost analysis counts the body of a scan once.
    remat: a key of `REMAT`.
  """
  body = lambda x, params: (apply(params, x), None)
  if remat != "none":
    body = jax.checkpoint(body, policy=REMAT[remat], prevent_cse=unroll)
  return jax.lax.scan(body, x, jax.tree.map(lambda a: a[start:stop], stacked), unroll=unroll)[0]


def run_stack(
  block: Block,
  stacked,
  x: jax.Array,
  packing: Packing | None = None,
  key_masks: KeyMasks = None,
  angles: jax.Array | None = None,
  **options,
) -> jax.Array:
  """Runs a stack of `Block`s over packed sequences.

  Args:
    block: the (unbound) block.
    stacked: its parameters from `init_stack`.
    x: (B, L, D).
    packing: see `Block`.
    key_masks: see `Block`.
    angles: see `Block`.
    **options: of `scan_blocks`.
  """
  if packing is not None:
    packing, key_masks = packing.merged(len(x), key_masks)
  apply = lambda params, x: block.apply({"params": params}, x, packing, key_masks, angles)
  return scan_blocks(apply, stacked, x, **options)


def layer(stacked, index: int):
  """Returns the parameters of one block of a stack."""
  return jax.tree.map(lambda a: a[index], stacked)
