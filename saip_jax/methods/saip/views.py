"""Views of SAIP, made on the accelerator from one decoded image and one decoded scene.

The instance is the anchor at half size, the RoI (region of interest) the last local crop; both are pasted into a scene.
"""

import jax
import jax.numpy as jnp
from flax import struct

from saip_jax.masking.anchor import order_by_mask, random_keep_mask, upsample_mask
from saip_jax.masking.body import mask_body_first
from saip_jax.masking.parts import part_counts
from saip_jax.methods.saip.config import SaipConfig
from saip_jax.views.crops import VIEW_UNIFORMS, CropRecipe, draw_crops, render_crops
from saip_jax.views.geometry import keypoints_in_crop, to_planes
from saip_jax.views.multicrop import GLOBAL_1 as ANCHOR, GLOBAL_2 as AUGMENTED, LOCAL
from saip_jax.views.rescaling import rescale_antialiased
from saip_jax.views.scenes import box_mask, paste, sample_places

SCENE = AUGMENTED


@struct.dataclass
class SaipDraws:
  """Random choices of a micro-step beside the views.

  Attributes:
    scored: (B, L) float32, 1 where a patch of the enlarged view counts in the reconstruction loss.
    keep_ids: (B, M) int32 patches of the enlarged view that the encoder sees.
    restore_ids: (B, L) int32 place of each patch in the order visible first.
    rescale: (B, 2) int32 index into `rescale_factors` for the RoI and the instance.
  """

  scored: jax.Array
  keep_ids: jax.Array
  restore_ids: jax.Array
  rescale: jax.Array


@struct.dataclass
class SaipViews:
  """Normalized views of a batch, and where the persons are in its scenes.

  Attributes:
    globals: (B, 2, H, W, 3) the anchor and the augmented view.
    crops: (B, n + 1, H/2, W/2, 3) n local crops, the last of them the RoI, then the instance.
    scene: (B, S, S, 3) reference scene with the instance, an RoI, and perhaps a distractor; None, as the masks, without
      search.
    inst_mask: (B, S/16, S/16) 1 on the instance.
    roi_mask: (B, S/16, S/16) 1 on the RoI.
    keypoints: (B, 17, 3) x, y in pixels of the augmented view and visibility; None if they are not used.
    draws: random choices beside the views.
  """

  globals: jax.Array
  crops: jax.Array
  scene: jax.Array | None = None
  inst_mask: jax.Array | None = None
  roi_mask: jax.Array | None = None
  keypoints: jax.Array | None = None
  draws: SaipDraws | None = None


def next_of_batch(x: jax.Array) -> jax.Array:
  """Returns x (B, ...) rolled by one: each sample gets the next one, whose RoI `scene_second` "other" searches for."""
  return jnp.roll(x, -1, axis=0)


def make_views(
  batch: dict[str, jax.Array], keys: jax.Array, config: SaipConfig, image_hw: tuple[int, int], stride: int
) -> SaipViews:
  """Makes all views of a batch; each sample depends on its own key alone, except for persons of neighbors.

  Source: SAIP's released code: two global views, local crops, an instance by decimation of the anchor, and a scene with
  two pasted persons, blended 0.7 / 0.3 after normalization. Views that no objective uses are not computed: without
  matching and alignment the RoI is the only local crop.

  Args:
    batch: fields of `Saip.batch_spec`.
    keys: (B,) one key per sample.
    config: the method's settings.
    image_hw: size of the global views in pixels.
    stride: pixels from one cell of the backbone's map to the next.
  """
  crop_hw = image_hw[0] // 2, image_hw[1] // 2
  scene_hw = config.css.scene_size, config.css.scene_size
  antialias = config.resolved.resize == "antialiased"
  scenes = (batch["scene"], batch["scene_hw"]) if config.css.weight else None
  (globals_, locals_, background), keypoints, places = jax.vmap(
    lambda *sample: _views_of(*sample, config, image_hw, crop_hw, scene_hw)
  )(batch["image"], batch["image_hw"], batch.get("keypoints"), scenes, keys)
  if antialias:
    instance = rescale_antialiased(globals_[:, 0], crop_hw)
  else:
    instance = globals_[:, 0, ::2, ::2]
  views = SaipViews(globals_, jnp.concatenate([locals_, instance[:, None]], axis=1), keypoints=keypoints)
  if scenes is None:
    return views
  scene, inst_mask, roi_mask = _compose(background, locals_[:, -1], instance, places, config, stride)
  return views.replace(scene=scene, inst_mask=inst_mask, roi_mask=roi_mask)


def _views_of(image_u8, image_valid_hw, keypoints, scene, key, config: SaipConfig, image_hw, crop_hw, scene_hw):
  """Returns (globals, locals, background) of one sample, its keypoints, and uniform numbers for places in its scene.

  Without a scene, (uint8 canvas, size of its valid part), there is no background; the other views are the same.
  """
  count = config.local_crops
  person = lambda area, colors: CropRecipe(area, config.crop_aspect, colors.scaled(config.color_scale))
  recipes = [
    person(config.global_area, ANCHOR),
    person(config.global_area, AUGMENTED),
    *[person(config.local_area, LOCAL)] * (count - count // 2),
    *[person(config.near_area or config.local_area, LOCAL)] * (count // 2),
  ]
  valid_hw = [image_valid_hw] * len(recipes)
  uniform = jax.random.uniform(key, (len(recipes) + 2, VIEW_UNIFORMS))
  if scene is not None:
    recipes.append(CropRecipe(config.css.scene_area, config.css.scene_aspect, SCENE.scaled(config.color_scale)))
    valid_hw.append(scene[1])
  draws = draw_crops(uniform[: len(recipes)], jnp.stack(valid_hw), recipes)
  image = to_planes(image_u8)
  end_of_locals = 2 + count
  every_crop = config.csm.weight or config.adapts
  first_local = 2 if every_crop else end_of_locals - 1  # the other objectives use the RoI alone
  views = (
    render_crops(image, draws.some(0, 2), image_hw),
    render_crops(image, draws.some(first_local, end_of_locals), crop_hw),
    None
    if scene is None
    else render_crops(to_planes(scene[0]), draws.some(end_of_locals, end_of_locals + 1), scene_hw)[0],
  )
  if keypoints is not None:
    keypoints = keypoints_in_crop(keypoints, draws.box_yxhw[1], image_hw, draws.flip[1])
  return views, keypoints, uniform[-1]


def _compose(scene, roi, instance, uniform, config: SaipConfig, stride: int):
  """Returns the scenes with persons in them, and the masks of the instance and of the RoI.

  Persons take slots from left to right: the RoI, the instance and, with up to three persons, a distractor. The released
  code has the first two, in this order.

  Args:
    scene: (B, S, S, 3) backgrounds.
    roi: (B, h, w, 3) of each sample.
    instance: (B, h, w, 3) of each sample.
    uniform: (B, n) uniform numbers.
    config: the method's settings.
    stride: pixels of a cell of the masks.
  """
  behavior = config.resolved
  least, most = behavior.scene_persons
  slots = max(2, most)
  searched = next_of_batch(roi) if behavior.scene_second == "other" else roi
  distractors = [jnp.roll(instance, 1, axis=0)] * (slots - 2)
  persons = jnp.stack([searched, instance, *distractors], axis=1)
  scene_hw, crop_hw = scene.shape[1:3], instance.shape[1:3]

  def one(scene, persons, uniform):
    corners = sample_places(uniform[: 2 * slots].reshape(slots, 2), scene_hw, crop_hw, slots)
    if behavior.scene_order == "random":
      corners = corners[jnp.argsort(uniform[2 * slots : 3 * slots])]
    number = least + jnp.floor(uniform[3 * slots] * (most - least + 1))
    present = jnp.array([2, 1, 3][:slots]) <= number  # the instance always, then the RoI, then the distractor
    scene = paste(scene, persons, corners, jnp.where(present, config.css.paste_opacity, 0))
    roi_mask, inst_mask = (box_mask(corner, crop_hw, scene_hw, stride) for corner in corners[:2])
    return scene, inst_mask, roi_mask * present[0]

  return jax.vmap(one)(scene, persons, uniform)


def make_draws(
  keys: jax.Array,
  step_key: jax.Array,
  config: SaipConfig,
  grid: tuple[int, int],
  csr_grid: tuple[int, int],
  parts: jax.Array | None = None,
) -> SaipDraws:
  """Draws masks per sample, and the scales per sample or, as published, one pair per micro-step.

  Args:
    keys: (B,) one key per sample.
    step_key: key of the micro-step.
    config: the method's settings.
    grid: patch grid of a global view.
    csr_grid: patch grid of the enlarged view.
    parts: (B, 6, L) bool, its patches that each part of the body covers; None if parts are not used.
  """
  behavior, ratio = config.resolved, config.csr.mask_ratio
  carried = behavior.csr_mask == "carried"
  h, w = grid if carried else csr_grid

  def uniform_mask(key):
    mask_key, tie_key = jax.random.split(key)
    mask = random_keep_mask(mask_key, h * w, ratio)
    if carried:
      mask = upsample_mask(mask, grid, csr_grid)
    return 1.0 - mask, *order_by_mask(tie_key, mask, ratio)

  def body_mask(key, parts):
    keys, masks = jax.random.split(key, 4), config.csr.masks
    count = part_counts(jax.random.uniform(keys[0]), masks.most_parts)
    keep_ids, restore_ids = mask_body_first(keys, parts, count, csr_grid, ratio, masks.blocks, masks.part_fraction)
    return (restore_ids >= len(keep_ids)).astype(jnp.float32), keep_ids, restore_ids

  rows = 1 if behavior.scale_draw == "step" else len(keys)
  rescale = jax.random.randint(step_key, (rows, 2), 0, len(config.rescale_factors))
  drawn = jax.vmap(uniform_mask)(keys) if config.csr.masks is None else jax.vmap(body_mask)(keys, parts)
  return SaipDraws(*drawn, jnp.broadcast_to(rescale, (len(keys), 2)))
