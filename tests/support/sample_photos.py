"""Rendered photos of people in the layouts of public data sets, with everything that is annotated known exactly.

The folders are named and laid out as in a collection of real samples (see `real_samples`), so that one test runs on
both.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import scipy.io

from input_pipeline.people.compositions import render_picture
from input_pipeline.people.picture import Picture
from input_pipeline.people.records import encode_jpeg
from input_pipeline.people.spec import SetSpec
from tests.support.sample_layouts import png, write, write_ccp, write_depth, write_frames, write_market1501

_SCENES, _CROPS = SetSpec("scenes", (240, 320), 0, 120), SetSpec("crops", (128, 64), 0, 6)
_COCO_SETS = {  # path below mmpose_tests -> joints of its persons, 0: none
  "coco/test_coco.json": 17,
  "aic/test_aic.json": 14,
  "mpii/test_mpii_trb.json": 40,
  "halpe/test_halpe.json": 136,
  "wflw/test_wflw.json": 98,
  "lapa/test_lapa.json": 106,
  "freihand/test_freihand.json": 21,
  "h36m/h36m_coco.json": 17,
  "posetrack18/annotations/test_posetrack18_val.json": 17,
  "posetrack18/annotations/val/000001_mpii_test.json": 17,
  "interhand2.6m/test_interhand2.6m_data.json": 0,
}
_NAMELESS_JOINTS = ("halpe", "wflw", "lapa")  # their categories list no names of joints
WHOLE_BODY = {"person": 17, "face": 68, "foot": 6}


@dataclasses.dataclass(frozen=True)
class Truth:
  """One annotated person: x, y, width, height; (J, 3) of x, y, v; the person's pixels of the photo."""

  box: list
  keypoints: np.ndarray
  mask: np.ndarray


@dataclasses.dataclass(frozen=True)
class Samples:
  """The root of a collection. `truth` is {path below it: {"photo#person": Truth}}, empty for real photos."""

  root: pathlib.Path
  real: bool
  truth: dict[str, dict[str, Truth]] = dataclasses.field(default_factory=dict, repr=False)


def real_samples() -> pathlib.Path:
  """Returns where real samples are expected: $SAIP_SAMPLE_DATA, or `shared/data` beside the checkout."""
  beside = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"
  return pathlib.Path(os.environ.get("SAIP_SAMPLE_DATA", beside))


def real_or_skip(below: str = "") -> pathlib.Path:
  """Returns a folder of the real samples; skips the test where it is absent."""
  path = real_samples() / below
  if not path.exists():
    pytest.skip(f"needs real photos at {path}; set SAIP_SAMPLE_DATA to a folder of them")
  return path


def write_samples(root: pathlib.Path) -> Samples:
  """Renders the photos and writes every layout below `root`."""
  scenes = [render_picture(_SCENES, i) for i in range(6)]
  crops = [render_picture(_CROPS, i) for i in range(48)]
  samples = Samples(root, False)
  write_market1501(root / "market1501_sample", crops)
  _coco(samples, scenes)
  _yolo(samples, scenes)
  _pennfudan(samples, scenes)
  _lspet(samples, crops[:8])
  write_ccp(root / "ccp", crops[:5])
  write_depth(root, crops[:4])
  write_frames(root)
  for path, joints in _COCO_SETS.items():
    _coco_set(samples, path, scenes[:3], joints)
  _whole_body(samples, scenes[:2])
  _mpii(samples, scenes[:2])
  return samples


def _people(picture: Picture) -> Iterator[tuple[int, dict, Truth]]:
  """Yields (number in `instances`, annotations, truth) of the persons that are visible."""
  for k, person in enumerate(picture.annotations["people"], 1):
    if person["area"]:
      yield k, person, Truth(person["box_visible"], np.array(person["keypoints"]), picture.instances == k)


def _joints(truth: Truth, count: int) -> np.ndarray:
  """(count, 3): the person's own 17, cut off or followed by others inside the box."""
  x, y, width, height = truth.box
  more = np.random.default_rng(count).uniform((x, y), (x + width, y + height), (count, 2)).round(1)
  own = truth.keypoints[:count]
  return np.concatenate([own, np.insert(more, 2, 2, axis=1)[len(own) :]])


def _from_zero(joints: np.ndarray) -> list:
  """x, y, v, ... as COCO writes them: pixels are numbered from 0, the unknown are three zeros."""
  return np.where(joints[:, 2:] > 0, joints - (0.5, 0.5, 0), 0).ravel().tolist()


def _outline(mask: np.ndarray) -> np.ndarray:
  """(N, 2): polygon around the largest piece of a mask."""
  found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
  return max(found, key=len).reshape(-1, 2) + 0.5


def _run_lengths(mask: np.ndarray) -> dict:
  """COCO's uncompressed run lengths of a mask, by columns."""
  column = mask.T.ravel().astype(np.int8)
  edges = np.flatnonzero(np.diff(column, prepend=0, append=0))
  counts = np.diff(np.concatenate([[0], edges, [column.size]]))
  return {"size": list(mask.shape), "counts": counts[:-1].tolist() if counts[-1] == 0 else counts.tolist()}


def _image(i: int, name: str, picture: Picture) -> dict:
  height, width = picture.instances.shape
  return {"id": i, "file_name": name, "height": height, "width": width}


def _coco(samples: Samples, scenes: list[Picture]) -> None:
  """COCO's three files; they list a photo that is not there, and one person is a crowd."""
  folder, images, annotations, truth = samples.root / "coco_mini", [], [], {}
  for i, picture in enumerate(scenes):
    name = f"{i:012d}.jpg"
    write(folder / "train2017" / name, encode_jpeg(picture))
    images.append(_image(i, name, picture))
    for k, _, person in _people(picture):
      crowd, joints = int(i == k == 1), person.keypoints
      annotations.append(
        {
          "id": 100 * i + k,
          "image_id": i,
          "category_id": 1,
          "bbox": person.box,
          "iscrowd": crowd,
          "segmentation": _run_lengths(person.mask),
          "keypoints": _from_zero(joints),
          "num_keypoints": int((joints[:, 2] > 0).sum()),
        }
      )
      if not crowd:
        truth[f"train2017/{name}#{100 * i + k}"] = person
  images.append(_image(99, "000000000099.jpg", scenes[0]))
  category = {"id": 1, "name": "person"}
  named = category | {"keypoints": [f"joint_{j}" for j in range(17)]}
  whole = {"images": images, "annotations": annotations, "categories": [named]}
  boxes = [{key: a[key] for key in a if "keypoints" not in key} for a in annotations]
  texts = [{"id": i, "image_id": i, "caption": "People in a street."} for i in range(len(scenes))]
  files = folder / "annotations"
  write(files / "person_keypoints_train2017.json", whole)
  write(files / "instances_train2017.json", whole | {"annotations": boxes, "categories": [category]})
  write(files / "captions_train2017.json", {"images": images, "annotations": texts})
  for path in ("", "/annotations/person_keypoints_train2017.json", "/annotations/instances_train2017.json"):
    samples.truth["coco_mini" + path] = truth


def _yolo(samples: Samples, scenes: list[Picture]) -> None:
  """Boxes, polygons and panoptic masks of the same photos."""
  root, images, panoptic = samples.root / "coco128_yolo", [], []
  truth = {"object_detection": {}, "instance_segmentation": {}, "panoptic_segmentation": {}}
  for i, picture in enumerate(scenes):
    stem, people = f"{i:012d}", list(_people(picture))
    height, width = picture.instances.shape
    write(root / "images" / "train2017" / f"{stem}.jpg", encode_jpeg(picture))
    images.append(_image(i, f"{stem}.jpg", picture))
    boxes, polygons, segments = [], [], []
    for k, _, person in people:
      x, y, w, h = person.box
      boxes.append(f"0 {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}")
      outline = _outline(person.mask)
      polygons.append(" ".join(["1", *map(str, (outline / (width, height)).ravel())]))
      box = [*outline.min(0), *np.ptp(outline, axis=0)]
      truth["instance_segmentation"][f"{stem}.jpg#{len(polygons)}"] = dataclasses.replace(person, box=box)
      segments.append({"id": k, "category_id": 1, "iscrowd": 0, "bbox": person.box, "area": int(person.mask.sum())})
      truth["panoptic_segmentation"][f"images/train2017/{stem}.jpg#{k}"] = person
    for line, (_, _, person) in enumerate(people, 1):
      truth["object_detection"][f"{stem}.jpg#{line}"] = person
    write(root / "object_detection" / "labels" / "train2017" / f"{stem}.txt", "\n".join(boxes))
    write(root / "instance_segmentation" / "labels" / "train2017" / f"{stem}.txt", "\n".join(polygons))
    colors = np.dstack([np.zeros_like(picture.instances)] * 2 + [picture.instances])  # OpenCV writes BGR
    write(root / "panoptic_segmentation" / "annotations" / "panoptic_train2017" / f"{stem}.png", png(colors))
    panoptic.append({"image_id": i, "file_name": f"{stem}.png", "segments_info": segments})
  split = "path: .\ntrain: images/train2017\nval: images/val2017\nnames:\n"
  write(root / "object_detection" / "config.yaml", split + "  0: person\n  1: bicycle\n")
  write(root / "instance_segmentation" / "config.yaml", split + "  1: person\n  2: bicycle\n")
  content = {"images": images, "annotations": panoptic, "categories": [{"id": 1, "name": "person", "isthing": 1}]}
  write(root / "panoptic_segmentation" / "annotations" / "panoptic_train2017.json", content)
  samples.truth.update({f"coco128_yolo/{path}": people for path, people in truth.items()})


def _pennfudan(samples: Samples, scenes: list[Picture]) -> None:
  """PASCAL's text with boxes from 1, both ends inside, and a mask of all persons."""
  folder, truth = samples.root / "pennfudan" / "PennFudanPed", {}
  for i, picture in enumerate(scenes):
    stem = f"FudanPed{i + 1:05d}"
    height, width = picture.instances.shape
    mask, lines = np.zeros_like(picture.instances), [f'Image filename : "PennFudanPed/PNGImages/{stem}.png"']
    lines.append(f"Image size (X x Y x C) : {width} x {height} x 3")
    for n, (_, _, person) in enumerate(_people(picture), 1):
      x, y, w, h = person.box
      mask[person.mask] = n
      ends = f"({x + 1}, {y + 1}) - ({x + w}, {y + h})"
      lines.append(f'Bounding box for object {n} "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : {ends}')
      lines.append(f'Pixel mask for object {n} "PASpersonWalking" : "PennFudanPed/PedMasks/{stem}_mask.png"')
      truth[f"PNGImages/{stem}.png#{n}"] = person
    write(folder / "PNGImages" / f"{stem}.png", png(picture.image_u8[..., ::-1]))
    write(folder / "PedMasks" / f"{stem}_mask.png", png(mask))
    write(folder / "Annotation" / f"{stem}.txt", "\n".join(lines) + "\n")
  samples.truth["pennfudan"] = truth


def _lspet(samples: Samples, crops: list[Picture]) -> None:
  """(14, 3, N) of x, y, flag, in numbers of pixels from 1; the last column is of a photo that is not there."""
  joints, truth = np.zeros((14, 3, len(crops) + 1)), {}
  for i, picture in enumerate(crops):
    _, _, person = next(_people(picture))
    known = _joints(person, 14)
    joints[:, :, i] = np.where(known[:, 2:] > 0, known + (0.5, 0.5, 0), 0) * (1, 1, 0)
    joints[:, 2, i] = known[:, 2] > 0
    write(samples.root / "lspet" / "images" / f"im{i + 1:05d}.jpg", encode_jpeg(picture))
    truth[f"images/im{i + 1:05d}.jpg#{i + 1}"] = dataclasses.replace(person, keypoints=known)
  scipy.io.savemat(samples.root / "lspet" / "joints.mat", {"joints": joints})
  samples.truth["lspet"] = truth


def _coco_set(samples: Samples, path: str, scenes: list[Picture], count: int) -> None:
  """A small set in COCO's form with joints of its own number and names."""
  root, name = samples.root / "mmpose_tests" / path.split("/")[0], path.split("/")[0]
  images, annotations, truth = [], [], {}
  for i, picture in enumerate(scenes):
    file = f"images/val/000001_mpii_test/{i:06d}.jpg" if name == "posetrack18" else f"{i:06d}.jpg"
    write(root / file, encode_jpeg(picture))
    images.append(_image(i, file, picture))
    for k, _, person in _people(picture):
      joints = _joints(person, count)
      found = {"id": 100 * i + k, "image_id": i, "category_id": 1, "bbox": person.box, "iscrowd": 0}
      annotations.append(found | ({"keypoints": _from_zero(joints), "num_keypoints": count} if count else {}))
      truth[f"{file}#{100 * i + k}"] = dataclasses.replace(person, keypoints=joints)
  names = {} if name in _NAMELESS_JOINTS else {"keypoints": [f"{name}_{j}" for j in range(count)]}
  content = {"images": images, "annotations": annotations}
  if count:
    content["categories"] = [{"id": 1, "name": "hand" if name == "freihand" else "person"} | names]
  write(samples.root / "mmpose_tests" / path, content)
  samples.truth[f"mmpose_tests/{path}"] = truth
  write(samples.root / "mmpose_tests" / "interhand2.6m" / "test_interhand2.6m_camera.json", {"3": {"campos": {}}})


def _whole_body(samples: Samples, scenes: list[Picture]) -> None:
  """COCO-WholeBody's members, and a file of detections beside it."""
  path = "mmpose_tests/coco/test_coco_wholebody.json"
  content = json.loads((samples.root / "mmpose_tests/coco/test_coco.json").read_text())
  content["annotations"] = [a for a in content["annotations"] if a["image_id"] < len(scenes)]
  content["images"] = content["images"][: len(scenes)]
  for annotation in content["annotations"]:
    x, y, width, height = annotation["bbox"]
    for part, count in (("face", 68), ("lefthand", 21), ("righthand", 21), ("foot", 6)):
      points = [[x + width / 2, y + height * j / count, 1] for j in range(count)]
      annotation |= {f"{part}_kpts": np.ravel(points).tolist(), f"{part}_valid": part != "lefthand"}
      annotation |= {} if part == "foot" else {f"{part}_box": annotation["bbox"]}
  write(samples.root / path, content)
  truth = samples.truth["mmpose_tests/coco/test_coco.json"]
  kept = [f"#{annotation['id']}" for annotation in content["annotations"]]
  samples.truth[path] = {name: person for name, person in truth.items() if name.endswith(tuple(kept))}
  detections = [{"bbox": [1, 1, 20, 20], "category_id": 1, "image_id": 0, "score": 0.9}]
  write(samples.root / "mmpose_tests/coco/test_coco_det_AP_H_56.json", detections)


def _mpii(samples: Samples, scenes: list[Picture]) -> None:
  """MPII's list: joints in numbers of pixels from 1, and a box as center and scale."""
  people, truth = [], {}
  for i, picture in enumerate(scenes):
    write(samples.root / "mmpose_tests" / "mpii" / f"list_{i}.jpg", encode_jpeg(picture))
    for _, _, person in _people(picture):
      joints = _joints(person, 16)
      x, y, width, height = person.box
      people.append(
        {
          "image": f"list_{i}.jpg",
          "joints": (joints[:, :2] + 0.5).tolist(),
          "joints_vis": (joints[:, 2] > 0).astype(int).tolist(),
          "center": [x + width / 2 + 1, y + height / 2 + 1],
          "scale": max(width, height) / 200,
        }
      )
      truth[f"list_{i}.jpg#{len(people) - 1}"] = dataclasses.replace(person, keypoints=joints)
  write(samples.root / "mmpose_tests" / "mpii" / "test_mpii.json", people)
  samples.truth["mmpose_tests/mpii/test_mpii.json"] = truth
