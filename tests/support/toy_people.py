"""Toy images for tests of rendered sets: quick to render, with every label, and consistent, but without persons."""

import functools

import numpy as np

from input_pipeline.people.attributes import ATTRIBUTES
from input_pipeline.people.landmarks import LANDMARKS
from input_pipeline.people.picture import Picture
from input_pipeline.people.prepare import prepare_people
from input_pipeline.people.spec import SetSpec, split_of_picture

_COLORS = ("red", "green", "blue", "white", "black", "brown", "grey", "pink")


def toy_picture(spec: SetSpec, index: int) -> Picture:
  """Replaces `render_picture`: an upright rectangle; in scenes several, and later ones occlude earlier ones."""
  rng = np.random.default_rng((spec.seed, index))
  height, width = spec.image_hw
  instances, depth = np.zeros(spec.image_hw, np.uint8), np.full(spec.image_hw, 30.0625, np.float32)
  depth[: height // 4] = 0
  boxes = [_box(rng, height, width) for _ in range(rng.integers(2, 5) if spec.composition == "scenes" else 1)]
  if spec.composition == "scenes":
    boxes[1] = boxes[0]  # occludes the first person completely
  for k, (x, y, w, h) in enumerate(boxes, 1):
    instances[y : y + h, x : x + w], depth[y : y + h, x : x + w] = k, 9 - k
  turn, identity = divmod(index, spec.identities) if spec.composition == "crops" else (index, index // 8)
  focal = 1.5 * height
  people = [
    _person(rng, (identity + k) % spec.identities, instances == k + 1, box, focal) for k, box in enumerate(boxes)
  ]
  facts = {
    "index": index,
    "composition": spec.composition,
    "split": split_of_picture(spec, index),
    "group": index // 4,
    "camera": turn // 2 % 6,
    "time": index / 3,
    "camera_matrix": [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]],
    "world_to_camera": rng.normal(size=(3, 4)).tolist(),
    "people": people,
  }
  parts = np.where(instances, rng.integers(1, 20, spec.image_hw), 0).astype(np.uint8)
  image = np.clip(rng.integers(0, 200, 3) + 40 * (instances[..., None] > 0), 0, 255).astype(np.uint8)
  return Picture(np.broadcast_to(image, (*spec.image_hw, 3)).copy(), depth, instances, parts, 80 + index % 15, facts)


def _box(rng, height, width):
  w, h = rng.integers(2, width // 2), rng.integers(4, height // 2)
  return [int(n) for n in (rng.integers(0, width - w), rng.integers(0, height - h), w, h)]


def _person(rng, identity, mask, box, focal):
  height, width = mask.shape
  landmarks = rng.normal(size=(len(LANDMARKS), 3)) + (0, 0, 6)
  xy = landmarks[:17, :2] / landmarks[:17, 2:] * focal + (width / 2, height / 2)
  inside = ((xy >= 0) & (xy < (width, height))).all(1)
  rows, columns = np.nonzero(mask)
  visible = [0, 0, 0, 0]
  if len(rows):
    visible = [int(n) for n in (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)]
  return {
    "identity": identity,
    "facing": "side",
    "box_full": [float(n) for n in box],
    "box_visible": visible,
    "area": int(mask.sum()),
    "landmarks_xyz": landmarks.tolist(),
    "keypoints": [[x, y, int(v)] for (x, y), v in zip(xy.tolist(), inside * rng.integers(1, 3, 17))],
    "attributes": rng.integers(0, 2, len(ATTRIBUTES)).tolist(),
    "caption": f'Person {identity} in "plain" {_COLORS[identity % len(_COLORS)]} clothes.',
  }


HW = (64, 32)


def spec_of(composition="crops", identities=4, seed=0, hw=HW):
  return SetSpec(composition, hw, seed, 120 if composition == "scenes" else identities)


prepare = functools.partial(prepare_people, progress=False, processes=1)
