"""The views SAIP learns from, made on the accelerator from one decoded image and one decoded scene."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from saip_jax.views.geometry import crop_resize, sample_crop_box, to_planes
from saip_jax.views.photometric import ColourJitter, Photometric, augment, normalise
from saip_jax.views.scenes import box_mask, paste, sample_placements

_JITTER = ColourJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
ANCHOR = Photometric(jitter=_JITTER, blur_probability=1.0, solarise_probability=0.0)
AUGMENTED = Photometric(jitter=_JITTER, blur_probability=0.1, solarise_probability=0.2)
LOCAL = Photometric(jitter=_JITTER, blur_probability=0.5, solarise_probability=0.0)
SCENE = AUGMENTED


@struct.dataclass
class SaipViews:
  """Normalised views of a batch, and where the persons stand in its scenes.

  Attributes:
    globals: (B, 2, H, W, 3) the anchor and the augmented view.
    crops: (B, n + 1, H/2, W/2, 3) n local crops, then the region: the anchor at half size.
    scene: (B, S, S, 3) reference scene holding the region and the last local crop.
    inst_mask: (B, S/16, S/16) 1 where the region stands.
    roi_mask: (B, S/16, S/16) 1 where the last local crop stands.
  """

  globals: jax.Array
  crops: jax.Array
  scene: jax.Array
  inst_mask: jax.Array
  roi_mask: jax.Array


def make_views(
    batch: dict[str, jax.Array], keys: jax.Array, config, image_hw: tuple[int, int], patch: int
) -> SaipViews:
  """Makes all views of a batch; each sample depends on its own key alone.

  Source: methods as released: two global views, local crops, a region by decimation of the anchor, and a
  scene of two pasted persons, blended 0.7 / 0.3 after normalisation.

  Args:
    batch: fields of `Saip.batch_spec`.
    keys: (B,) one key per sample.
    config: `SaipConfig`.
    image_hw: size of the global views in pixels.
    patch: patch side in pixels.
  """
  crop_hw = image_hw[0] // 2, image_hw[1] // 2
  scene_hw = config.scene_size, config.scene_size

  def make(keys, planes, valid_hw, aspect, area, out_hw, *recipes: Photometric):
    """Returns (V, H, W, 3), a view per key: crop, flip, colour, blur, solarise, normalise.

    Views of one size are made together: written out one by one, the same operations take their time to compile.
    """
    def one(key, blur_probability, solarise_probability):
      box_key, flip_key, colour_key = jax.random.split(key, 3)
      box = sample_crop_box(box_key, valid_hw, area, aspect)
      view = crop_resize(planes, box, out_hw, jax.random.bernoulli(flip_key))
      recipe = dataclasses.replace(
          recipes[0], blur_probability=blur_probability, solarise_probability=solarise_probability
      )
      return normalise(augment(colour_key, view, recipe))

    chances = jnp.array([(recipe.blur_probability, recipe.solarise_probability) for recipe in recipes])
    return jax.vmap(one)(keys, *jnp.broadcast_to(chances, (len(keys), 2)).T)

  def sample(image_u8, image_valid_hw, scene_u8, scene_valid_hw, key):
    *global_keys, scene_key, place_key, local_key = jax.random.split(key, 5)
    image, scene = to_planes(image_u8), to_planes(scene_u8)
    globals_ = make(
        jnp.stack(global_keys),
        image, image_valid_hw, config.crop_aspect, config.global_area, image_hw, ANCHOR, AUGMENTED,
    )
    locals_ = make(
        jax.random.split(local_key, config.local_crops),
        image, image_valid_hw, config.crop_aspect, config.local_area, crop_hw, LOCAL,
    )
    (scene,) = make(
        scene_key[None], scene, scene_valid_hw, config.scene_aspect, config.scene_area, scene_hw, SCENE
    )
    region = globals_[0, ::2, ::2]
    places = sample_placements(place_key, scene_hw, crop_hw)
    pasted = jnp.stack([locals_[-1], region])
    scene = paste(scene, pasted, jnp.stack([places.roi_yx, places.inst_yx]), config.paste_opacity)
    return SaipViews(
        globals=globals_,
        crops=jnp.concatenate([locals_, region[None]]),
        scene=scene,
        inst_mask=box_mask(places.inst_yx, crop_hw, scene_hw, patch),
        roi_mask=box_mask(places.roi_yx, crop_hw, scene_hw, patch),
    )

  return jax.vmap(sample)(batch["image"], batch["image_hw"], batch["scene"], batch["scene_hw"], keys)
