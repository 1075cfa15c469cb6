"""Semantic graph convolutions: encode the 2-D joints of a body, one feature vector per joint."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.nn import initializers

from saip_jax.backbones.batch_norm import make_batch_norm
from saip_jax.backbones.initial_values import uniform_initializer

JOINT_PARENTS: dict[str, str | None] = {
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
"""Joint -> its parent, for the 13 of COCO's 17 joints that HCMoCo uses, in its order. The root is the nose."""


def edges_of(skeleton: Mapping[str, str | None]) -> np.ndarray:
  """Returns (E, 2) int, the joint indices of every bone, in both directions, and of a self-loop of every joint."""
  index = {joint: i for i, joint in enumerate(skeleton)}
  bones = [(index[joint], index[parent]) for joint, parent in skeleton.items() if parent is not None]
  return np.array(sorted({(i, i) for i in index.values()} | {*bones} | {(b, a) for a, b in bones}))


def _kernel_init(key: jax.Array, shape: tuple[int, int, int], dtype=jnp.float32) -> jax.Array:
  """Draws U(+-b) for both kernels (2, C, D), b = sqrt(2) sqrt(6 / (D C + 2 D)), as the published code does.

  PyTorch's `xavier_uniform_` with a gain of 1.414 reads both kernels, stored as one tensor, as a convolution of D taps
  from C channels to 2. A batch norm follows all layers but the last, where the scale has no effect.
  """
  _, inputs, features = shape
  bound = 1.414 * (6 / (features * (inputs + 2))) ** 0.5
  return jax.random.uniform(key, shape, dtype, -bound, bound)


class SemGraphConv(nn.Module):
  """Graph convolution diag(A) x W0 + (A - diag(A)) x W1 + b; A is the row softmax of one learned logit per edge.

  Attributes:
    features: number of outputs per joint.
    edges: E pairs, see `edges_of`.
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
  """Graph network on the skeleton of `JOINT_PARENTS`: a graph convolution, residual blocks of two, and a last one.

  A batch norm over samples and joints and a ReLU follow all graph convolutions but the last. For running statistics see
  `Backbone`.

  Attributes:
    width: D, the outputs of every layer.
    blocks: number of residual blocks.
    dtype: computation dtype.

  Source: Zhao et al. 2019, arXiv 1904.03345, without its non-local layers, as in HCMoCo.
  """

  width: int = 128
  blocks: int = 4
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, joints: jax.Array) -> jax.Array:
    """Encodes joints (B, J, 2), centered and scaled, unknown ones zero -> (B, J, D)."""
    edges = tuple(map(tuple, edges_of(JOINT_PARENTS).tolist()))

    def layer(x, name):
      x = SemGraphConv(self.width, edges, self.dtype, name=f"{name}_conv")(x)
      return nn.relu(make_batch_norm(self, self.dtype, name=f"{name}_norm")(x))

    x = layer(joints.astype(self.dtype), "first")
    for i in range(self.blocks):
      x = x + layer(layer(x, f"blocks_{i}_1"), f"blocks_{i}_2")
    return SemGraphConv(self.width, edges, self.dtype, name="last_conv")(x)
