"""Exact labels of the people in a view, from the rendered geometry."""

import numpy as np

from input_pipeline.body import COCO_JOINTS
from input_pipeline.people.attributes import caption, label_attributes
from input_pipeline.people.landmarks import LANDMARKS, place_landmarks
from input_pipeline.people.raycast import Camera
from input_pipeline.people.render import View
from input_pipeline.people.scene import PosedPerson, Scene

# A visible joint may lie this much deeper under the surface than its limb's radius: cloth, bent limbs.
_CLOTH = 0.03  # meters


def label_pixels(scene: Scene, view: View) -> tuple[np.ndarray, np.ndarray]:
  """Returns the person and the part that each pixel shows: instances and parts, (H, W) uint8 (see `Picture`)."""
  solids = [(k + 1, solid.label) for k, person in enumerate(scene.people) for solid in person.solids]
  total = len(view.boxes) + 1  # the last entry serves -1, no solid
  instance_of, part_of = np.zeros(total, np.uint8), np.zeros(total, np.uint8)
  for number, (instance, part) in enumerate(solids):
    if part:
      instance_of[number], part_of[number] = instance, part
  return instance_of[view.solid], part_of[view.solid]


def label_people(
  rng: np.random.Generator, scene: Scene, camera: Camera, view: View, instances: np.ndarray
) -> list[dict]:
  """Returns the JSON-able labels of all `scene.people` (see `Picture`); rng draws the wording of captions."""
  first, labels = 0, []
  for number, person in enumerate(scene.people, start=1):
    solids = slice(first, first + len(person.solids))
    first = solids.stop
    labels.append(_label_person(rng, person, camera, view, solids, instances == number))
  return labels


def facing(person: PosedPerson, camera: Camera) -> str:
  """Returns the orientation of the trunk to the camera: front within 45 degrees, back beyond 135, side between."""
  front, towards = person.rotations["chest"][:, 2][[0, 2]], (camera.position - person.positions["chest"])[[0, 2]]
  cosine = front @ towards / (np.linalg.norm(front) * np.linalg.norm(towards) + 1e-9)
  return "front" if cosine > np.sqrt(0.5) else "back" if cosine < -np.sqrt(0.5) else "side"


def _label_person(rng, person: PosedPerson, camera: Camera, view: View, solids: slice, mask: np.ndarray) -> dict:
  points = camera.to_camera(place_landmarks(person.body, person.positions, person.rotations))
  places = camera.to_pixels(points)
  visible = _visible(person, points, places, view, solids.start)
  turned = facing(person, camera)
  rows, columns = np.nonzero(mask)
  box = [0, 0, 0, 0]
  if len(rows):
    box = [columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()]
  worn = [solid.label > 0 for solid in person.solids]
  (left, top), (right, bottom) = view.boxes[solids][worn, :2].min(0), view.boxes[solids][worn, 2:].max(0)
  return {
    "identity": person.identity,
    "facing": turned,
    "keypoints": [[float(x), float(y), int(v)] for (x, y), v in zip(places, visible[: len(COCO_JOINTS)])],
    "landmarks_xyz": points.tolist(),
    "box_full": [float(value) for value in (left, top, right - left, bottom - top)],
    "box_visible": [int(value) for value in box],
    "area": len(rows),
    "attributes": [int(value) for value in label_attributes(person.body, person.outfit, turned).values()],
    "caption": caption(rng, person.body, person.outfit, turned),
  }


def _visible(person: PosedPerson, points, places, view: View, first: int) -> np.ndarray:
  """Returns COCO's v of every landmark: 0 outside the image, 1 hidden, 2 visible.

  A landmark is visible if it lies directly under the surface that its pixel shows, and if that surface belongs to the
  landmark's own limb.
  """
  height, width = view.depth.shape
  flags = np.zeros(len(points), int)
  for number, (mark, (x, y, z), (column, row)) in enumerate(
    zip(LANDMARKS.values(), points, np.floor(places).astype(int))
  ):
    if z <= 0 or not (0 <= row < height and 0 <= column < width):
      continue
    flags[number] = 1
    seen = view.solid[row, column] - first
    if 0 <= seen < len(person.solids) and person.solids[seen].label and person.solids[seen].part in mark.parts:
      under = z - view.depth[row, column]
      flags[number] += -_CLOTH < under < mark.radius * person.body.stature * person.body.build + _CLOTH
  return flags
