"""Equal blocks with stacked parameters, run as one scan."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.block import Block
from saip_jax.backbones.packing import KeyMasks, Packing
from saip_jax.backbones.pallas_block import as_rows_of, block_rows, from_rows_of

REMAT = {
  "none": jax.checkpoint_policies.everything_saveable,
  "light": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # products with weights, not attention
  "full": jax.checkpoint_policies.nothing_saveable,  # except the input of the block
}
"""What the forward pass saves of a block for the backward pass, which recomputes the rest."""


def init_stack(key: jax.Array, block: nn.Module, depth: int, inputs: int = 1):
  """Returns parameters of `depth` equal blocks, each leaf stacked along a leading axis.

  Args:
    key: random key.
    block: the (unbound) block, with an attribute `width`.
    depth: number of blocks.
    inputs: number of token arrays that the block takes.
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
  """Runs blocks start..stop-1 as one scan, which compiles one block and on CPU runs faster than unrolled.

  Args:
    apply: (parameters of a block, x) -> x.
    stacked: parameters from `init_stack`.
    x: input of the first block.
    start: first block.
    stop: block to stop before; None for the end.
    unroll: unroll the scan; XLA's cost analysis counts the body of a scan once.
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
    **options: options of `scan_blocks`.
  """
  if packing is not None:
    packing, key_masks = packing.merged(len(x), key_masks)
    if block.is_kernel(angles):  # rows of each length go through all blocks by themselves
      rows, segments = as_rows_of(packing, x, key_masks)
      each = lambda params, rows: [block_rows(params, row, block.heads, own) for row, own in zip(rows, segments)]
      return from_rows_of(packing, scan_blocks(each, stacked, rows, **options))
  apply = lambda params, x: block.apply({"params": params}, x, packing, key_masks, angles)
  return scan_blocks(apply, stacked, x, **options)


def layer(stacked, index: int):
  """Returns the parameters of one block of a stack."""
  return jax.tree.map(lambda a: a[index], stacked)
