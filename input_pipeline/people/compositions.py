"""What the image at each index shows: crops, multi-view groups, motion clips and street scenes of one population."""

import dataclasses
from typing import NamedTuple

import numpy as np

from input_pipeline.people.labels import label_people, label_pixels
from input_pipeline.people.light import Light
from input_pipeline.people.motion import Motion, sample_pose
from input_pipeline.people.picture import Picture
from input_pipeline.people.place import Place
from input_pipeline.people.raycast import Camera
from input_pipeline.people.render import View, render
from input_pipeline.people.scene import PosedPerson, Scene, sample_identity, sample_person, sample_prop
from input_pipeline.people.spec import (
  COMPOSITIONS,
  FRAME_SECONDS,
  FRAMES,
  MOST_PEOPLE,
  STATIONS,
  VIEWS,
  SetSpec,
  group_size,
  identity_of_picture,
  split_of,
  split_of_picture,
)
from input_pipeline.people.station import Exposure, Station

_LEAST_VISIBLE = 0.035  # share of a crop; if its person covers less, bystanders and props are removed
_DEEPEST = 14.0  # meters; people stand at most this far behind the middle of a scene
_PICTURE_STREAM, _MOMENT_STREAM, _STATIONS_STREAM = 2, 3, 5


def render_picture(spec: SetSpec, index: int) -> Picture:
  """Renders one image of a set, the same one in every process.

  Args:
    spec: the set.
    index: number of the image, 0 or more.

  Returns:
    The image with its labels.
  """
  compose = {"crops": _crop, "views": _view, "clips": _clip, "scenes": _street}[spec.composition]
  rng = np.random.default_rng((spec.seed, _PICTURE_STREAM, COMPOSITIONS.index(spec.composition), index))
  shot = compose(spec, index, rng)
  view, instances, parts = _render_shot(shot)
  if spec.composition == "crops" and (instances > 0).mean() < _LEAST_VISIBLE:
    shot = shot._replace(scene=dataclasses.replace(shot.scene, bystanders=[], props=[]))
    view, instances, parts = _render_shot(shot)
  annotations = {
    "index": index,
    "composition": spec.composition,
    "split": split_of_picture(spec, index),
    "group": index // group_size(spec.composition),
    "camera": shot.station,
    "time": shot.time,
    "camera_matrix": shot.camera.matrix().tolist(),
    "world_to_camera": shot.camera.pose().tolist(),
    "people": label_people(rng, shot.scene, shot.camera, view, instances),
  }
  depth = np.where(np.isfinite(view.depth), view.depth, np.float32(0))
  image = shot.exposure.develop(rng, view.light_rgb)
  return Picture(image, depth, instances, parts, shot.exposure.jpeg_quality, annotations)


def _render_shot(shot: "_Shot") -> tuple[View, np.ndarray, np.ndarray]:
  view = render(shot.scene, shot.camera)
  return view, *label_pixels(shot.scene, view)


class _Shot(NamedTuple):
  """A moment and the camera that takes it."""

  time: float
  station: int
  exposure: Exposure
  scene: Scene
  camera: Camera


def _crop(spec: SetSpec, index: int, rng: np.random.Generator) -> _Shot:
  identity, occurrence = identity_of_picture(spec, index), index // spec.identities
  number = int(_stations_of(spec.seed, identity)[occurrence // 2 % VIEWS])
  station = Station.of(spec.seed, number)
  moment, yaw = _time_of_day(rng), rng.uniform(0, 2 * np.pi)
  subject = PosedPerson.standing(
    identity, *sample_identity(spec.seed, identity), sample_pose(rng), rng.uniform(0, 2 * np.pi), (0.0, 0.0)
  )
  camera = _frame(rng, subject, station, yaw, spec.image_hw, truncated=rng.random() < 0.14)
  reach = float(np.linalg.norm((camera.position - subject.middle())[[0, 2]]))
  place = Place.sample(rng, (yaw,), clear_radius=reach + 1, behind=1.0, panels=9)
  bystanders, props = [], []
  if rng.random() < 0.2:
    ahead = rng.uniform(0.45, max(0.5, 0.6 * reach))
    aside = rng.uniform(0.1, 0.38) * rng.choice([-1, 1])
    if rng.random() < 0.25:
      bystanders.append(_passer_by(rng, _seen_from(yaw, ahead, aside * 1.4)))
    else:
      props.append(sample_prop(rng, _seen_from(yaw, ahead, aside), _seen_from(yaw, 0, 1)))
  for _ in range(rng.integers(1, 3) if rng.random() < 0.3 else 0):
    behind = rng.uniform(3, 18)
    half_view = spec.image_hw[1] / 2 / camera.focal * (reach + behind)
    bystanders.append(_passer_by(rng, _seen_from(yaw, -behind, rng.uniform(-1.1, 1.1) * half_view)))
  scene = Scene(place, Light.sample(rng, moment), [subject], bystanders, props)
  return _Shot(moment, number, station.expose(rng), scene, camera)


def _view(spec: SetSpec, index: int, rng: np.random.Generator) -> _Shot:
  group, view = divmod(index, VIEWS)
  moment_rng = np.random.default_rng((spec.seed, _MOMENT_STREAM, 1, group))
  identity, moment = identity_of_picture(spec, index), _time_of_day(moment_rng)
  subject = PosedPerson.standing(
    identity,
    *sample_identity(spec.seed, identity),
    sample_pose(moment_rng),
    moment_rng.uniform(0, 2 * np.pi),
    (0.0, 0.0),
  )
  yaws = moment_rng.uniform(0, 2 * np.pi) + 2 * np.pi / VIEWS * np.arange(VIEWS) + moment_rng.uniform(-0.5, 0.5, VIEWS)
  numbers = moment_rng.permutation(STATIONS)[:VIEWS]
  stations = [Station.of(spec.seed, int(number)) for number in numbers]
  cameras = [_frame(moment_rng, subject, station, yaw, spec.image_hw) for station, yaw in zip(stations, yaws)]
  farthest = max(np.linalg.norm(camera.position) for camera in cameras)
  place = Place.sample(moment_rng, tuple(yaws), clear_radius=farthest + 1, behind=1.0, panels=24)
  scene = Scene(place, Light.sample(moment_rng, moment), [subject], [], [])
  return _Shot(moment, int(numbers[view]), stations[view].expose(rng), scene, cameras[view])


def _clip(spec: SetSpec, index: int, rng: np.random.Generator) -> _Shot:
  group, frame = divmod(index, FRAMES)
  clip_rng = np.random.default_rng((spec.seed, _MOMENT_STREAM, 2, group))
  identity, start, number = identity_of_picture(spec, index), _time_of_day(clip_rng), int(clip_rng.integers(STATIONS))
  body, outfit = sample_identity(spec.seed, identity)
  motion, heading, offset = Motion.sample(clip_rng), clip_rng.uniform(0, 2 * np.pi), clip_rng.uniform(0, 2)

  def at(elapsed: float) -> PosedPerson:
    gone = motion.speed * body.stature / 1.7 * (elapsed - FRAMES * FRAME_SECONDS / 2)
    return PosedPerson.standing(
      identity, body, outfit, motion.pose(offset + elapsed), heading, (gone * np.sin(heading), gone * np.cos(heading))
    )

  yaw, station = clip_rng.uniform(0, 2 * np.pi), Station.of(spec.seed, number)
  camera = _frame(clip_rng, at(FRAMES * FRAME_SECONDS / 2), station, yaw, spec.image_hw, shares=(0.6, 0.75))
  place = Place.sample(clip_rng, (yaw,), clear_radius=float(np.linalg.norm(camera.position)) + 1, behind=2.0, panels=9)
  light, exposure = Light.sample(clip_rng, start), station.expose(clip_rng)
  elapsed = frame * FRAME_SECONDS
  subject = at(elapsed)
  # A crop that follows the walker is a moving window of a fixed camera's image: only the principal point changes.
  drift = camera.to_pixels(camera.to_camera(subject.middle())) - np.array(spec.image_hw[::-1]) / 2
  camera = dataclasses.replace(camera, center_xy=tuple(np.array(camera.center_xy) - drift + rng.normal(0, 0.5, 2)))
  return _Shot(start + elapsed, number, exposure, Scene(place, light, [subject], [], []), camera)


def _street(spec: SetSpec, index: int, rng: np.random.Generator) -> _Shot:
  moment, number, yaw = _time_of_day(rng), int(rng.integers(STATIONS)), rng.uniform(0, 2 * np.pi)
  height, width = spec.image_hw
  lens = max(height, width) * rng.uniform(0.8, 1.5)
  reach, high = rng.uniform(5, 13), rng.uniform(1.5, 5.5)
  camera = Camera.looking_at(
    _seen_from(yaw, reach, 0) + (0, high, 0),
    _seen_from(yaw, 0, 0) + (0, 0.9, 0),
    rng.normal(0, 0.02),
    lens,
    (width / 2, height / 2),
    spec.image_hw,
  )
  crowd = [k for k in range(spec.identities) if split_of(k) == split_of(index)]
  chosen = rng.choice(crowd, int(rng.integers(1, MOST_PEOPLE + 1)), replace=False)
  people, spots = [], []
  heading = 0.0
  for identity in chosen:
    companion = bool(people) and rng.random() < 0.3
    for _ in range(20):
      if companion:
        spot = spots[-1] + rng.uniform(0.55, 0.95) * np.array([np.cos(heading), -np.sin(heading)]) * rng.choice([-1, 1])
      else:
        # From close enough to fill the image to so far that a head is a few pixels: uniform in the logarithm.
        away = np.exp(rng.uniform(np.log(lens * 1.7 / (0.9 * height)), np.log(reach + _DEEPEST)))
        aside = rng.uniform(-0.54, 0.54) * width / lens * away
        spot = _seen_from(yaw, reach - away, aside)[[0, 2]]
      if all(np.hypot(*(spot - other)) > 0.5 for other in spots):
        break
    else:
      continue
    heading = heading if companion else rng.uniform(0, 2 * np.pi)
    spots.append(spot)
    people.append(
      PosedPerson.standing(
        int(identity), *sample_identity(spec.seed, int(identity)), sample_pose(rng), heading, tuple(spot)
      )
    )
  props = []
  for _ in range(rng.integers(0, 4)):
    away = rng.uniform(2.5, 15)
    spot = _seen_from(yaw, reach - away, rng.uniform(-0.5, 0.5) * width / lens * away)
    if all(np.hypot(*(spot[[0, 2]] - other)) > 1.0 for other in spots):
      props.append(sample_prop(rng, spot, _seen_from(yaw, 0, 1)))
  place = Place.sample(rng, (yaw,), clear_radius=reach + 5, behind=_DEEPEST + 1, panels=24)
  scene = Scene(place, Light.sample(rng, moment), people, [], props)
  return _Shot(moment, number, Station.of(spec.seed, number).expose(rng), scene, camera)


def _stations_of(seed: int, identity: int) -> np.ndarray:
  """Returns the 4 cameras that an identity passes."""
  return np.random.default_rng((seed, _STATIONS_STREAM, identity)).permutation(STATIONS)[:VIEWS]


def _time_of_day(rng: np.random.Generator) -> float:
  """Draws seconds since midnight, in daylight."""
  return float(rng.uniform(7, 19) * 3600)


def _seen_from(yaw: float, towards: float, aside: float) -> np.ndarray:
  """Returns a spot on the ground, meters from the origin towards a camera at azimuth `yaw` and to its right."""
  return np.array([towards * np.sin(yaw) + aside * np.cos(yaw), 0.0, towards * np.cos(yaw) - aside * np.sin(yaw)])


def _passer_by(rng: np.random.Generator, spot: np.ndarray) -> PosedPerson:
  return PosedPerson.standing(-1, *sample_person(rng), sample_pose(rng), rng.uniform(0, 2 * np.pi), (spot[0], spot[2]))


def _frame(
  rng: np.random.Generator,
  person: PosedPerson,
  station: Station,
  yaw: float,
  image_hw: tuple[int, int],
  shares: tuple[float, float] = (0.76, 0.95),
  truncated: bool = False,
) -> Camera:
  """Returns a station's camera that looks at the person, framed as detectors do.

  The pose takes one of `shares` of the image height, or nearly the whole width. If `truncated`, a part of it is cut
  off.
  """
  height, width = image_hw
  focal, pitch = height * rng.uniform(*station.focal), np.deg2rad(rng.uniform(*station.pitch_degrees))
  share = rng.uniform(*shares)
  shift = np.array([rng.normal(0, 0.04) * width, rng.normal(0, 0.015) * height])
  if truncated and rng.random() < 0.6:  # the legs, with or without the hips
    share = rng.uniform(1.1, 1.7)
    shift[1] += (share - 0.95) * height / 2
  elif truncated:  # one side
    shift[0] += rng.uniform(0.25, 0.45) * width * rng.choice([-1, 1])
  middle, joints = person.middle(), np.array(list(person.positions.values()))
  tall = np.ptp(joints[:, 1]) + 0.11 * person.body.stature  # head and soles reach beyond their joints
  wide = np.ptp(joints @ _seen_from(yaw, 0, 1)) + 0.1
  distance = focal * max(tall / (share * height), 0 if truncated else wide / (0.97 * width))
  position = middle + distance * np.array([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)])
  position[1] = max(position[1], 0.4)
  return Camera.looking_at(
    position, middle, rng.normal(0, 0.02), focal, tuple(np.array([width, height]) / 2 + shift), image_hw
  )
