"""A frozen expert of SAIP: a foreign encoder that the student is aligned to, or that teaches CSM and CSS."""

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saip_jax.backbones.features import Backbone, Features, Views
from saip_jax.backbones.vit import ViT
from saip_jax.methods.saip.config import SaipConfig
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD
from saip_jax.views.rescaling import rescale_antialiased


@dataclasses.dataclass(frozen=True)
class Expert:
  """A frozen encoder.

  Its weights are no part of checkpoints: a run opens them again and checks that they are the same.

  Attributes:
    module: the encoder.
    view_hw: size of a global view, pixels.
    expert_hw: size at which the expert sees it.
    mean: mean of each channel that its input is normalized with, for pixels from 0 to 1.
    std: standard deviation of each channel, likewise.
    sha256: SHA-256 of its weights.
    variables: its variables, numpy arrays.
  """

  module: Backbone
  view_hw: tuple[int, int]
  expert_hw: tuple[int, int]
  mean: tuple[float, float, float] = IMAGENET_MEAN
  std: tuple[float, float, float] = IMAGENET_STD
  sha256: str = ""
  variables: Any = dataclasses.field(default=None, compare=False, repr=False)

  @property
  def heads(self) -> int:
    """Attention heads of the last block of a ViT; of other networks as many as a ViT of this width has."""
    if isinstance(self.module, ViT):
      return self.module.last_heads or self.module.heads
    return max(1, self.module.feature_width // 64)

  def size_of(self, hw: tuple[int, int]) -> tuple[int, int]:
    """Returns the size in pixels at which the expert sees images of a size, in proportion to the global views."""
    return tuple(round(n * mine / view) for n, mine, view in zip(hw, self.expert_hw, self.view_hw))  # type: ignore

  def encode(self, variables: Any, views: dict[str, tuple[jax.Array, Iterable[str]]]) -> dict[str, Features]:
    """Encodes kinds of views without gradients.

    Args:
      variables: the expert's variables on the devices.
      views: name -> (images (B, V, H, W, 3) normalized as the student's, fields of `Features` to read).
    """
    kinds = [Views(self._prepare(images), reads) for images, reads in views.values()]
    variables = jax.lax.stop_gradient(variables)
    features = self.module.apply(variables, kinds, method=type(self.module).encode)
    return dict(zip(views, jax.lax.stop_gradient(features)))

  def _prepare(self, images: jax.Array) -> jax.Array:
    """Returns images as the expert expects them: its own normalization, its own size."""
    if (self.mean, self.std) != (IMAGENET_MEAN, IMAGENET_STD):
      pixels = images * jnp.array(IMAGENET_STD) + jnp.array(IMAGENET_MEAN)
      images = (pixels - jnp.array(self.mean)) / jnp.array(self.std)
    size = self.size_of(images.shape[2:4])
    if size == images.shape[2:4]:
      return images
    return rescale_antialiased(images.reshape(-1, *images.shape[2:]), size).reshape(*images.shape[:2], *size, 3)


def open_expert(config: SaipConfig, backbone: Backbone) -> Expert | None:
  """Returns the frozen encoder of a run; None if nothing uses one.

  Args:
    config: the method's settings.
    backbone: the student's encoder, for sizes and computation dtype.

  Raises:
    ValueError: no expert although one is needed, no weights of an encoder, other weights than `expert_sha256`, an
      unstated normalization, or sizes and maps that do not fit, each naming its setting.
  """
  if not config.uses_expert:
    return None
  if config.expert is None:
    raise ValueError(
      "config.method.expert is not set, but config.method.align.weight or teacher='expert' needs one: the weights of an"
      " encoder, anything that saip import reads"
    )
  from saip_jax.interop.weights import load_backbone  # imports METHODS

  try:
    loaded = load_backbone(config.expert)
  except ValueError as e:
    raise ValueError(f"config.method.expert={config.expert}: {e}") from e
  digest = _sha256(config.expert, loaded.variables)
  if config.expert_sha256 not in (None, digest):
    raise ValueError(
      f"config.method.expert={config.expert} has the SHA-256 {digest}, but config.method.expert_sha256 is"
      f" {config.expert_sha256}: this is another file"
    )
  module = loaded.module.clone(dtype=backbone.dtype, unroll=backbone.unroll)
  expert_hw = config.expert_hw or _default_size(module, backbone)
  expert = Expert(
    module, backbone.image_hw, expert_hw, *_normalization(config, loaded.preprocessing), digest, loaded.variables
  )
  _check_sizes(config, expert)
  _check_maps(config, backbone, expert)
  return expert


def _normalization(config: SaipConfig, stated) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
  """Returns mean and deviation of the expert's input, those of the settings first.

  Raises:
    ValueError: neither the settings nor the weights state them.
  """
  if config.expert_mean and config.expert_std:
    return config.expert_mean, config.expert_std
  if not stated.stated:
    mean, std = (str(values).replace(" ", "") for values in (stated.mean, stated.std))
    raise ValueError(
      f"config.method.expert={config.expert} does not state how its images were normalized: set"
      f" config.method.expert_mean and expert_std, for ImageNet's {mean} and {std}"
    )
  return stated.mean, stated.std


def _default_size(module: Backbone, backbone: Backbone) -> tuple[int, int]:
  if not any(n % module.stride for n in backbone.image_hw):
    return backbone.image_hw
  height, width = backbone.hidden_grid(backbone.image_hw)
  return height * module.stride, width * module.stride


def _check_sizes(config: SaipConfig, expert: Expert) -> None:
  """Raises ValueError if the expert cannot see whole patches."""
  sees = {"config.method.expert_hw": expert.expert_hw}
  if config.reads_expert_scene:
    side = config.css.scene_size
    sees[f"the scene (config.method.css.scene_size={side} in proportion)"] = expert.size_of((side, side))
  for what, (height, width) in sees.items():
    if height % expert.module.stride or width % expert.module.stride or min(height, width) <= 0:
      raise ValueError(
        f"{what} is {height}x{width} for the expert: expected multiples of its patches of {expert.module.stride}"
        " pixels; set config.method.expert_hw"
      )


def _check_maps(config: SaipConfig, backbone: Backbone, expert: Expert) -> None:
  """Raises ValueError if attention maps are compared that do not exist or do not fit."""
  if config.adapts and config.align.adapter == "block" and not backbone.has_attention:
    raise ValueError("config.method.align.adapter is 'block', which reads the tokens of a ViT: set it to 'mlp'")
  if not config.reads_expert_maps:
    return
  if config.teacher == "expert" and config.matches_attention:
    setting, cure = "config.method.csm.attention_weight", "config.method.csm.attention_weight=0"
  else:
    setting, cure = "config.method.align.relation='attention'", "config.method.align.relation='tokens'"
  if not expert.module.has_attention or not backbone.has_attention:
    who = "the expert" if backbone.has_attention else "this backbone"
    raise ValueError(f"{setting} compares attention maps, but {who} has none: set {cure}")
  lengths = [
    _map_length(module, hw) for module, hw in ((backbone, backbone.image_hw), (expert.module, expert.expert_hw))
  ]
  if lengths[0] != lengths[1]:
    raise ValueError(
      f"{setting} compares attention maps, but the student's have {lengths[0]} tokens and the expert's {lengths[1]}:"
      f" set config.method.expert_hw, or {cure}"
    )


def _map_length(module: Backbone, hw: tuple[int, int]) -> int:
  """Returns L of the attention maps of an image."""
  shapes = jax.eval_shape(
    lambda key, x: module.init_with_output(key, x, ("cls", "attention"))[0].attention,
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, *hw, 3), jnp.float32),
  )
  return shapes[0].shape[-1]


def _sha256(path: str, variables: Any) -> str:
  """Returns the SHA-256 of a file of weights; of a run or a folder that of its arrays."""
  from saip_jax.interop.tensor_files import sha256
  from saip_jax.run_folder.remote import local

  file = local(path, "the expert")
  if file.is_file():
    return sha256(file)
  digest = hashlib.sha256()
  for name, array in jax.tree_util.tree_leaves_with_path(variables):
    array = np.ascontiguousarray(array)
    digest.update(f"{jax.tree_util.keystr(name)} {array.dtype} {array.shape}".encode())
    digest.update(array.tobytes())
  return digest.hexdigest()
