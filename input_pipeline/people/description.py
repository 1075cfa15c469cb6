"""meta.json: what a prepared set contains, for programs and for readers."""

from input_pipeline.body import COCO_JOINTS
from input_pipeline.people.attributes import ATTRIBUTES
from input_pipeline.people.landmarks import LANDMARKS
from input_pipeline.people.parts import LIP_PARTS
from input_pipeline.people.render import RENDERER_VERSION
from input_pipeline.people.spec import SPLITS, SetSpec, split_of, split_of_picture

PEOPLE_FORMAT = "saip_jax built-in people, records 2"

_IN_WORDS = {
  "pixels": "x right, y down; the center of the top left pixel is (0.5, 0.5)",
  "camera frame": "meters; x right, y down, z forward: pixel = camera_matrix @ (x, y, z) / z",
  "world frame": "meters; y up, ground at y = 0; camera = world_to_camera @ (x, y, z, 1)",
  "record": "uint32 little endian n | n bytes of JSON | the files that its `files` lists with their sizes",
  "depth.png": "16 bits, millimeters along the camera's axis; 0 nothing solid, 65535 from there on",
  "parts.png": "8 bits, place in `parts`",
  "instances.png": "8 bits, 0 nobody, k people[k - 1]; without it: 1 where parts are above 0",
  "keypoints": "x, y in pixels, always the true projection; v: 0 outside the picture, 1 hidden, 2 visible",
  "landmarks_xyz": "camera frame, in the order of `landmarks`",
  "box_full": "x, y, width, height in pixels: the whole body as if nothing hid it, not cut at the picture's edge",
  "box_visible": "x, y, width, height in pixels: what is seen of the body; zeros if nothing is",
  "area": "pixels seen of the body",
  "attributes": "0 or 1, in the order of `attributes`, whose frequency is the share of pictures they are 1 in",
  "group": "pictures of one instant, one clip or one scene share it",
  "camera": "number of the station, from 0",
  "time": "seconds",
}


def identify_set(spec: SetSpec, count: int, export: str | None) -> dict:
  """Returns the properties that tell one set from another; JSON-able."""
  return {
    "format": PEOPLE_FORMAT,
    "renderer": RENDERER_VERSION,
    "export": export,
    "composition": spec.composition,
    "count": count,
    "image_hw": list(spec.image_hw),
    "seed": spec.seed,
    "identities": spec.identities,
  }


def describe_set(spec: SetSpec, count: int) -> dict:
  """Returns what else a reader of the set needs: splits, names, frames and units; JSON-able."""
  splits = {split: {"identities": 0, "images": 0} for split in SPLITS}
  for identity in range(spec.identities):
    splits[split_of(identity)]["identities"] += 1
  for index in range(count):
    splits[split_of_picture(spec, index)]["images"] += 1
  return {
    "splits": splits,
    "keypoints": list(COCO_JOINTS),
    "landmarks": list(LANDMARKS),
    "parts": list(LIP_PARTS),
    "attributes": {
      name: {"frequency": attribute.frequency, "meaning": attribute.meaning} for name, attribute in ATTRIBUTES.items()
    },
    "in words": _IN_WORDS,
  }


def spec_of_meta(meta: dict) -> SetSpec:
  """Returns the spec of the set that meta.json describes."""
  return SetSpec(meta["composition"], tuple(meta["image_hw"]), meta["seed"], meta["identities"])
