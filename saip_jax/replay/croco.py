"""One step of the published CroCo, with fixed waves and with rotary positions.

CroCo's encoder has no class token, ours has one: `_without_class_token` runs our modules in CroCo's arrangement, and
the method itself is compared with the published modules plus a class token.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from saip_jax.backbones.block import Block
from saip_jax.backbones.features import Views
from saip_jax.backbones.linear import Linear, layer_norm
from saip_jax.backbones.packing import Packing
from saip_jax.backbones.patches import patchify
from saip_jax.backbones.pos_embed import wave_positions
from saip_jax.backbones.rope import grid_angles
from saip_jax.backbones.stack import run_stack, scan_blocks
from saip_jax.heads.cross_block import CrossBlock
from saip_jax.interop.tables import Row, block_rows, from_torch, linear_rows, norm_rows, to_torch
from saip_jax.interop.vit import VIT_NAMES, inside, renamed
from saip_jax.losses.reconstruction import masked_mse, masked_mse_by_kind, normalize_patches
from saip_jax.masking.tokens import restore_tokens, select_tokens
from saip_jax.methods.base import Aux
from saip_jax.methods.croco_human.autoencoder import PairViews
from saip_jax.methods.croco_human.config import CrocoHumanConfig, CrocoMasksConfig
from saip_jax.methods.croco_human.method import CrocoHuman
from saip_jax.methods.mae.autoencoder import MaskDraws
from saip_jax.methods.modules import encode_views
from saip_jax.replay.masked import recorded_decoder, recorded_vit
from saip_jax.replay.recording import EXACT, Recording
from saip_jax.replay.step import run_step

_BLOCK = "dec_blocks.{}"
_DECODER = [
  Row("mask_token", "mae/mask_token"),
  *linear_rows("decoder_embed", "mae/embed"),
  *block_rows("dec_blocks", "mae/blocks"),
  *linear_rows(f"{_BLOCK}.cross_attn.projq", "mae/blocks/cross_q"),
  *linear_rows(f"{_BLOCK}.cross_attn.projkv", "mae/blocks/cross_kv"),  # one tensor here
  *linear_rows(f"{_BLOCK}.cross_attn.proj", "mae/blocks/cross_proj"),
  *norm_rows(f"{_BLOCK}.norm3", "mae/blocks/norm3"),
  *norm_rows(f"{_BLOCK}.norm_y", "mae/blocks/memory_norm"),
  *norm_rows("dec_norm", "mae/norm"),
  *linear_rows("prediction_head", "mae/pred"),
]
_ENCODER = renamed(
  inside(VIT_NAMES.timm, "", "backbone/"),
  ((r"^blocks\.", "enc_blocks."), (r"^norm\.", "enc_norm."), ("^pos_embed$", "enc_pos_embed")),
)
_POSITIONS = ("enc_pos_embed", "dec_pos_embed")
_ROTATED = {"attn.qkv": (3, 2), "projq": (1, 1), "projk": (1, 1), "projkv": (2, 1)}
"""Layer -> (joined tensors, how many of them, from the first, are rotated): queries and keys, not values."""


@dataclasses.dataclass(frozen=True)
class _Naming:
  """Published tensors and parameters here, for one kind of positions.

  Attributes:
    recording: the fixture.
    rope: positions are rotary.
    class_token: the encoder has a class token.
  """

  recording: Recording
  rope: bool
  class_token: bool

  @property
  def table(self) -> list[Row]:
    left = {"cls_token"} if not self.class_token else set()
    left |= {"enc_pos_embed"} if self.rope else set()
    return [row for row in [*_ENCODER, *_DECODER] if row.torch not in left]

  def read(self) -> dict:
    """Returns the recorded weights as parameters."""
    state = self.recording.below("weights/")
    if self.class_token:
      state["cls_token"] = self.recording["class_token/cls_token"]
    first = np.zeros((1, state["enc_pos_embed"].shape[-1]), np.float32)  # of the class token
    state["enc_pos_embed"] = np.concatenate([first, state["enc_pos_embed"]])[None]
    for name in [n for n in state if ".cross_attn.projk." in n]:
      parts = [state.pop(name), state.pop(name.replace("projk", "projv"))]
      state[name.replace("projk", "projkv")] = np.concatenate(parts)
    state = {name: self._renumbered(name, array) for name, array in state.items()}
    left = _POSITIONS if self.rope else _POSITIONS[1:]
    return from_torch(state, self.table, left, patch=self.recording.meta["patch"])

  def write(self, tree) -> dict[str, np.ndarray]:
    """Returns parameters or gradients under the published names."""
    state = to_torch(tree, self.table, self.recording.meta["patch"])
    state.pop("enc_pos_embed", None)  # fixed
    for name in [n for n in state if ".cross_attn.projkv." in n]:
      for part, array in zip("kv", np.split(state.pop(name), 2)):
        state[name.replace("projkv", f"proj{part}")] = array
    return {name: self._renumbered(name, array) for name, array in state.items()}

  def _renumbered(self, name: str, array: np.ndarray) -> np.ndarray:
    """Renumbers the features of rotary heads, see `rope.turn`; its own inverse.

    A head has quarters [row a, row b, column a, column b] there and [row a, column a, row b, column b] here.
    """
    if not self.rope:
      return array
    part = next((part for part in _ROTATED if f".{part}." in name), None)
    if part is None:
      return array
    heads = self.recording.meta["heads" if name.startswith("enc_") else "decoder_heads"]
    count, rotated = _ROTATED[part]
    parts = np.split(array, count)
    for i in range(rotated):
      quarters = parts[i].reshape(heads, 4, -1, *array.shape[1:])
      parts[i] = quarters[:, [0, 2, 1, 3]].reshape(parts[i].shape)
    return np.concatenate(parts)


def _draws(recording: Recording) -> MaskDraws:
  """Returns the recorded masks, with the seen patches in raster order."""
  hidden = recording["rand/mask"]
  order = np.argsort(hidden, axis=1, kind="stable")
  seen = int(np.sum(~hidden[0]))
  return MaskDraws(order[:, :seen].astype(np.int32), np.argsort(order, axis=1).astype(np.int32))


def _without_class_token(method: CrocoHuman, params, views: PairViews) -> dict[str, jax.Array]:
  """Returns the outputs of the networks of the method without class tokens."""
  backbone, autoencoder = method.backbone, method.autoencoder
  encoder, decoder, settings, grid = params["backbone"], params["mae"], autoencoder.settings, autoencoder.grid
  apply = lambda module, tree, *inputs, **options: module.apply({"params": tree}, *inputs, **options)
  norm_of, batch, masks = layer_norm(jnp.float32), len(views.images), views.masks
  angles = lambda width, heads: grid_angles(grid, width // heads)[None] if backbone.rope else None

  def encoded(images, keep_ids):
    x = apply(Linear(backbone.width), encoder["patch_embed"], patchify(images, backbone.patch))
    turned = angles(backbone.width, backbone.heads)
    if not backbone.rope:
      x += encoder["pos_embed"][:, 1:]
    if keep_ids is not None:
      x = select_tokens(x, keep_ids)
      turned = None if turned is None else select_tokens(jnp.broadcast_to(turned, (batch, *turned.shape[1:])), keep_ids)
    block, packing = Block(backbone.width, backbone.heads), Packing(((1, x.shape[1]),))
    (x,) = run_stack(block, encoder["blocks"], [x], packing, angles=[turned])
    return apply(norm_of, encoder["norm"], x)

  first, second = encoded(views.images, masks.keep_ids), encoded(views.partners, None)
  embed = lambda x: apply(Linear(settings.width), decoder["embed"], x)
  places = 0.0 if backbone.rope else wave_positions(grid, settings.width)
  x = restore_tokens(embed(first), masks.restore_ids, decoder["mask_token"][0, 0]) + places
  memory, turned = embed(second) + places, angles(settings.width, settings.heads)
  block = CrossBlock(settings.width, settings.heads, norm_memory=True)
  run = lambda tree, x: apply(block, tree, x, memory, turned, turned)
  decoded = apply(norm_of, decoder["norm"], scan_blocks(run, decoder["blocks"], x))
  prediction = apply(Linear(autoencoder.decoder.outputs), decoder["pred"], decoded)
  return {"encoded1": first, "encoded2": second, "decoded": decoded, "pred": prediction}


def replay_croco(recording: Recording) -> None:
  """Runs the recorded steps and adds a check for each of their numbers."""
  meta, draws = recording.meta, _draws(recording)
  kind = np.zeros(meta["batch"], np.int32)
  views = PairViews(recording.images("in/image1")[:, 0], recording.images("in/image2")[:, 0], kind, draws)
  recording.output("rand/mask", 1.0 - draws.seen, EXACT)
  for run in meta["runs"]:
    rope = run != "cosine"
    config = CrocoHumanConfig(
      name="croco_human",
      crop_area=(1, 1),
      crop_aspect=(1, 1),
      jitter=(0, 0, 0),
      mae=recorded_decoder(meta),
      positions="rope" if rope else "cosine",
      masks=CrocoMasksConfig(),
    )
    backbone = recorded_vit(meta, rope=rope) if rope else recorded_vit(meta, positions="cosine")
    method = CrocoHuman(config, backbone, (0, 0))
    _compare_without_class_token(recording, run, method, views)
    if f"class_token/{run}/out/pred" in recording:
      _compare_with_class_token(recording, run, method, views)


def _compare_without_class_token(recording, run: str, method: CrocoHuman, views: PairViews) -> None:
  naming = _Naming(recording, method.backbone.rope, class_token=False)
  target = normalize_patches(patchify(views.images, method.backbone.patch))

  def objectives(params, method_state, views, step):
    out = _without_class_token(method, params, views)
    loss = masked_mse(out["pred"], target, 1.0 - views.masks.seen)
    return loss, Aux({"loss/croco": loss}, outputs=out)

  step = run_step(method, naming.read(), {}, views, recording.meta, objectives)
  for name, ours in step.aux.outputs.items():
    recording.output(f"{run}/out/{name}", ours)
  recording.loss(f"{run}/loss/croco", step.aux.metrics["loss/croco"])
  hidden, samples = 1.0 - views.masks.seen, np.arange(recording.meta["batch"])
  losses = masked_mse_by_kind(step.aux.outputs["pred"], target, hidden, samples, len(samples))
  recording.output(f"{run}/loss/of_each_sample", losses)
  gradients, after = naming.write(step.gradients), naming.write(step.after.params)
  recording.gradients(f"{run}/", gradients)
  recording.weights(f"{run}/after/", after, f"{run}/grad/", recording.below("weights/"), gradients)


def _compare_with_class_token(recording, run: str, method: CrocoHuman, views: PairViews) -> None:
  """Compares the method itself with the published modules plus a class token."""
  naming = _Naming(recording, method.backbone.rope, class_token=True)

  def objectives(params, method_state, views, step):
    total, aux = method.objectives(params, method_state, views, step)
    seen = Views(views.images[:, None], ["cls", "tokens"], keep_ids=views.masks.keep_ids)
    (features,), _ = encode_views(method.backbone, params["backbone"], None, [seen])
    encoded = jnp.concatenate([features.cls[:, None], features.tokens], axis=1)
    return total, aux.replace(outputs=(aux.outputs.prediction, encoded))

  step = run_step(method, naming.read(), {}, views, {}, objectives)
  prediction, encoded = step.aux.outputs
  recording.output(f"class_token/{run}/out/pred", prediction)
  recording.output(f"class_token/{run}/out/encoded1", encoded)
  recording.loss(f"class_token/{run}/loss/croco", step.aux.metrics["loss/total"])
  recording.gradients(f"class_token/{run}/", naming.write(step.gradients))
