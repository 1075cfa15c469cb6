"""Export of a set in the format of COCO's person keypoints, for pycocotools and tools built on it.

    annotations/person_keypoints_{train,val,test}.json
    images/{train,val,test}/000000000042.jpg

Beside COCO's keys, an annotation has `identity`, `bbox_full` (the whole body, as if nothing hid it), `caption` and
`attributes` (0 or 1, names in the category), and an image has `group`, `camera` and `time`. As in COCO, boxes are
measured from the image's edge, and keypoints in pixel indices: (0, 0) is the center of the top left pixel. Persons
without a visible pixel are left out.
"""

import contextlib
import json
import pathlib
from collections.abc import Iterable

import numpy as np

from input_pipeline.body import COCO_JOINTS, COCO_LIMBS
from input_pipeline.people.attributes import ATTRIBUTES
from input_pipeline.people.picture import Picture
from input_pipeline.people.records import IMAGE, encode_jpeg, rounded
from input_pipeline.people.spec import SPLITS
from input_pipeline.records import decode_record, encode_record

COCO_FOLDERS = ("images", "annotations")

_HEAD = {
  "info": {"description": "built-in people of saip_jax, rendered"},
  "licenses": [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
  "categories": [
    {
      "id": 1,
      "name": "person",
      "supercategory": "person",
      "keypoints": COCO_JOINTS,
      "skeleton": [[COCO_JOINTS.index(end) + 1 for end in limb] for limb in COCO_LIMBS],
      "attributes": list(ATTRIBUTES),
    }
  ],
}


def encode_for_coco(picture: Picture) -> bytes:
  """Encodes a picture as a record of its JPEG, its `image` and its `annotations`, which still lack an id."""
  labels = picture.annotations
  height, width = picture.parts.shape
  image = {
    "id": labels["index"],
    "file_name": f"{labels['index']:012d}.jpg",
    "height": height,
    "width": width,
    "license": 1,
    "coco_url": "",
    "flickr_url": "",
    "date_captured": "",
    "group": labels["group"],
    "camera": labels["camera"],
    "time": labels["time"],
  }
  annotations = [
    _annotation(labels["index"], person, picture.instances == k)
    for k, person in enumerate(labels["people"], 1)
    if person["area"]
  ]
  return encode_record(
    rounded({"split": labels["split"], "image": image, "annotations": annotations}, decimals=4),
    {IMAGE: encode_jpeg(picture)},
  )


def _annotation(image_id: int, person: dict, mask: np.ndarray) -> dict:
  return {
    "image_id": image_id,
    "category_id": 1,
    "iscrowd": 0,
    "bbox": person["box_visible"],
    "area": person["area"],
    "num_keypoints": sum(v > 0 for _, _, v in person["keypoints"]),
    "keypoints": [number for x, y, v in person["keypoints"] for number in ((x - 0.5, y - 0.5, v) if v else (0, 0, 0))],
    "segmentation": {"size": list(mask.shape), "counts": _run_lengths(mask)},
    "identity": person["identity"],
    "bbox_full": person["box_full"],
    "attributes": person["attributes"],
    "caption": person["caption"],
  }


def _run_lengths(mask: np.ndarray) -> list[int]:
  """Returns COCO's uncompressed runs: pixels outside, inside, outside, ... down the columns, from the left one on."""
  columns = np.concatenate([[False], mask.T.ravel()])
  changes = np.flatnonzero(columns[1:] != columns[:-1])
  return np.diff(changes, prepend=0, append=mask.size).tolist()


def write_coco(records: Iterable[bytes], folder: pathlib.Path) -> dict:
  """Writes the files below `folder` from the records of `encode_for_coco`.

  Returns:
    Entries of meta.json: the number of annotations per split.

  Raises:
    OSError: the disk is full, or the folder is not writable.
  """
  images, count = {split: [] for split in SPLITS}, dict.fromkeys(SPLITS, 0)
  (folder / "annotations").mkdir()
  for split in SPLITS:
    (folder / "images" / split).mkdir(parents=True)
  with contextlib.ExitStack() as stack:
    place = lambda split: folder / "annotations" / f"person_keypoints_{split}.json"
    files = {split: stack.enter_context(open(place(split), "w", encoding="utf-8")) for split in SPLITS}
    for file in files.values():
      file.write(json.dumps(_HEAD)[:-1] + ', "annotations": [')
    for record in records:
      labels, contents = decode_record(record)
      split = labels["split"]
      (folder / "images" / split / labels["image"]["file_name"]).write_bytes(contents[IMAGE])
      images[split].append(json.dumps(labels["image"]))
      for annotation in labels["annotations"]:  # written immediately: with their masks they would fill the memory
        count[split] += 1  # from 1 on: pycocotools takes id 0 for no match
        files[split].write(("," if count[split] > 1 else "") + "\n" + json.dumps({"id": count[split]} | annotation))
    for split, file in files.items():
      file.write('\n], "images": [\n' + ",\n".join(images[split]) + "\n]}\n")
  return {"annotations": count}
