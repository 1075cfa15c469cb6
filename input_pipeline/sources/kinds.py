"""The kinds of data sets: the one list that settings, flags, openers and the recognizer read.

Nothing heavy is imported here: the command line makes its flags from this table.
"""

import dataclasses
from typing import Literal

from input_pipeline.people.spec import SPLITS


@dataclasses.dataclass(frozen=True)
class SourceKind:
  """One kind of data set.

  Attributes:
    path: what its path is, in words, for help and messages.
    splits: the splits it has, the default one first; (): it has none; None: they are named by the data set.
    crops: whether it cuts persons out of photos, and so takes `margin`, `min_side` and `whole`.
  """

  path: str
  splits: tuple[str, ...] | None = ()
  crops: bool = False


_TRAIN_VAL_TEST = ("train", "val", "test")
_ATTRIBUTE_SPLITS = ("train", "val", "trainval", "test")
_REID_SPLITS = ("train", "val", "query", "gallery")

SOURCE_KINDS: dict[str, SourceKind] = {
  "folder": SourceKind("a folder of image files, searched to its depth"),
  "arrayrecord": SourceKind("a folder made by `saip prepare`, or any ArrayRecord files of encoded images"),
  "tfds": SourceKind("the folder or the name of a TensorFlow Datasets set in ArrayRecord files", None),
  "webdataset": SourceKind("WebDataset shards: a .tar, a folder of them, or a pattern as shard-{000..012}.tar"),
  "zip": SourceKind("a .zip, or a folder of them"),
  "lmdb": SourceKind("an LMDB of encoded images: its folder or its file"),
  "video": SourceKind("a folder of videos, each a folder of frames with their numbers in their names"),
  "multiview": SourceKind("numbered frames of several cameras at once: CAMERA/00017.jpg or CAMERA_00017.jpg"),
  "coco": SourceKind(
    "persons of COCO annotations: the JSON, or the folder that holds it and the photos", None, crops=True
  ),
  "yolo": SourceKind("persons of YOLO labels: the yaml, or the folder with images and labels", None, crops=True),
  "pennfudan": SourceKind("persons of Penn-Fudan: the folder with PNGImages", crops=True),
  "lsp": SourceKind("persons of Leeds Sports Pose: the folder with joints.mat", ("train", "test"), crops=True),
  "market1501": SourceKind("the folder of Market-1501, with bounding_box_train in it", _REID_SPLITS),
  "msmt17": SourceKind("the folder of MSMT17, with list_train.txt in it", _REID_SPLITS),
  "crowdhuman": SourceKind(
    "persons of CrowdHuman: the folder with annotation_train.odgt", ("train", "val"), crops=True
  ),
  "joints3d": SourceKind(
    "persons with joints in space: a .npz as described in joints_npz.py, or a folder of them", None, crops=True
  ),
  "cuhkpedes": SourceKind("the folder of CUHK-PEDES, with reid_raw.json or caption_all.json", _TRAIN_VAL_TEST),
  "icfgpedes": SourceKind("the folder of ICFG-PEDES, with ICFG-PEDES.json in it", ("train", "test")),
  "rstpreid": SourceKind("the folder of RSTPReid, with data_captions.json in it", _TRAIN_VAL_TEST),
  "pa100k": SourceKind("the folder of PA-100K, with annotation.mat in it", _ATTRIBUTE_SPLITS),
  "peta": SourceKind("the folder of PETA, with PETA.mat in it", _ATTRIBUTE_SPLITS),
  "rap": SourceKind("the folder of RAP 1 or 2, with RAP_annotation in it", _ATTRIBUTE_SPLITS),
  "lip": SourceKind("the folder of LIP, with train_id.txt in it", ("train", "val")),
  "cihp": SourceKind("the folder of CIHP, with Training in it", ("train", "val")),
  "atr": SourceKind("the folder of ATR, with SegmentationClassAug in it", _TRAIN_VAL_TEST),
  "ccp": SourceKind("the folder of Clothing Co-Parsing, with label_list.mat in it"),
  "fashionpedia": SourceKind(
    "the folder of Fashionpedia, with instances_attributes_train2020.json in it, or that file", ("train", "val")
  ),
  "people": SourceKind("a folder made by `saip prepare people`", SPLITS),
}
"""Name in `data.source` -> its kind."""

SourceName = Literal[*SOURCE_KINDS]
"""The type of `data.source`: a key of `SOURCE_KINDS`."""
