"""Export of a set of crops in the format of Market-1501, for re-identification tools.

    bounding_box_train/  query/  bounding_box_test/  and bounding_box_val/, which Market-1501 does not have

A file name such as `0002_c1s1_000451_00.jpg` holds identity + 1, camera + 1, and the number of the image in the set. A
query is the first image of a test identity by a camera; all other images of the test identities form the gallery,
bounding_box_test.
"""

import collections
import pathlib
from collections.abc import Iterable

from input_pipeline.people.picture import Picture
from input_pipeline.people.records import IMAGE, encode_jpeg
from input_pipeline.records import decode_record, encode_record

MARKET1501_FOLDERS = ("bounding_box_train", "bounding_box_val", "bounding_box_test", "query")


def encode_for_market1501(picture: Picture) -> bytes:
  """Encodes a crop as a record of its JPEG and of the annotations that determine its name and folder."""
  labels = {key: picture.annotations[key] for key in ("index", "split", "camera")}
  labels["identity"] = picture.annotations["people"][0]["identity"]
  return encode_record(labels, {IMAGE: encode_jpeg(picture)})


def write_market1501(records: Iterable[bytes], folder: pathlib.Path) -> dict:
  """Writes the files below `folder` from the records of `encode_for_market1501`.

  Returns:
    Entries of meta.json: the images per folder, and the number of queries without a match, which are those of persons
    that no other camera shows in the gallery. They occur if a person lacks some of its images.

  Raises:
    OSError: the disk is full, or the folder is not writable.
  """
  for name in MARKET1501_FOLDERS:
    (folder / name).mkdir()
  queries, gallery_cameras = set(), collections.defaultdict(set)
  images = dict.fromkeys(MARKET1501_FOLDERS, 0)
  for record in records:
    labels, contents = decode_record(record)
    identity, camera, target = labels["identity"], labels["camera"], f"bounding_box_{labels['split']}"
    if labels["split"] == "test" and (identity, camera) not in queries:
      queries.add((identity, camera))
      target = "query"
    elif labels["split"] == "test":
      gallery_cameras[identity].add(camera)
    name = f"{identity + 1:04d}_c{camera + 1}s1_{labels['index']:06d}_00.jpg"
    (folder / target / name).write_bytes(contents[IMAGE])
    images[target] += 1
  unmatched = sum(not gallery_cameras[identity] - {camera} for identity, camera in queries)
  return {"images": images, "queries_without_match": unmatched}
