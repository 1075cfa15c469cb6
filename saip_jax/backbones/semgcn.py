"""Semantic graph convolutions: 2-D joints of a body -> a feature of each."""

from typing import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.nn import initializers

SKELETON: dict[str, str | None] = {
    "right_ankle": "right_knee", "right_knee": "right_hip", "right_hip": "right_shoulder", "left_hip": "left_shoulder",
    "left_knee": "left_hip", "left_ankle": "left_knee", "nose": None, "right_wrist": "right_elbow",
    "right_elbow": "right_shoulder", "right_shoulder": "nose", "left_shoulder": "nose", "left_elbow": "left_shoulder",
    "left_wrist": "left_elbow",
}
"""Joint -> the one that it hangs on; the 13 of COCO's 17 that HCMoCo keeps, in its order. The root is the nose."""


def edges_of(skeleton: Mapping[str, str | None]) -> np.ndarray:
  """Returns (E, 2) places of the two ends of every bone, in both directions, and of every joint with itself."""
  place = {joint: i for i, joint in enumerate(skeleton)}
  bones = [(place[joint], place[parent]) for joint, parent in skeleton.items() if parent is not None]
  return np.array(sorted({(i, i) for i in place.values()} | {*bones} | {(b, a) for a, b in bones}))


class SemGraphConv(nn.Module):
  """diag(A) x W0 + (A - diag(A)) x W1 + b, A being the row softmax of one learned number for each edge.

  Attributes:
    features: values of a joint that come out.
    edges: (E, 2) as tuples, see `edges_of`.
    dtype: computation dtype.
  """

  features: int
  edges: tuple[tuple[int, int], ...]
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    joints = x.shape[-2]
    rows, columns = np.array(self.edges).T
    logits = self.param("edges", initializers.ones, (len(rows),))
    shares = jax.nn.softmax(jnp.full((joints, joints), -jnp.inf).at[rows, columns].set(logits), axis=-1)
    own = jnp.diagonal(shares)[:, None].astype(self.dtype)
    others = jnp.where(np.eye(joints, dtype=bool), 0.0, shares).astype(self.dtype)
    linear = lambda name, bias: nn.Dense(
        self.features, use_bias=bias, dtype=self.dtype, kernel_init=initializers.xavier_uniform(), name=name)
    return own * linear("self", True)(x) + jnp.einsum("ij,...jd->...id", others, linear("neighbours", False)(x))


class SemGCN(nn.Module):
  """A graph convolution to `width`, residual blocks of two each, and a last one, on the skeleton of `SKELETON`.

  All but the last are followed by a batch norm over samples and joints and a ReLU. Running statistics are used and
  moved as in every `Backbone`.

  Attributes:
    width: D, of every layer.
    blocks: residual blocks.
    dtype: computation dtype.

  Source: Zhao et al. 2019, arXiv 1904.03345, without its non-local layers, as HCMoCo uses it.
  """

  width: int = 128
  blocks: int = 4
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, joints: jax.Array) -> jax.Array:
    """Encodes joints (B, J, 2), centred and scaled, zeros where unknown: (B, J, D)."""
    edges = tuple(map(tuple, edges_of(SKELETON).tolist()))
    moving = self.is_mutable_collection("batch_stats") and not self.is_initializing()

    def layer(x, name):
      x = SemGraphConv(self.width, edges, self.dtype, name=f"{name}_conv")(x)
      norm = nn.BatchNorm(use_running_average=not moving, momentum=0.9, dtype=self.dtype, name=f"{name}_norm")
      return nn.relu(norm(x))

    x = layer(joints.astype(self.dtype), "first")
    for i in range(self.blocks):
      x = x + layer(layer(x, f"blocks_{i}_1"), f"blocks_{i}_2")
    return SemGraphConv(self.width, edges, self.dtype, name="last_conv")(x)
