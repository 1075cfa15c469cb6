"""Pictures of an encoder on a few images: attention, features of patches, nearest neighbors."""

import contextlib
import dataclasses

import jax
import numpy as np

from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import SubsetSource
from saip_jax.evaluation.encoders import Encoder, encode_source, encoder_of
from saip_jax.evaluation.resize import resized_batches
from saip_jax.evaluation.splits import Data, LabeledImages, cameras
from saip_jax.interop.weights import LoadedBackbone
from saip_jax.reporting.images import jpeg_uri, png_uri
from saip_jax.reporting.page import escape, missing

_QUERIES, _NEIGHBORS, _GALLERY = 8, 6, 120  # seconds on two cores
_MOST_OF_ONE = 8  # gallery images of one person, so that there are other persons too
_ATTENDED, _COLORED = 6, 8
_SHOWN_HEIGHT = 192  # pixels
_COLD_TO_HOT = np.array([[0, 0, 30], [70, 15, 110], [190, 50, 90], [250, 150, 40], [255, 250, 160]])


@dataclasses.dataclass(frozen=True)
class Chosen:
  """The images of a report.

  Attributes:
    name: name of the data set.
    query: queries, of different persons if identities are known.
    gallery: the gallery; None if there is none.
    no_search: why there is no gallery; None if there is one.
  """

  name: str
  query: LabeledImages
  gallery: LabeledImages | None
  no_search: str | None


def choose_images(data: Data) -> Chosen:
  """Returns a few images of the test part, always the same ones.

  Raises:
    ValueError: the data set cannot be opened, or has no test part.
  """
  try:
    query, gallery = data.query_and_gallery()
    ids, others = (np.array(side.of_first_persons("identity", "a search")) for side in (query, gallery))
    found = _searchable(query, gallery, ids, others)
  except ValueError as error:
    test = data.train_and_test()[1]  # raises if more than identities is missing
    return _without_search(test, str(error))
  if not len(found):
    return _without_search(query, "no person is seen by two cameras")
  first = found[np.unique(ids[found], return_index=True)[1]]
  queries = np.sort(_spread(first, _QUERIES))
  wanted = np.concatenate([_spread(np.flatnonzero(others == i), _MOST_OF_ONE) for i in ids[queries]])
  rest = np.setdiff1d(np.arange(len(gallery)), np.flatnonzero(np.isin(others, ids[queries])))
  rows = np.sort(np.concatenate([wanted, _spread(rest, max(_GALLERY - len(wanted), 0))]))
  return Chosen(query.source.identity["name"], _part(query, queries), _part(gallery, rows), None)


def _without_search(images: LabeledImages, reason: str) -> Chosen:
  rows = _spread(np.arange(len(images)), _QUERIES)
  return Chosen(images.source.identity["name"], _part(images, rows), None, reason)


def _searchable(query: LabeledImages, gallery: LabeledImages, ids: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Returns the queries of persons that another camera shows too."""
  seen: dict = {}
  for person, camera in zip(others.tolist(), cameras(gallery).tolist()):
    seen.setdefault(person, set()).add(camera)
  elsewhere = [bool(seen.get(p, set()) - {c}) for p, c in zip(ids.tolist(), cameras(query).tolist())]
  distractor = query.legend.get("distractor")
  return np.flatnonzero(np.array(elsewhere) & (ids != distractor))


def _part(whole: LabeledImages, rows: np.ndarray) -> LabeledImages:
  return LabeledImages(SubsetSource(whole.source, rows, "of the report"))


def _spread(items: np.ndarray, count: int) -> np.ndarray:
  """Returns at most `count` items, evenly spaced from first to last."""
  return items[np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))]


def encoder_html(backbone: LoadedBackbone, images: Chosen) -> str:
  """Returns the HTML of attention, features of patches and nearest neighbors."""
  encoder = encoder_of(backbone, {})
  shown_hw = tuple(round(side * _SHOWN_HEIGHT / encoder.image_hw[0]) for side in encoder.image_hw)
  shown = _resized(images.query.source, shown_hw)
  faults: list[str] = []
  parts = list(encode_source(encoder, images.query.source, faults))
  rows = np.concatenate([part.rows for part in parts]) if parts else np.zeros(0, int)
  if not len(rows):
    return missing(f"None of the images of {images.name} can be read: {faults[0]}")
  features, cells = (np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "cells"))
  html = [
    "<h3>Attention of the class token, last block</h3>",
    _attention_html(backbone, images, shown, rows[:_ATTENDED]),
    "<h3>Patch features in three colors</h3>",
    _colors_html(cells[:_COLORED], shown[rows[:_COLORED]]),
    "<h3>Nearest neighbors</h3>",
    missing(f"Nothing to search: {images.no_search}.", "saip report W --data=people")
    if images.gallery is None
    else _neighbors_html(encoder, images, shown, rows, features, faults),
  ]
  if faults:
    html.append(missing(f"{len(faults)} images cannot be read and are left out, first: {faults[0]}"))
  return "".join(html)


def _attention_html(backbone: LoadedBackbone, images: Chosen, shown: np.ndarray, rows: np.ndarray) -> str:
  module = backbone.module
  if not module.has_attention:
    return missing(f"{type(module).__name__} has no class token, so there is no attention to show: only ViTs have one.")
  hw = backbone.preprocessing.image_hw
  inputs = backbone.preprocessing(_resized(images.query.source, hw)[rows])
  read = jax.jit(lambda variables, x: module.apply(variables, x, reads=("cls", "attention")).attention[0])
  grid = module.hidden_grid(hw)
  maps = np.asarray(read(backbone.variables, inputs))[:, :, 0, -grid[0] * grid[1] :]  # (B, heads, N)
  blocks = []
  for row, heads in zip(rows, maps):
    figures = [_figure(jpeg_uri(shown[row]), "image")]
    figures += [
      _figure(jpeg_uri(_heated(shown[row], head.reshape(grid))), f"head {i}, {head.sum():.0%}")
      for i, head in enumerate(heads, 1)
    ]
    blocks.append(f'<div class="row">{"".join(figures)}</div>')
  return (
    f"<p>Bright: the largest attention of a head, scaled for each map; a map has {grid[0]}x{grid[1]} cells. The number "
    f'is the attention to all cells; the rest is to the class token.</p><div class="rows">{"".join(blocks)}</div>'
  )


def _heated(image_u8: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Returns a gray image with a grid of values >= 0 as colors: dark for 0, bright for the largest."""
  height, width, _ = image_u8.shape
  at = [np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1) for n, m in zip((height, width), values.shape)]
  weights = [np.maximum(0, 1 - np.abs(a[:, None] - np.arange(m))) for a, m in zip(at, values.shape)]
  heat = weights[0] @ (values / max(values.max(), 1e-12)) @ weights[1].T  # bilinear
  stops = np.linspace(0, 1, len(_COLD_TO_HOT))
  color = np.stack([np.interp(heat, stops, channel) for channel in _COLD_TO_HOT.T], axis=-1)
  return (0.35 * image_u8.mean(-1, keepdims=True) + 0.65 * color).astype(np.uint8)


def feature_colors(cells: np.ndarray) -> tuple[np.ndarray, float]:
  """Returns the first three principal components of the features of cells as red, green and blue.

  Args:
    cells: (n, h, w, E) features of all cells of n images.

  Returns:
    (n, h, w, 3) uint8: similar colors are similar features; and the share of the variance that they explain.
  """
  flat = cells.reshape(-1, cells.shape[-1]).astype(np.float64)
  flat = flat - flat.mean(0)
  _, strengths, directions = np.linalg.svd(flat, full_matrices=False)
  directions = directions[:3]
  largest = np.abs(directions).argmax(1)
  directions = (
    directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
  )  # signs of components are arbitrary
  values = np.zeros((len(flat), 3))
  values[:, : len(directions)] = flat @ directions.T
  low, high = np.percentile(values, [1, 99], axis=0)
  colors = np.clip((values - low) / np.where(high > low, high - low, 1), 0, 1)
  share = (strengths[:3] ** 2).sum() / max((strengths**2).sum(), 1e-30)
  return (255 * colors).astype(np.uint8).reshape(*cells.shape[:3], 3), share


def _colors_html(cells: np.ndarray, shown: np.ndarray) -> str:
  """Returns the HTML of cells (n, h, w, E): their `feature_colors`, each beside its image."""
  colors, share = feature_colors(cells)
  pairs = "".join(
    f'<div class="row">{_figure(jpeg_uri(image), "image")}'
    f"{_figure(png_uri(color), 'features', size_hw=image.shape[:2])}</div>"
    for image, color in zip(shown, colors)
  )
  return (
    f"<p>The first three principal components of the features of all cells of all images, as red, green and blue: "
    f"similar colors are similar features. They explain {share:.0%} of the variance; a map has "
    f'{cells.shape[1]}x{cells.shape[2]} cells.</p><div class="rows">{pairs}</div>'
  )


def _neighbors_html(
  encoder: Encoder, images: Chosen, shown: np.ndarray, rows: np.ndarray, features: np.ndarray, faults: list[str]
) -> str:
  parts = list(encode_source(encoder, images.gallery.source, faults))
  if not parts:
    return missing("None of the images of the gallery can be read.")
  others = np.concatenate([part.rows for part in parts])
  gallery = _unit(np.concatenate([part.images for part in parts]))
  ids, cams = np.array(images.query.of_first_persons("identity", "a search"))[rows], cameras(images.query)[rows]
  other_ids = np.array(images.gallery.of_first_persons("identity", "a search"))[others]
  other_cams = cameras(images.gallery)[others]
  similar = _unit(features) @ gallery.T
  similar[(ids[:, None] == other_ids) & (cams[:, None] == other_cams)] = -np.inf
  nearest = np.argsort(-similar, axis=1, kind="stable")[:, :_NEIGHBORS]
  wanted = np.unique(nearest)
  pictures = dict(
    zip(wanted.tolist(), _resized(SubsetSource(images.gallery.source, others[wanted], "shown"), shown.shape[1:3]))
  )
  right, blocks, first = 0, [], 0
  for i, row in enumerate(rows):
    figures = [_figure(jpeg_uri(shown[row]), "query", "query")]
    for rank, j in enumerate(nearest[i]):
      if not np.isfinite(similar[i, j]):
        continue
      same = bool(ids[i] == other_ids[j])
      right, first = right + same, first + (same and rank == 0)
      name = images.gallery.source.name(int(others[j]))
      caption = f"{'✓' if same else '✗'} {similar[i, j]:.3f}"  # not by color alone
      figures.append(_figure(jpeg_uri(pictures[int(j)]), caption, "right" if same else "wrong", name))
    blocks.append(f'<div class="row">{"".join(figures)}</div>')
  persons = len(np.unique(other_ids))
  return (
    f"<p>The nearest of {len(others)} images of {persons} persons by the cosine of image features, shown below each "
    f"image. Images of the person by the query's own camera are excluded. Green: the same person; red: another. The "
    f"first is right for {first} of {len(rows)} queries, {right} of all shown are right. This is a small sample: use "
    f"saip evaluate for scores.</p>"
    f'<div class="rows">{"".join(blocks)}</div>'
  )


def _unit(features: np.ndarray) -> np.ndarray:
  return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _resized(source: ImageSource, hw: tuple[int, int]) -> np.ndarray:
  """Returns all images of a source, (n, H, W, 3) uint8; unreadable ones are black."""
  with contextlib.closing(resized_batches(source, hw, len(source))) as batches:
    return next(batches).images_u8


def _figure(uri: str, caption: str, kind: str = "", name: str = "", size_hw: tuple[int, int] | None = None) -> str:
  size = f' class="cells" style="aspect-ratio: {size_hw[1]} / {size_hw[0]}"' if size_hw else ""
  title = f' title="{escape(name)}"' if name else ""
  return (
    f'<figure class="{kind}"{title}><img{size} src="{uri}" alt="{escape(name or caption)}">{escape(caption)}</figure>'
  )
