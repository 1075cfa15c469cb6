"""The networks of the alignment with an expert: the expert and the adapter, and the views that each of them takes."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from saip_jax.backbones.features import Backbone, Features
from saip_jax.heads.adapter import Adapter
from saip_jax.methods.saip.alignment import Aligned
from saip_jax.methods.saip.config import SaipConfig
from saip_jax.methods.saip.expert import Expert
from saip_jax.methods.saip.outputs import StudentFeatures
from saip_jax.methods.saip.views import SaipViews


@dataclasses.dataclass(frozen=True)
class Aligner:
  """Expert and adapter as functions of their parameters.

  Attributes:
    config: SAIP's settings.
    backbone: the student's encoder.
    expert: the frozen encoder; None: nothing uses one.
  """

  config: SaipConfig
  backbone: Backbone
  expert: Expert | None = None

  @property
  def adapter(self) -> Adapter:
    """Maps the student's features to those of the expert."""
    align, expert = self.config.align, self.expert
    return Adapter(
      expert.module.feature_width, expert.heads, align.adapter, align.targets == "raw", self.backbone.dtype
    )

  @property
  def _reads_patches(self) -> bool:
    """Whether patch tokens of the global views are compared."""
    align = self.config.align
    return bool(align.weight and align.patch_weight) or align.compares("tokens")

  @property
  def _reads_sequences(self) -> bool:
    """Whether the adapter reads all tokens of an image."""
    return self.config.adapts and self.config.align.adapter == "block"

  def reads(self, kind: Literal["globals", "crops", "scene"]) -> set[str]:
    """Returns the features of the student that the alignment reads of a kind of views, see `Views.reads`."""
    config = self.config
    reads = {"cls", "tokens"} if self._reads_sequences else set()
    if kind == "scene":
      return reads | {"tokens"} if config.css.weight and config.align.compares("tokens") else set()
    if kind == "globals":
      reads |= {"tokens"} if self._reads_patches else set()
      reads |= {"attention"} if config.align.compares("attention") and not self._reads_sequences else set()
    return reads

  def init(self, key: jax.Array) -> dict:
    """Returns the parameters of the adapter."""
    return self.adapter.init(key, jnp.zeros((1, 2, self.backbone.feature_width)))["params"]

  @jax.named_scope("expert")
  def see(self, method_state: dict[str, Any], views: SaipViews) -> dict[str, Features]:
    """Returns the expert's features of "globals" and "scene", as far as they are used."""
    config, kinds = self.config, {}
    if config.adapts:
      wanted = {"cls": True, "tokens": self._reads_patches, "attention": config.reads_expert_maps}
      kinds["globals"] = views.globals, [name for name, is_wanted in wanted.items() if is_wanted]
    if config.reads_expert_scene:
      kinds["scene"] = views.scene[:, None], ["tokens"]
    return self.expert.encode(method_state["expert"], kinds)

  @jax.named_scope("align")
  def align(self, params, student: StudentFeatures, expert: dict[str, Features], views: SaipViews) -> Aligned:
    """Returns the student's features after the adapter, and the expert's on the student's grid.

    Args:
      params: parameters, those of "adapter" among them.
      student: features of the student.
      expert: from `see`.
      views: the views that both saw.
    """
    batch, seen = len(views.globals), expert["globals"]
    of_images = lambda x: x.reshape(batch, -1, x.shape[-1])
    adapted = [self._adapt(params, features) for features in (student.globals, student.locals, student.rescaled)]
    aligned = Aligned(jnp.concatenate([of_images(cls) for cls, _ in adapted], axis=1), of_images(seen.cls))
    if self._reads_patches:
      tokens = on_grid(seen.tokens, seen.grid, student.globals.grid)
      aligned = aligned.replace(tokens=adapted[0][1], expert_tokens=tokens)
    if self.config.align.compares("attention"):
      maps = student.globals.attention
      if self._reads_sequences:
        maps = self.adapter.apply({"params": params["adapter"]}, _sequence(student.globals), method=Adapter.maps)
      aligned = aligned.replace(maps=maps, expert_maps=seen.attention)
    if student.scene is not None:
      aligned = aligned.replace(
        scene=self._adapt(params, student.scene)[1],
        expert_scene=on_grid(expert["scene"].tokens, expert["scene"].grid, student.scene.grid),
      )
    return aligned

  def _adapt(self, params, features: Features) -> tuple[jax.Array | None, jax.Array | None]:
    """Returns class and patch tokens after the adapter; None where the features have none."""
    adapt = lambda x, mask=None: self.adapter.apply({"params": params["adapter"]}, x, mask)
    if self._reads_sequences:
      sequence = adapt(_sequence(features), features.hidden_mask)
      return sequence[:, 0], sequence[:, 1:]
    return tuple(None if x is None else adapt(x) for x in (features.cls, features.tokens))

  def scene_of(self, expert: dict[str, Features], views: SaipViews) -> jax.Array:
    """Returns the expert's tokens of the scene (B, h * w, E) on the grid that CSS searches."""
    seen = expert["scene"]
    return on_grid(seen.tokens, seen.grid, self.backbone.hidden_grid(views.scene.shape[1:3]))


def _sequence(features: Features) -> jax.Array:
  """Returns the tokens of an image as one sequence (B, 1 + N, D), the class token first."""
  return jnp.concatenate([features.cls[:, None], features.tokens], axis=1)


def on_grid(tokens: jax.Array, grid: tuple[int, int], wanted: tuple[int, int]) -> jax.Array:
  """Returns tokens (B, N, E) of a grid on another one, by antialiased linear resampling."""
  if grid == wanted:
    return tokens
  maps = tokens.reshape(len(tokens), *grid, -1).astype(jnp.float32)
  resized = jax.image.resize(maps, (len(maps), *wanted, maps.shape[-1]), "linear", antialias=True)
  return resized.reshape(len(maps), -1, maps.shape[-1]).astype(tokens.dtype)
