"""Rendered photos in the layouts of Market-1501, Clothing Co-Parsing, of images with depth, and of recordings."""

import json
import pathlib

import cv2
import numpy as np
import scipy.io

from input_pipeline.people.compositions import render_picture
from input_pipeline.people.parts import LABELS, LIP_PARTS
from input_pipeline.people.picture import Picture
from input_pipeline.people.records import encode_jpeg
from input_pipeline.people.spec import SetSpec

_VIEWS, _CLIPS = SetSpec("views", (96, 48), 0, 4), SetSpec("clips", (96, 48), 0, 4)


def write(path: pathlib.Path, content: bytes | str | list | dict) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  content = json.dumps(content) if isinstance(content, (list, dict)) else content
  path.write_bytes(content.encode() if isinstance(content, str) else content)


def png(plane: np.ndarray) -> bytes:
  return cv2.imencode(".png", plane)[1].tobytes()


def write_market1501(root: pathlib.Path, crops: list[Picture]) -> None:
  """Names of identity and camera, and attributes of which the age is one of four."""
  identities = sorted({picture.annotations["people"][0]["identity"] + 1 for picture in crops})
  for picture in crops:
    identity, camera = picture.annotations["people"][0]["identity"] + 1, picture.annotations["camera"] + 1
    write(
      root / "train" / f"{identity:04d}_c{camera}s1_{picture.annotations['index']:06d}_00.jpg", encode_jpeg(picture)
    )
  parts = {"train": identities[::2], "test": identities[1::2]}
  columns = lambda part: {
    **{name: np.array([1.0 + i % 2 for i in part]) for name in ("gender", "hat", "upred", "downblue")},
    "age": np.array([1.0 + i % 4 for i in part]),
    "image_index": np.array([f"{i:04d}" for i in part], object),
  }
  (root / "attribute").mkdir()
  scipy.io.savemat(
    root / "attribute" / "market_attribute.mat",
    {"market_attribute": {name: columns(part) for name, part in parts.items()}},
  )


def write_ccp(root: pathlib.Path, crops: list[Picture]) -> None:
  """A class for each pixel; of the last photo there are tags alone."""
  names = np.array(["null", *(name.lower() for name in LIP_PARTS[1:])], object)
  names[LABELS["Face"]] = "skin"
  for number, picture in enumerate(crops, 1):
    write(root / "photos" / f"{number:04d}.jpg", encode_jpeg(picture))
    kind, content = ("pixel", {"groundtruth": picture.parts}) if number < len(crops) else ("image", {"tags": [1, 2]})
    (root / "annotations" / f"{kind}-level").mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(root / "annotations" / f"{kind}-level" / f"{number:04d}.mat", content)
  scipy.io.savemat(root / "label_list.mat", {"label_list": names[None]})


def write_depth(root: pathlib.Path, crops: list[Picture]) -> None:
  """Depth in meters on a grid of its own, in millimeters in a folder beside, and in millimeters beside a silhouette."""
  for i, picture in enumerate(crops):
    image, meters = encode_jpeg(picture), np.where(picture.instances > 0, picture.depth, 0)
    millimeters = png((1000 * meters).astype(np.uint16))
    folder = root / "deep_human_rgbd" / "data"
    write(folder / f"{i:04d}_img_resize.jpg", image)
    np.save(folder / f"{i:04d}_depth.npy", meters[::2, ::2].astype(np.float32))
    folder = root / "realsense_rgbd" / "data" / "images_n40"
    write(folder / "color" / f"{i}.png", png(picture.image_u8[..., ::-1]))
    write(folder / "depth" / f"{i}.png", millimeters)
    folder = root / "uva_kinect_turntable" / "a1" / "data"
    write(folder / f"{5 * i:010d}.jpg", image)
    write(folder / f"{5 * i:010d}_depth.png", millimeters)
    silhouette = cv2.imencode(".jpg", np.where(picture.instances > 0, 255, 0).astype(np.uint8))[1]
    write(folder / f"{5 * i:010d}_mask.jpg", silhouette.tobytes())


def write_frames(root: pathlib.Path) -> None:
  """Four cameras at two instants; `uva_kinect_turntable` is the video."""
  folder = root / "pose2sim_multiview" / "Demo_SinglePerson" / "frames_half_DERIVED"
  for camera in range(1, 5):
    for frame in (0, 7):
      picture = render_picture(_VIEWS if frame else _CLIPS, camera)
      write(folder / f"cam{camera:02d}_{frame:05d}.jpg", encode_jpeg(picture))
