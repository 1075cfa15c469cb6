"""Pre-norm transformer blocks, stacked and scanned: one piece of code for the encoder and every decoder."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers

NORM_EPSILON = 1e-6


def uniform_initializer(low: float, high: float):
  """Returns an initialiser drawing from U[low, high)."""
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, low, high)


class Linear(nn.Module):
  """Dense layer with Xavier-uniform weights and zero bias, able to compute only some of its outputs.

  Attributes:
    features: outputs.
    dtype: computation dtype; parameters stay float32.
    uniform_bias: start the bias at U(+-1/sqrt(inputs)) instead of zero, as PyTorch does by default.
  """

  features: int
  dtype: jnp.dtype = jnp.float32
  uniform_bias: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, outputs: slice = slice(None)) -> jax.Array:
    kernel = self.param("kernel", initializers.xavier_uniform(), (x.shape[-1], self.features))
    bound = x.shape[-1] ** -0.5 if self.uniform_bias else 0.0
    bias = self.param("bias", uniform_initializer(-bound, bound), (self.features,))
    return x.astype(self.dtype) @ kernel[:, outputs].astype(self.dtype) + bias[outputs].astype(self.dtype)


def layer_norm(dtype) -> nn.LayerNorm:
  """Returns the layer norm used everywhere: epsilon 1e-6, statistics in float32."""
  return nn.LayerNorm(epsilon=NORM_EPSILON, dtype=dtype)


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


def mix(weights: jax.Array, v: jax.Array) -> jax.Array:
  """Returns weighted values: (B, heads, Lq, Lk) and (B, Lk, heads, d) -> (B, Lq, heads, d).

  `mix(attention_map(q, k), v)` is the attention used everywhere; on CPU `jax.nn.dot_product_attention` took
  twice its time.
  """
  return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)


class Mlp(nn.Module):
  """Linear, exact GELU, Linear, with a hidden layer four times as wide."""

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    hidden = jax.nn.gelu(Linear(4 * x.shape[-1], self.dtype, name="fc1")(x), approximate=False)
    return Linear(x.shape[-1], self.dtype, name="fc2")(hidden)


class Block(nn.Module):
  """Transformer block as in ViT: x + attention(norm(x)), then x + mlp(norm(x)).

  Attributes:
    width: D.
    heads: attention heads.
    dtype: computation dtype.
  """

  width: int
  heads: int
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.norm1, self.norm2 = layer_norm(self.dtype), layer_norm(self.dtype)
    self.qkv, self.proj = Linear(3 * self.width, self.dtype), Linear(self.width, self.dtype)
    self.mlp = Mlp(self.dtype)

  def _split(self, projected: jax.Array, parts: int) -> list[jax.Array]:
    batch, length, _ = projected.shape
    heads = projected.reshape(batch, length, parts, self.heads, self.width // self.heads)
    return [heads[:, :, i] for i in range(parts)]  # each (B, L, heads, d)

  def _finish(self, x: jax.Array, mixed: jax.Array) -> jax.Array:
    x = x + self.proj(mixed.reshape(x.shape))
    return x + self.mlp(self.norm2(x))

  def __call__(self, x: jax.Array, key_mask: jax.Array | None = None) -> jax.Array:
    """Args: x (B, L, D); key_mask (B, L) bool, False where a key is padding. Returns (B, L, D)."""
    q, k, v = self._split(self.qkv(self.norm1(x)), 3)
    return self._finish(x, mix(attention_map(q, k, key_mask), v))

  def read_first(self, x: jax.Array, key_mask: jax.Array | None = None) -> jax.Array:
    """Returns the first token's output alone, (B, D): query, projection and MLP are computed for no other."""
    y = self.norm1(x)
    (q,) = self._split(self.qkv(y[:, :1], slice(0, self.width)), 1)
    k, v = self._split(self.qkv(y, slice(self.width, None)), 2)
    return self._finish(x[:, :1], mix(attention_map(q, k, key_mask), v))[:, 0]

  def read_first_and_maps(self, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Returns the first token's output (B, D) and the query-key and value-value attention maps.

    The value-value map softmax(v v^T / sqrt(d)) is read by SAIP's matching; it mixes nothing.
    Both maps are (B, heads, L, L) float32.
    """
    q, k, v = self._split(self.qkv(self.norm1(x)), 3)
    query_key = attention_map(q, k)
    return self._finish(x[:, :1], mix(query_key[:, :, :1], v))[:, 0], (query_key, attention_map(v, v))


def init_stack(key: jax.Array, block: Block, depth: int):
  """Returns parameters of `depth` equal blocks, each leaf stacked along a leading axis."""
  tokens = jnp.zeros((1, 2, block.width))
  return jax.vmap(lambda k: block.init(k, tokens)["params"])(jax.random.split(key, depth))


def run_stack(
    block: Block, stacked, x: jax.Array, key_mask: jax.Array | None = None, *,
    start: int = 0, stop: int | None = None, unroll: bool = False,
) -> jax.Array:
  """Runs blocks start..stop-1 as one scan: compiles once, and on CPU runs faster than unrolled.

  Args:
    block: the (unbound) block.
    stacked: its parameters from `init_stack`.
    x: (B, L, D).
    key_mask: (B, L) bool, False where a key is padding.
    start: first block.
    stop: block to stop before; None for the last.
    unroll: write the blocks out; XLA's cost analysis counts the body of a scan once.
  """
  def body(x, params):
    return block.apply({"params": params}, x, key_mask), None

  return jax.lax.scan(body, x, jax.tree.map(lambda a: a[start:stop], stacked), unroll=unroll)[0]


def layer(stacked, index: int):
  """Returns the parameters of one block of a stack."""
  return jax.tree.map(lambda a: a[index], stacked)
