"""Fashionpedia, or any COCO JSON read as parsing: its categories, clothes and their parts, are classes of pixels."""

import os

from input_pipeline.records import IGNORE_LABEL
from input_pipeline.sources.annotated.categories import key_of
from input_pipeline.sources.annotated.labeled_images import LabeledImage, LabeledSource, Labels, open_labeled
from input_pipeline.sources.annotated.masks import coco_mask
from input_pipeline.sources.annotated.person import Annotations
from input_pipeline.sources.annotated.photos import Photos
from input_pipeline.sources.datasets.coco import annotation_files, parsed_json
from input_pipeline.sources.datasets.coco_json import found_images


def open_fashionpedia(path: str, split: str | None, cache_dir: str, setting: str) -> LabeledSource:
  """Opens one split of Fashionpedia: whole photos with parts.png, 0 for background, then the categories by their ids.

  Masks overlap, e.g. a pocket and a coat: smaller ones are drawn over larger ones.

  Args:
    path: the folder with instances_attributes_train2020.json etc., or one of these files.
    split: train or val; None for train.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.

  Raises:
    ValueError: no such file, another format, or no usable image.
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
    raise ValueError(
      f"{setting}: {file} is JSON of another format; expected lists `images`, `annotations`, `categories`"
    )
  images, annotations, categories = tables
  categories = [category for category in categories if isinstance(category, dict) and type(category.get("id")) is int]
  categories.sort(key=lambda category: category["id"])
  if not 0 < len(categories) < IGNORE_LABEL:
    raise ValueError(f"{setting}: {file} has {len(categories)} categories; expected 1 to {IGNORE_LABEL - 1}")
  classes = {str(category["id"]): number for number, category in enumerate(categories, 1)}
  annotated, hint = Annotations(), os.path.splitext(os.path.basename(file))[0]
  rows = {
    key: LabeledImage(image["photo"] or "", image["facts"], {"parts.png": {"layers": []}}, image["size"])
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


def _add(annotation, rows: dict[str, LabeledImage], classes: dict[str, int]) -> str:
  """Adds the mask of an annotation to its image; returns why it is unusable, or "", also if the image is missing."""
  if not isinstance(annotation, dict):
    return "it is not a JSON object"
  number = classes.get(key_of(annotation.get("category_id")))
  if number is None:
    return f"it is of category {annotation.get('category_id')!r}, which the file does not list"
  row = rows.get(key_of(annotation.get("image_id")))
  if row is None:
    return f"it is of image {annotation.get('image_id')!r}, which the file does not list"
  mask = coco_mask(annotation.get("segmentation"), row.size)
  if mask is None:
    return "its mask is unusable" if row.image else ""
  row.planes["parts.png"]["layers"].append([number, mask])
  return ""
