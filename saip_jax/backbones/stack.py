"""Equal blocks with stacked parameters, run as one scan."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from saip_jax.backbones.attention import SAVED
from saip_jax.backbones.block import Block
from saip_jax.backbones.packing import KeyMasks, Packing

REMAT = {
  "light": jax.checkpoint_policies.save_only_these_names(*SAVED),  # what goes into attention and comes out of it
  "full": jax.checkpoint_policies.nothing_saveable,  # except the input of the block
}
"""What the forward pass saves of a transformer block for the backward pass, which recomputes the rest."""


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
  apply: Callable, stacked, x, *, start: int = 0, stop: int | None = None, unroll: bool = False, remat: str = "none"
):
  """Runs blocks start..stop-1 as one scan, which compiles one block.

  Args:
    apply: (parameters of a block, x) -> x.
    stacked: parameters from `init_stack`.
    x: input of the first block, an array or a tree of arrays.
    start: first block.
    stop: block to stop before; None for the end.
    unroll: unroll the scan, see `RunConfig.unroll`; XLA's cost analysis counts the body of a scan once.
    remat: a key of `REMAT`, or "none".
  """
  body = lambda x, params: (apply(params, x), None)
  if remat != "none":
    body = jax.checkpoint(body, policy=REMAT[remat], prevent_cse=unroll)
  return jax.lax.scan(body, x, jax.tree.map(lambda a: a[start:stop], stacked), unroll=unroll)[0]


def run_stack(
  block: Block,
  stacked,
  arrays: Sequence[jax.Array],
  packing: Packing,
  key_masks: KeyMasks = None,
  angles: Sequence[jax.Array] | None = None,
  **options,
) -> tuple[jax.Array, ...]:
  """Runs a stack of `Block`s over packed sequences.

  Args:
    block: the (unbound) block.
    stacked: its parameters from `init_stack`.
    arrays: rows (B, L, D) of each layout, from `Packing.join`.
    packing: their layouts.
    key_masks: from `Packing.join_masks`; None for no mask.
    angles: of each array, see `Block`; None for no rotary positions.
    **options: options of `scan_blocks`.
  """
  arguments = _arguments(packing, key_masks, angles)
  apply = lambda params, xs: tuple(block.apply({"params": params}, x, *each) for x, each in zip(xs, arguments))
  return scan_blocks(apply, stacked, tuple(arrays), **options)


def read_firsts(
  block: Block,
  params,
  arrays: Sequence[jax.Array],
  packing: Packing,
  key_masks: KeyMasks = None,
  angles: Sequence[jax.Array] | None = None,
) -> list[jax.Array]:
  """Returns the first tokens (B * sequences, D) of each group after a last block, see `Block.read_first`.

  Args:
    block: the (unbound) block.
    params: its parameters.
    arrays: as in `run_stack`.
    packing: as in `run_stack`.
    key_masks: as in `run_stack`.
    angles: as in `run_stack`.
  """
  run = lambda *args: block.apply({"params": params}, *args, method=Block.read_first)
  return packing.split_firsts([run(x, *each) for x, each in zip(arrays, _arguments(packing, key_masks, angles))])


def _arguments(packing: Packing, key_masks: KeyMasks, angles: Sequence[jax.Array] | None) -> list[tuple]:
  """Returns key mask, angles and lengths of each array, see `Block`."""
  nones = [None] * len(packing.rows)
  return list(zip(key_masks or nones, angles or nones, [rows.lengths for rows in packing.rows], strict=True))


def layer(stacked, index: int):
  """Returns the parameters of one block of a stack."""
  return jax.tree.map(lambda a: a[index], stacked)
