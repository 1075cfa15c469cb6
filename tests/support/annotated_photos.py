"""Makes small annotated photos for the tests: dark ones with a light square around each keypoint."""

import json

import cv2
import numpy as np


def write_photo(path, hw=(120, 160), seed=0, exif_orientation=None):
  """A photo of smooth noise, JPEG or PNG by its name."""
  from PIL import Image

  rng = np.random.default_rng(seed)
  small = rng.integers(0, 256, (6, 8, 3), np.uint8)
  image = Image.fromarray(cv2.resize(small, hw[::-1], interpolation=cv2.INTER_CUBIC))
  path.parent.mkdir(parents=True, exist_ok=True)
  exif = Image.Exif()
  if exif_orientation:
    exif[0x0112] = exif_orientation
  image.save(path, **({"exif": exif} if exif_orientation else {}), **({"quality": 95} if path.suffix == ".jpg" else {}))


def coco(images, annotations, categories=None, **further):
  """A COCO JSON's content: images as (id, file name, height, width)."""
  return {
    "images": [{"id": i, "file_name": name, "height": h, "width": w} for i, name, h, w in images],
    "annotations": annotations,
    "categories": categories or [{"id": 1, "name": "person"}],
  } | further


def annotation(id, image_id, bbox, **further):
  return {"id": id, "image_id": image_id, "category_id": 1, "bbox": bbox, "iscrowd": 0} | further


def write_json(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(content))
  return path


def names(source):
  return [source.name(i) for i in range(len(source))]


def decoded(source, i):
  return cv2.imdecode(np.frombuffer(source.read(i), np.uint8), cv2.IMREAD_COLOR)


def person(source, i):
  """The facts of the one person in crop i."""
  [found] = source.annotations(i)[0]["people"]
  return found


def mask(source, i):
  return cv2.imdecode(np.frombuffer(source.annotations(i)[1]["instances.png"], np.uint8), cv2.IMREAD_UNCHANGED)
