"""One step of the published MAE and HAP."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from saip_jax.backbones.features import Views
from saip_jax.backbones.linear import NORM_EPSILON
from saip_jax.backbones.patches import patchify
from saip_jax.backbones.pos_embed import wave_positions
from saip_jax.backbones.vit import ViT
from saip_jax.interop.tables import Row, block_rows, from_torch, linear_rows, norm_rows, to_torch
from saip_jax.interop.vit import VIT_NAMES, inside
from saip_jax.losses.alignment import contrast
from saip_jax.losses.reconstruction import masked_mse
from saip_jax.masking.parts import part_patches
from saip_jax.methods.hap.config import HapAlignConfig, HapConfig, HapMasksConfig
from saip_jax.methods.hap.method import Hap, HapViews
from saip_jax.methods.mae.autoencoder import MaskDraws, MaskedConfig
from saip_jax.methods.mae.method import Mae, MaeConfig, MaeViews
from saip_jax.methods.modules import encode_views
from saip_jax.replay.recording import EXACT, OUTPUT, Recording, largest_error
from saip_jax.replay.step import run_step

_TABLE = [  # the positions of the decoder are computed, not stored
  *inside(VIT_NAMES.timm, "", "backbone/"),
  Row("mask_token", "mae/mask_token"),
  *linear_rows("decoder_embed", "mae/embed"),
  *block_rows("decoder_blocks", "mae/blocks"),
  *norm_rows("decoder_norm", "mae/norm"),
  *linear_rows("decoder_pred", "mae/pred"),
]


def recorded_vit(meta: dict, **options) -> ViT:
  """Returns a ViT of the recorded sizes."""
  size = meta["img_size"]
  image_hw = (size, size) if isinstance(size, int) else tuple(size)
  return ViT(
    width=meta["width"], depth=meta["depth"], heads=meta["heads"], patch=meta["patch"], image_hw=image_hw, **options
  )


def recorded_decoder(meta: dict) -> MaskedConfig:
  """Returns the settings of the recorded decoder."""
  return MaskedConfig(
    mask_ratio=meta["mask_ratio"], width=meta["decoder_width"], depth=meta["decoder_depth"], heads=meta["decoder_heads"]
  )


def _draws(recording: Recording, number: str = "") -> MaskDraws:
  ids = lambda name: recording[f"rand/{name}{number}"].astype(np.int32)
  return MaskDraws(ids("ids_keep"), ids("ids_restore"))


def _latent(method: Mae, params, images, draws: MaskDraws, depth: int) -> jax.Array:
  """Returns class token and seen patches (B, 1 + M, D) of the first `depth` blocks, after the norm."""
  tree = params["backbone"] | {"blocks": jax.tree.map(lambda a: a[:depth], params["backbone"]["blocks"])}
  views = Views(images[:, None], ["cls", "tokens"], keep_ids=draws.keep_ids)
  (features,), _ = encode_views(method.backbone.clone(depth=depth), tree, None, [views])
  return jnp.concatenate([features.cls[:, None], features.tokens], axis=1)


@functools.partial(jax.jit, static_argnums=0)
def _latents(method: Mae, params, images, draws: MaskDraws) -> list[jax.Array]:
  """Returns `_latent` for one block, for two, ..., for all."""
  with jax.default_matmul_precision("highest"):
    return [_latent(method, params, images, draws, depth) for depth in range(1, method.backbone.depth + 1)]


def replay_mae(recording: Recording) -> None:
  """Runs the recorded step of MAE and adds a check for each of its numbers."""
  meta = recording.meta
  config = MaeConfig(name="mae", crop_area=(1, 1), crop_aspect=(1, 1), mae=recorded_decoder(meta), positions="cosine")
  method = Mae(config, recorded_vit(meta, positions="cosine"), (0, 0))
  images, draws = recording.images("in/images")[:, 0], _draws(recording)
  params = _read(recording, method)
  step = run_step(method, params, {}, MaeViews(images, draws), meta)
  out = step.aux.outputs

  recording.output("rand/mask", 1.0 - draws.seen, EXACT)
  recording.loss("loss/mae", step.aux.metrics["loss/mae"])
  recording.loss("loss/mae_raw_pixels", masked_mse(out.prediction, patchify(images, meta["patch"]), 1.0 - draws.seen))
  recording.output("out/pred", out.prediction)
  recording.output("out/target", out.target)
  latents = _latents(method, params, images, draws)
  recording.output("out/latent", latents[-1])
  for i, ours in enumerate(latents):  # after the norm
    theirs = _normalized(recording[f"out/block{i}"], params["backbone"]["norm"])
    recording.add(f"out/block{i}", largest_error(ours, theirs), OUTPUT)
  _compare_step(recording, step, meta["patch"])


def replay_hap(recording: Recording) -> None:
  """Runs the recorded step of HAP and adds a check for each of its numbers."""
  meta = recording.meta
  config = HapConfig(
    name="hap",
    crop_area=(1, 1),
    crop_aspect=(1, 1),
    mae=recorded_decoder(meta),
    masks=HapMasksConfig(),
    align=HapAlignConfig(weight=meta["align_weight"], temperature=meta["align_temperature"]),
    positions="cosine",
  )
  method = Hap(config, recorded_vit(meta, positions="cosine"), (0, 0))
  images, both = recording.images("in/images")[:, 0], [_draws(recording, number) for number in "01"]
  interleaved = MaskDraws(
    *(
      np.stack([getattr(draws, name) for draws in both], axis=1).reshape(2 * len(images), -1)
      for name in ("keep_ids", "restore_ids")
    )
  )
  params = _read(recording, method)
  step = run_step(method, params, {}, HapViews(images, interleaved, parts=None), meta)
  for name in ("mae", "align", "total"):
    recording.loss(f"loss/{name}", step.aux.metrics[f"loss/{name}"])
  pairs = lambda a: np.asarray(a).reshape(len(images), 2, *a.shape[1:])
  firsts, predictions = pairs(step.aux.outputs.cls), pairs(step.aux.outputs.prediction)
  latents = pairs(_latents(method, params, np.repeat(images, 2, axis=0), interleaved)[-1])
  for number, draws in enumerate(both):
    recording.output(f"rand/mask{number}", 1.0 - draws.seen, EXACT)
    recording.output(f"out/pred{number}", predictions[:, number])
    recording.output(f"out/latent{number}", latents[:, number])
    loss = masked_mse(predictions[:, number], step.aux.outputs.target[::2], 1.0 - draws.seen)
    recording.loss(f"loss/mae{number}", loss)
  for name, (queries, keys) in {"first_to_second": (0, 1), "second_to_first": (1, 0)}.items():
    temperature = meta["align_temperature"]
    recording.loss(f"loss/align_{name}", contrast(firsts[:, queries], firsts[:, keys], temperature))
  parts = [part_patches(points, method.autoencoder.grid, meta["patch"]) for points in recording["in/keypoints"]]
  recording.output("out/part_patches", parts, EXACT)
  _compare_step(recording, step, meta["patch"])


def _read(recording: Recording, method: Mae) -> dict:
  """Returns the recorded weights, and checks the recorded positions of the decoder, which are computed here."""
  weights = recording.below("weights/")
  waves = wave_positions(method.autoencoder.grid, method.config.mae.width)
  recording.output("weights/decoder_pos_embed", np.pad(waves, ((1, 0), (0, 0)))[None])
  return from_torch(weights, _TABLE, (r"^decoder_pos_embed$",), patch=method.backbone.patch)


def _compare_step(recording: Recording, step, patch: int) -> None:
  published = lambda tree: to_torch(tree, _TABLE, patch)
  gradients = published(step.gradients)
  recording.gradients("", gradients)
  recording.weights("after/", published(step.after.params), "grad/", recording.below("weights/"), gradients)


def _normalized(x: np.ndarray, norm_parameters: dict) -> np.ndarray:
  x = x.astype(np.float64)
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + NORM_EPSILON)
  return x * norm_parameters["scale"] + norm_parameters["bias"]
