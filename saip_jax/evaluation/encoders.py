"""Encoders: sources of the features that tasks are measured on, with or without a network."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from input_pipeline.checks import choices_hint
from input_pipeline.names import shown
from input_pipeline.source import ImageSource
from saip_jax.backbones import BACKBONES
from saip_jax.backbones.features import Backbone
from saip_jax.backbones.statistics import join_statistics
from saip_jax.evaluation.metrics.similarity import NOISE, Variation, without_noise
from saip_jax.evaluation.resize import resized_batches
from saip_jax.interop.onnx_file import OnnxEncoder, onnx_path, open_onnx
from saip_jax.interop.spec import BackboneSpec
from saip_jax.interop.weights import LoadedBackbone, Preprocessing, loaded_backbone, open_weights
from saip_jax.run_folder.remote import local, with_urls
from saip_jax.training.mesh import options_of_one_run

_USUAL_HW = (256, 128)
_POOLED_HW = (8, 4)  # fine enough for joints, few enough for a ridge regression
_BATCH = 64
_CELL, _STRIPES, _BINS = 16, 4, 8


@dataclasses.dataclass(frozen=True)
class Encoder:
  """A function from images to features.

  Attributes:
    facts: JSON-able facts about it, for tables and records.
    image_hw: size in pixels of the input images.
    apply: (B, H, W, 3) uint8 RGB -> image features (B, D) float32 and cell features (B, h, w, E) float32.
    flip_test: whether mirror images are encoded too, see `flip_tested`.
    image_features: description of the image features.
    variation: whether the used features differ between images.
    no_cells: why there are no cell features; None if there are.
  """

  facts: dict[str, Any]
  image_hw: tuple[int, int]
  apply: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
  flip_test: bool = False
  image_features: str = "of the whole image"
  variation: Variation = dataclasses.field(default_factory=Variation)
  no_cells: str | None = None

  def with_cells(self) -> "Encoder":
    """Returns the encoder; raises ValueError if it has no cell features."""
    if self.no_cells:
      raise ValueError(self.no_cells)
    return self


@dataclasses.dataclass(frozen=True)
class EncodedImages:
  """Features of a batch of images of a source.

  Attributes:
    rows: (n,) int64, the positions of the images in the source, without damaged images.
    images: (n, D) float32 image features; with a flip test, the means of images and mirror images.
    cells: (n, h, w, E) float32 cell features.
    mirrored: (n, h, w, E) float32 cell features of the mirror images, not mirrored back; None without a flip test.
  """

  rows: np.ndarray
  images: np.ndarray
  cells: np.ndarray
  mirrored: np.ndarray | None = None

  def singly(self) -> "Iterator[EncodedImages]":
    """Yields the features of one image at a time, for results that are large."""
    for row in range(len(self.rows)):
      one = slice(row, row + 1)
      yield EncodedImages(
        self.rows[one], self.images[one], self.cells[one], None if self.mirrored is None else self.mirrored[one]
      )


def open_encoder(
  checkpoint: str, which: str = "student", image_hw: tuple[int, int] | None = None, seed: int = 0
) -> Encoder:
  """Returns the encoder of `--checkpoint`.

  Args:
    checkpoint: a path that `interop.weights.open_weights` reads; an ONNX file of `saip export`, or its folder;
      "random:NAME", an untrained backbone; "histogram", color histograms without a network; or "constant", equal
      features for every image and cell, for chance scores.
    which: "student" or "teacher", for weights that have both.
    image_hw: size in pixels of the input; None for that of the weights, or 256x128 without weights.
    seed: seed of random weights.

  Raises:
    ValueError: no readable weights, or no such backbone.
  """
  without_network = {"histogram": _histograms, "constant": _constants}
  if checkpoint in without_network:
    hw = image_hw or _USUAL_HW
    return Encoder({"checkpoint": checkpoint, "image_hw": list(hw)}, hw, without_network[checkpoint])
  kind, colon, name = checkpoint.partition(":")
  if colon and kind == "random":
    if name not in BACKBONES:
      raise ValueError(f"--checkpoint={checkpoint}: {name!r} is not a backbone{choices_hint(name, list(BACKBONES))}")
    spec = BackboneSpec(name, image_hw or _USUAL_HW, "grid2d")
    spec.check_size(spec.image_hw)
    return encoder_of(untrained_backbone(spec, seed), {"checkpoint": checkpoint, "seed": seed})
  path = onnx_path(local(checkpoint, "--checkpoint"))
  if path:
    return _encoder_of_onnx(open_onnx(path), checkpoint, which, image_hw)
  try:
    weights = open_weights(checkpoint)
  except ValueError as error:
    raise ValueError(
      f"--checkpoint={error}" if str(error).startswith(checkpoint) else f"--checkpoint={checkpoint}: {error}"
    ) from error
  identity = {"checkpoint": shown(weights.origin), "which": which, "backbone": weights.spec.name}
  return encoder_of(loaded_backbone(weights, which, image_hw), identity)


def _encoder_of_onnx(onnx: OnnxEncoder, checkpoint: str, which: str, image_hw: tuple[int, int] | None) -> Encoder:
  """Returns the encoder in an ONNX file, run by onnxruntime."""
  height, width = onnx.image_hw
  if image_hw not in (None, onnx.image_hw):
    raise ValueError(
      f"--image-hw={image_hw[0]}x{image_hw[1]}: {checkpoint} takes images of {height}x{width}; export it again with"
      " --image-hw"
    )
  if onnx.which == "depth" or which == "teacher" != onnx.which:
    raise ValueError(f"--which={which}: {checkpoint} holds the {onnx.which}; export it again with --which={which}")

  def apply(images_u8):
    cls, tokens = onnx(images_u8)
    tokens = np.zeros((len(cls), 0), np.float32) if tokens is None else tokens
    return cls, tokens.reshape(len(cls), *onnx.grid, tokens.shape[-1])

  facts = {
    "checkpoint": shown(with_urls(str(onnx.path))),
    "which": onnx.which,
    "backbone": onnx.facts["name"],
    "precision": onnx.precision,
    "image_hw": [height, width],
  }
  missing = f"{checkpoint} has no output patch_tokens, and this needs features of cells: export it again"
  return Encoder(facts, onnx.image_hw, apply, no_cells=None if onnx.has_tokens else missing)


def untrained_backbone(spec: BackboneSpec, seed: int) -> LoadedBackbone:
  """Returns an untrained backbone, initialized with a seed."""
  module = spec.build()
  images = np.zeros((1, *spec.image_hw, 3), np.float32)
  options = options_of_one_run(jax.default_backend())
  init = jax.jit(lambda key: module.init(key, images, ("cls", "tokens")), compiler_options=options)
  variables = init(jax.random.key(seed))
  params = join_statistics(variables["params"], variables.get("batch_stats"))
  return LoadedBackbone(module, params, Preprocessing(spec.image_hw))


def encoder_of(backbone: LoadedBackbone, facts: dict[str, Any]) -> Encoder:
  """Returns the encoder of a backbone, in float32 with float32 products: the features of the exported model."""
  features = feature_function(backbone.module, backbone.preprocessing)
  variables, hw = jax.device_put(backbone.variables), backbone.preprocessing.image_hw
  apply = lambda images_u8: tuple(map(np.asarray, features(variables, images_u8)))
  return Encoder(facts | {"image_hw": list(hw)}, hw, apply)


def feature_function(module: Backbone, preprocessing: Preprocessing) -> Callable:
  """Returns (variables, (B, H, W, 3) uint8) -> the features of `Encoder.apply`, on the device, by float32 products."""

  @jax.jit
  def features(variables, images_u8):
    with jax.default_matmul_precision("highest"):
      found = module.apply(variables, preprocessing(images_u8), reads=("cls", "tokens"))
    return found.cls, found.tokens.reshape(len(images_u8), *found.grid, -1)

  return features


def flip_tested(encoder: Encoder) -> Encoder:
  """Returns an encoder with a flip test, recorded in its facts.

  Image features are the mean of the image and its mirror image. Cell features are not averaged, because then left and
  right could not be distinguished: predictions from those of the mirror image are mirrored back and averaged instead,
  see `tasks.grid_cells.average_flipped`.
  """
  return dataclasses.replace(encoder, facts=encoder.facts | {"flip_test": True}, flip_test=True)


def striped(encoder: Encoder, *pools: str) -> Encoder:
  """Returns an encoder whose image features are pooled over the cells of four horizontal stripes and concatenated.

  The stripes are those of PCB (arXiv 1711.09349). "maxima" are the largest values in a stripe, as in MGN (arXiv
  1804.01438); they do not depend on the position along the stripe. "deviations" are standard deviations, which remove
  what a whole stripe shares, such as light and ground. A linear probe learns which features matter and benefits from
  both; nearest neighbors weigh all features alike and need deviations.

  Args:
    encoder: the encoder.
    *pools: "maxima", "deviations" or both.
  """

  def apply(images_u8):
    cells = encoder.apply(images_u8)[1]
    stripes = np.array_split(cells, min(_STRIPES, cells.shape[1]), axis=1)
    return np.concatenate([_STRIPE_POOLS[p](s) for p in pools for s in stripes], axis=1), cells

  return dataclasses.replace(
    encoder.with_cells(), apply=apply, image_features=f"{' and '.join(pools)} of the cells of {_STRIPES} stripes"
  )


def _deviations(cells: np.ndarray) -> np.ndarray:
  """Returns (n, E) standard deviations of cells (n, h, w, E), 0 if they are only rounding."""
  found = cells.std((1, 2))
  return np.where(found <= NOISE * np.abs(cells).max((1, 2)), np.zeros_like(found), found)


_STRIPE_POOLS = {"maxima": lambda cells: cells.max((1, 2)), "deviations": _deviations}


def _histograms(images_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns roots of joint RGB histograms, 8 bins per channel: of four stripes, and of cells of 16x16 pixels."""
  count, height, width, _ = images_u8.shape
  codes = (images_u8.astype(np.int64) * _BINS // 256) @ np.array([_BINS**2, _BINS, 1])  # (B, H, W)
  stripes = np.concatenate([_counts(s.reshape(count, -1)) for s in np.array_split(codes, _STRIPES, axis=1)], axis=1)
  h, w = height // _CELL, width // _CELL
  cells = codes[:, : h * _CELL, : w * _CELL].reshape(count, h, _CELL, w, _CELL)
  cells = _counts(cells.transpose(0, 1, 3, 2, 4).reshape(count * h * w, -1)).reshape(count, h, w, -1)
  return np.sqrt(stripes), np.sqrt(cells)


def _constants(images_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  count, height, width, _ = images_u8.shape
  return np.ones((count, 1), np.float32), np.ones((count, height // _CELL, width // _CELL, 1), np.float32)


def _counts(codes: np.ndarray) -> np.ndarray:
  """Returns (n, 512) float32 counts of codes (n, pixels)."""
  bins = _BINS**3
  flat = codes + bins * np.arange(len(codes))[:, None]
  return np.bincount(flat.reshape(-1), minlength=bins * len(codes)).reshape(len(codes), bins).astype(np.float32)


def encode_source(encoder: Encoder, source: ImageSource, damaged: list[str]) -> Iterator[EncodedImages]:
  """Yields batches of the features of all images of a source, in order; used for cell features.

  Args:
    encoder: the encoder.
    source: the images, which are resized to `encoder.image_hw`.
    damaged: "name: reason" of each image that cannot be read is appended; it has no features.
  """
  for part in _encoded(encoder.with_cells(), source, damaged):
    encoder.variation.add(part.cells)
    yield part


def _encoded(encoder: Encoder, source: ImageSource, damaged: list[str]) -> Iterator[EncodedImages]:
  with contextlib.closing(resized_batches(source, encoder.image_hw, min(_BATCH, len(source)))) as batches:
    for batch in batches:
      images, cells = encoder.apply(batch.images_u8)
      mirrored = None
      if encoder.flip_test:
        images_mirrored, mirrored = encoder.apply(batch.images_u8[:, :, ::-1])
        images = (images + images_mirrored) / 2
      bad = [row for row, reason in enumerate(batch.reasons) if reason is not None]
      damaged += [f"{shown(source.name(batch.start + row))}: {batch.reasons[row]}" for row in bad]
      used = np.setdiff1d(np.arange(len(batch.reasons)), bad)
      if len(used):
        yield EncodedImages(batch.start + used, images[used], cells[used], None if mirrored is None else mirrored[used])


def encode_images(encoder: Encoder, source: ImageSource, damaged: list[str]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the positions (n,) and the image features (n, D) of all readable images of a source.

  If all features are equal up to rounding, they are made equal, so that rounding is not learned.
  """
  return _joined(encoder, source, damaged, lambda part: part.images)


def encode_pooled(encoder: Encoder, source: ImageSource, damaged: list[str]) -> tuple[np.ndarray, np.ndarray]:
  """As `encode_images`, with cell features averaged over an 8x4 grid appended to the image features."""

  def pooled(part: EncodedImages) -> np.ndarray:
    rows, columns = (np.array_split(np.arange(n), min(n, most)) for n, most in zip(part.cells.shape[1:3], _POOLED_HW))
    cells = [part.cells[:, r[0] : r[-1] + 1, c[0] : c[-1] + 1].mean((1, 2)) for r in rows for c in columns]
    return np.concatenate([part.images, *cells], axis=1)

  return _joined(encoder.with_cells(), source, damaged, pooled)


def _joined(
  encoder: Encoder, source: ImageSource, damaged: list[str], features_of: Callable[[EncodedImages], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
  parts = [(part.rows, features_of(part)) for part in _encoded(encoder, source, damaged)]
  if not parts:
    raise ValueError(
      f"none of the {len(source)} images of {source.identity['name']!r} can be read; the first: {damaged[0]}"
    )
  rows, features = map(np.concatenate, zip(*parts))
  encoder.variation.add(features)
  return rows, without_noise(features)
