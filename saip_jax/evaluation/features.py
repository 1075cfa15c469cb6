"""`saip embed`: the features of a folder of images."""

import collections
import contextlib
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from tqdm import tqdm

from input_pipeline.names import shown
from input_pipeline.sources.containers.folder import FolderSource
from saip_jax.evaluation.encoders import feature_function
from saip_jax.evaluation.feature_files import check_target, feature_file
from saip_jax.evaluation.resize import resized_batches
from saip_jax.interop.weights import load_backbone
from saip_jax.run_folder.remote import published
from saip_jax.training.mesh import batch_sharding, make_mesh, replicated


@dataclasses.dataclass(frozen=True)
class Embedded:
  """The result of `embed_images`.

  Attributes:
    count: number of images with features.
    shapes: name -> shape of each array of features, "cls" and optionally "tokens".
    skipped: `name: reason` for each image that could not be read.
  """

  count: int
  shapes: dict[str, tuple[int, ...]]
  skipped: list[str]


def embed_images(
  checkpoint: str | os.PathLike,
  images: str | os.PathLike,
  out: str | os.PathLike,
  which: str = "student",
  image_hw: tuple[int, int] | None = None,
  tokens: bool = False,
  batch_size: int = 64,
  overwrite: bool = False,
) -> Embedded:
  """Writes the features of all images in a folder, recursively, into one file.

  Threads decode while the device computes, in float32 with float32 products, so that the features are those of the
  exported model. All batches have one shape, so there is one compilation. Images that cannot be read are left out and
  listed in `OUT.skipped.txt`. Patch tokens take 4 N D bytes per image (vit_tiny at 256x128: 96 KiB). They are written
  to disk batch by batch; .npz needs disk space for them twice.

  Args:
    checkpoint: a path that `interop.weights.open_weights` reads.
    images: the folder, searched as by `data.source=folder`.
    out: .npz (`names`, `cls`, `tokens`) or .parquet (`name`, `cls`, `tokens`); names are paths below `images`.
    which: "student" or "teacher".
    image_hw: size in pixels that images are resized to; None for that of the weights.
    tokens: also write the patch tokens, (N, D) in raster order.
    batch_size: images per batch.
    overwrite: replace `out` if it exists.

  Returns:
    The counts and shapes of the written features.

  Raises:
    ValueError: no such folder, no readable image in it, unusable weights, or `out` cannot be written.
  """
  if batch_size < 1:
    raise ValueError(f"--batch-size={batch_size}: expected at least 1")
  with published(out, "--out") as file:
    return _embed(checkpoint, images, file, which, image_hw, tokens, batch_size, overwrite)


def _embed(checkpoint, images, out, which, image_hw, tokens, batch_size, overwrite) -> Embedded:
  """`embed_images` into a local file."""
  check_target(out, overwrite)
  with tempfile.TemporaryDirectory() as index_folder:
    source = FolderSource(images, index_folder, setting="--images")
  backbone = load_backbone(checkpoint, which=which, image_hw=image_hw)

  mesh = make_mesh()
  devices = mesh.devices.size
  batch_size = -(-min(batch_size, len(source)) // devices) * devices
  variables = jax.device_put(backbone.variables, replicated(mesh))
  features_of = feature_function(backbone.module, backbone.preprocessing)
  count, shapes, skipped = 0, {}, []
  with (
    contextlib.closing(resized_batches(source, backbone.preprocessing.image_hw, batch_size)) as batches,
    feature_file(out, skipped) as file,
    tqdm(total=len(source), unit=" images", disable=None, file=sys.stderr, dynamic_ncols=True) as bar,
  ):
    compute = lambda images_u8: features_of(variables, jax.device_put(images_u8, batch_sharding(mesh)))
    for batch, (cls, cells) in _one_behind((batch, compute(batch.images_u8)) for batch in batches):
      names = [shown(source.name(batch.start + row)) for row in range(len(batch.reasons))]
      skipped += [f"{name}: {reason}" for name, reason in zip(names, batch.reasons) if reason is not None]
      used = [row for row, reason in enumerate(batch.reasons) if reason is None]
      if used:
        features = {"cls": np.asarray(cls)[used]}
        if tokens:
          features["tokens"] = np.asarray(cells)[used].reshape(len(used), -1, cells.shape[-1])
        file.add([names[row] for row in used], features["cls"], features.get("tokens"))
        count += len(used)
        shapes = {name: (count, *array.shape[1:]) for name, array in features.items()}
      bar.update(len(names))
    if not count:
      raise ValueError(f"--images={images}: none of its {len(source)} images can be read; first: {skipped[0]}")
  return Embedded(count, shapes, skipped)


def _one_behind(items: Iterable) -> Iterator:
  """Yields the same items, each after the next one was created: the device computes while the host stores."""
  held = collections.deque()
  for item in items:
    held.append(item)
    if len(held) > 1:
      yield held.popleft()
  yield from held
