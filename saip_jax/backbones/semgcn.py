"""Semantic graph convolutions: 2-D joints of a body -> a feature of each."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.nn import initializers

from saip_jax.backbones.batch_norm import batch_norm
from saip_jax.backbones.initial_values import uniform_initializer

SKELETON: dict[str, str | None] = {
  "right_ankle": "right_knee",
  "right_knee": "right_hip",
  "right_hip": "right_shoulder",
  "left_hip": "left_shoulder",
  "left_knee": "left_hip",
  "left_ankle": "left_knee",
  "nose": None,
  "right_wrist": "right_elbow",
  "right_elbow": "right_shoulder",
  "right_shoulder": "nose",
  "left_shoulder": "nose",
  "left_elbow": "left_shoulder",
  "left_wrist": "left_elbow",
}
"""Joint -> the one that it hangs on; the 13 of COCO's 17 that HCMoCo keeps, in its order. The root is the nose."""


def edges_of(skeleton: Mapping[str, str | None]) -> np.ndarray:
  """Returns (E, 2) places of the two ends of every bone, in both directions, and of every joint with itself."""
  place = {joint: i for i, joint in enumerate(skeleton)}
  bones = [(place[joint], place[parent]) for joint, parent in skeleton.items() if parent is not None]
  return np.array(sorted({(i, i) for i in place.values()} | {*bones} | {(b, a) for a, b in bones}))


def _kernel_init(key: jax.Array, shape: tuple[int, int, int], dtype=jnp.float32) -> jax.Array:
  """Draws U(+-b) for both kernels (2, C, D), b = sqrt(2) sqrt(6 / (D C + 2 D)), as the published code does.

  PyTorch's `xavier_uniform_` with a gain of 1.414, given both kernels as one tensor, takes them for a convolution of D
  taps from C channels to 2. All layers but the last are followed by a batch norm, to which the scale does not matter.
  """
  _, inputs, features = shape
  bound = 1.414 * (6 / (features * (inputs + 2))) ** 0.5
  return jax.random.uniform(key, shape, dtype, -bound, bound)


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
    kernel = self.param("kernel", _kernel_init, (2, x.shape[-1], self.features)).astype(self.dtype)
    bound = self.features**-0.5
    bias = self.param("bias", uniform_initializer(-bound, bound), (self.features,)).astype(self.dtype)
    x = x.astype(self.dtype)
    return own * (x @ kernel[0]) + jnp.einsum("ij,...jd->...id", others, x @ kernel[1]) + bias


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
    """Encodes joints (B, J, 2), centered and scaled, zeros where unknown: (B, J, D)."""
    edges = tuple(map(tuple, edges_of(SKELETON).tolist()))

    def layer(x, name):
      x = SemGraphConv(self.width, edges, self.dtype, name=f"{name}_conv")(x)
      return nn.relu(batch_norm(self, self.dtype, name=f"{name}_norm")(x))

    x = layer(joints.astype(self.dtype), "first")
    for i in range(self.blocks):
      x = x + layer(layer(x, f"blocks_{i}_1"), f"blocks_{i}_2")
    return SemGraphConv(self.width, edges, self.dtype, name="last_conv")(x)
