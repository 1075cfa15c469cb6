"""Fashionpedia, and any COCO JSON whose categories are to be classes of pixels: clothes and their parts."""

import os

from input_pipeline.records import UNCOUNTED
from input_pipeline.sources.annotated.categories import key_of
from input_pipeline.sources.annotated.masks import coco_mask
from input_pipeline.sources.annotated.person import Annotated
from input_pipeline.sources.annotated.photos import Photos
from input_pipeline.sources.annotated.whole import Labeled, LabeledSource, Labels, open_labeled
from input_pipeline.sources.datasets.coco import annotation_files, parsed_json
from input_pipeline.sources.datasets.coco_json import found_images


def open_fashionpedia(path: str, split: str | None, cache_dir: str, setting: str) -> LabeledSource:
  """One split of Fashionpedia, whole photos with parts.png: 0 for the background, then its categories in their order.

  Masks lie over one another, a pocket over a coat: smaller ones over larger ones.

  Args:
    path: the folder with instances_attributes_train2020.json and the like, or one of these files.
    split: train or val; None: train.
    cache_dir: where the list of images is remembered.
    setting: the option that gave `path`, for messages.

  Raises:
    ValueError: no such file, of another form, or no usable image.
  """
  root, [file], photo_root = annotation_files(path, split, setting)
  return open_labeled(
    "fashionpedia",
    root,
    photo_root,
    [file],
    lambda: _read(file, Photos(photo_root), setting),
    cache_dir=cache_dir,
    setting=setting,
    protocol={"split": split or "train"},
  )


def _read(file: str, photos: Photos, setting: str) -> Labels:
  content = parsed_json(file, setting)
  tables = [content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations", "categories")]
  if not all(isinstance(table, list) for table in tables):
    raise ValueError(f"{setting}: {file} is JSON of another kind; expected lists `images`, `annotations`, `categories`")
  images, annotations, categories = tables
  categories = [category for category in categories if isinstance(category, dict) and type(category.get("id")) is int]
  categories.sort(key=lambda category: category["id"])
  if not 0 < len(categories) < UNCOUNTED:
    raise ValueError(f"{setting}: {file} has {len(categories)} categories; a pixel can tell {UNCOUNTED - 1} apart")
  classes = {str(category["id"]): number for number, category in enumerate(categories, 1)}
  annotated, hint = Annotated(), os.path.splitext(os.path.basename(file))[0]
  rows = {
    key: Labeled(image["photo"] or "", image["facts"], {"parts.png": {"layers": []}}, image["size"])
    for key, image in found_images(images, photos, annotated, hint).items()
  }
  for position, annotation in enumerate(annotations):
    reason = _add(annotation, rows, classes)
    if reason:
      annotated.left_out.append((f"{hint}: annotation {position}", reason))
  parts = ["background", *(str(category.get("name")) for category in categories)]
  return Labels(
    photos,
    [row for row in rows.values() if row.image],
    annotated.left_out,
    {"parts": parts},
    protocol={"classes": len(parts)},
    in_pixels=True,
  )


def _add(annotation, rows: dict[str, Labeled], classes: dict[str, int]) -> str:
  """Lays the mask of an annotation on its image; why it cannot be, or "". Images that are not there are no fault."""
  if not isinstance(annotation, dict):
    return "it is no object"
  number = classes.get(key_of(annotation.get("category_id")))
  if number is None:
    return f"it is of category {annotation.get('category_id')!r}, which the file does not list"
  row = rows.get(key_of(annotation.get("image_id")))
  if row is None:
    return f"it is of image {annotation.get('image_id')!r}, which the file does not list"
  mask = coco_mask(annotation.get("segmentation"), row.size)
  if mask is None:
    return "its mask cannot be used" if row.image else ""
  row.planes["parts.png"]["layers"].append([number, mask])
  return ""
