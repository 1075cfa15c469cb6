"""A set of crops in the format of Market-1501, as re-identification tools read it.

    bounding_box_train/  query/  bounding_box_test/  and, which Market-1501 has not, bounding_box_val/

with names as `0002_c1s1_000451_00.jpg`: identity + 1, camera + 1, and the number of the picture in the set. A query is
the first picture of a test identity by a camera; all others of the test identities are the gallery, bounding_box_test.
"""

import collections
import pathlib
from collections.abc import Iterable

from input_pipeline.people.picture import Picture
from input_pipeline.people.records import IMAGE, encode_jpeg
from input_pipeline.records import decode_record, encode_record

FOLDERS = ("bounding_box_train", "bounding_box_val", "bounding_box_test", "query")


def encode_for_market1501(picture: Picture) -> bytes:
  """A crop as a record of its JPEG and of what its name and folder follow from."""
  facts = {key: picture.facts[key] for key in ("index", "split", "camera")}
  return encode_record(facts | {"identity": picture.facts["people"][0]["identity"]}, {IMAGE: encode_jpeg(picture)})


def write_market1501(records: Iterable[bytes], folder: pathlib.Path) -> dict:
  """Writes the files below `folder` from the records of `encode_for_market1501`.

  Returns:
    What meta.json says of them: the images per folder, and the queries whose person no other camera shows in the
    gallery, which happens where a person lacks some of its pictures.

  Raises:
    OSError: no room, or no permission.
  """
  for name in FOLDERS:
    (folder / name).mkdir()
  queries, gallery_cameras = set(), collections.defaultdict(set)
  images = dict.fromkeys(FOLDERS, 0)
  for record in records:
    facts, contents = decode_record(record)
    identity, camera, target = facts["identity"], facts["camera"], f"bounding_box_{facts['split']}"
    if facts["split"] == "test" and (identity, camera) not in queries:
      queries.add((identity, camera))
      target = "query"
    elif facts["split"] == "test":
      gallery_cameras[identity].add(camera)
    name = f"{identity + 1:04d}_c{camera + 1}s1_{facts['index']:06d}_00.jpg"
    (folder / target / name).write_bytes(contents[IMAGE])
    images[target] += 1
  unmatched = sum(not gallery_cameras[identity] - {camera} for identity, camera in queries)
  return {"images": images, "queries_without_match": unmatched}
