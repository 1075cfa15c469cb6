"""The kinds of data sets that `data.source` can name, and how each is opened."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping

from input_pipeline.people.dataset import open_people
from input_pipeline.people.spec import SPLITS
from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import MixtureSource, Part, SubsetSource
from input_pipeline.sources.containers.archives import open_webdataset, open_zip
from input_pipeline.sources.containers.array_record import ArrayRecordSource
from input_pipeline.sources.containers.folder import FolderSource
from input_pipeline.sources.containers.frames import open_multiview, open_video
from input_pipeline.sources.containers.lmdb_source import open_lmdb
from input_pipeline.sources.containers.tfds import TfdsSource
from input_pipeline.sources.datasets.attributes import open_attributes
from input_pipeline.sources.datasets.captions import open_captions
from input_pipeline.sources.datasets.coco import open_coco
from input_pipeline.sources.datasets.fashionpedia import open_fashionpedia
from input_pipeline.sources.datasets.joints_npz import open_joints_npz
from input_pipeline.sources.datasets.lsp import open_lsp
from input_pipeline.sources.datasets.parsing import open_ccp, open_parsing
from input_pipeline.sources.datasets.pennfudan import open_pennfudan
from input_pipeline.sources.datasets.reid import open_market1501, open_msmt17
from input_pipeline.sources.datasets.yolo import open_yolo


@dataclasses.dataclass(frozen=True)
class SourceKind:
  """One kind of data set.

  Attributes:
    open: (path, split, cache_dir, setting) -> ImageSource; `setting` names the option that gave the path.
    path: what the path is, in words, for help and messages.
    splits: the splits it has, the usual one first; (): it has none; None: whatever the data set calls them.
    crops: it cuts persons out of photos: `open` also takes `margin`, `min_side` and `whole`.
  """

  open: Callable[..., ImageSource]
  path: str
  splits: tuple[str, ...] | None = ()
  crops: bool = False


_SPLITS = ("train", "val", "test")
_ATTRIBUTE_SPLITS = ("train", "val", "trainval", "test")
_REID_SPLITS = ("train", "val", "query", "gallery")

SOURCES: dict[str, SourceKind] = {
  "folder": SourceKind(
    lambda path, split, cache_dir, setting: FolderSource(path, cache_dir, setting),
    "a folder of image files, searched to its depth",
  ),
  "arrayrecord": SourceKind(
    lambda path, split, cache_dir, setting: ArrayRecordSource(path, setting),
    "a folder made by `saip prepare`, or any ArrayRecord files of encoded images",
  ),
  "tfds": SourceKind(
    lambda path, split, cache_dir, setting: TfdsSource(path, split, setting),
    "the folder or the name of a TensorFlow Datasets set in ArrayRecord files",
    None,
  ),
  "webdataset": SourceKind(
    open_webdataset, "WebDataset shards: a .tar, a folder of them, or a pattern as shard-{000..012}.tar"
  ),
  "zip": SourceKind(open_zip, "a .zip, or a folder of them"),
  "lmdb": SourceKind(open_lmdb, "an LMDB of encoded images: its folder or its file"),
  "video": SourceKind(open_video, "a folder of videos, each a folder of frames with their numbers in their names"),
  "multiview": SourceKind(
    open_multiview, "numbered frames of several cameras at once: CAMERA/00017.jpg or CAMERA_00017.jpg"
  ),
  "coco": SourceKind(
    open_coco, "persons of COCO annotations: the JSON, or the folder that holds it and the photos", None, True
  ),
  "yolo": SourceKind(open_yolo, "persons of YOLO labels: the yaml, or the folder with images and labels", None, True),
  "pennfudan": SourceKind(open_pennfudan, "persons of Penn-Fudan: the folder with PNGImages", (), True),
  "lsp": SourceKind(open_lsp, "persons of Leeds Sports Pose: the folder with joints.mat", ("train", "test"), True),
  "market1501": SourceKind(open_market1501, "the folder of Market-1501, with bounding_box_train in it", _REID_SPLITS),
  "msmt17": SourceKind(open_msmt17, "the folder of MSMT17, with list_train.txt in it", _REID_SPLITS),
  "crowdhuman": SourceKind(
    functools.partial(open_coco, kind="crowdhuman"),
    "persons of CrowdHuman: the folder with annotation_train.odgt",
    ("train", "val"),
    True,
  ),
  "joints3d": SourceKind(
    open_joints_npz, "persons with joints in space: a .npz as joints_npz.py says, or a folder of them", None, True
  ),
  "cuhkpedes": SourceKind(
    functools.partial(open_captions, "cuhkpedes"),
    "the folder of CUHK-PEDES, with reid_raw.json or caption_all.json",
    _SPLITS,
  ),
  "icfgpedes": SourceKind(
    functools.partial(open_captions, "icfgpedes"),
    "the folder of ICFG-PEDES, with ICFG-PEDES.json in it",
    ("train", "test"),
  ),
  "rstpreid": SourceKind(
    functools.partial(open_captions, "rstpreid"), "the folder of RSTPReid, with data_captions.json in it", _SPLITS
  ),
  "pa100k": SourceKind(
    functools.partial(open_attributes, "pa100k"), "the folder of PA-100K, with annotation.mat in it", _ATTRIBUTE_SPLITS
  ),
  "peta": SourceKind(
    functools.partial(open_attributes, "peta"), "the folder of PETA, with PETA.mat in it", _ATTRIBUTE_SPLITS
  ),
  "rap": SourceKind(
    functools.partial(open_attributes, "rap"), "the folder of RAP 1 or 2, with RAP_annotation in it", _ATTRIBUTE_SPLITS
  ),
  "lip": SourceKind(
    functools.partial(open_parsing, "lip"), "the folder of LIP, with train_id.txt in it", ("train", "val")
  ),
  "cihp": SourceKind(
    functools.partial(open_parsing, "cihp"), "the folder of CIHP, with Training in it", ("train", "val")
  ),
  "atr": SourceKind(
    functools.partial(open_parsing, "atr"), "the folder of ATR, with SegmentationClassAug in it", _SPLITS
  ),
  "ccp": SourceKind(open_ccp, "the folder of Clothing Co-Parsing, with label_list.mat in it"),
  "fashionpedia": SourceKind(
    open_fashionpedia,
    "the folder of Fashionpedia, with instances_attributes_train2020.json in it, or that file",
    ("train", "val"),
  ),
  "people": SourceKind(
    lambda path, split, cache_dir, setting: open_people(path, 0, split),
    "a folder made by `saip prepare people`",
    SPLITS,
  ),
}


def open_source(
  source: str,
  path: str | os.PathLike | None,
  *,
  split: str | None = None,
  subset: str | None = None,
  cache_dir: str | os.PathLike,
  people_count: int = 0,
  people_composition: str = "crops",
  setting: str = "data.path",
  **crop_options,
) -> ImageSource:
  """Opens the data set that a configuration names.

  Args:
    source: a key of `SOURCES` (`data.source`).
    path: where the data lies (`data.path`); None: the default set of built-in people, which only "people" has.
    split: which part of it (`data.split`); None: the usual one.
    subset: a file of names (`data.subset`): these images alone; None: all.
    cache_dir: a folder of the run for what the source wants to remember; never inside the data.
    people_count: size of the default set of built-in people, all splits together, used where `path` is None.
    people_composition: what that set shows, see `open_people`.
    setting: the option that gave `path`, for messages.
    **crop_options: `margin`, `min_side` and `whole` for kinds that cut out persons (see `crops.open_crops`).

  Returns:
    The opened source.

  Raises:
    ValueError: unknown source or split, or data that is missing or unusable; one line that names the setting.
  """
  section = setting.rpartition("path")[0]  # "data.", "--", "data.mixture.NAME."
  if source not in SOURCES:
    raise ValueError(f"{section}source={source!r} is unknown; choose one of: {', '.join(sorted(SOURCES))}")
  kind = SOURCES[source]
  if split is not None and kind.splits is not None and split not in kind.splits:
    raise ValueError(
      f"{section}split={split!r}: {source} has "
      + (f"the splits {', '.join(kind.splits)}" if kind.splits else "no splits; leave it out")
    )
  if crop_options and not kind.crops:
    raise ValueError(
      f"--{'/--'.join(crop_options).replace('_', '-')}: {source} cuts no persons out of photos; that is "
      f"for {', '.join(name for name, kind in SOURCES.items() if kind.crops)}"
    )
  if path is None and source == "people":
    opened = open_people(None, people_count, split, people_composition)
  elif path is None:
    raise ValueError(f"{section}source={source} needs {setting}: {kind.path}")
  else:
    opened = kind.open(str(path), split, str(cache_dir), setting, **crop_options)
  return opened if subset is None else _subset_of(opened, subset)


def whole_photos(source: str) -> dict:
  """The arguments of `open_source` for photos with everybody in them, not persons cut out of photos; of the default set
  of built-in people, for scenes."""
  return {"people_composition": "scenes"} | ({"whole": True} if SOURCES[source].crops else {})


def open_mixture(parts: Mapping[str, Mapping], cache_dir: str | os.PathLike) -> MixtureSource:
  """Opens several data sets that one run draws from.

  Args:
    parts: name -> {source, path, weight, ...}: weight and the arguments of `open_source`, as in `data.mixture`.
    cache_dir: as for `open_source`.

  Returns:
    The mixture.

  Raises:
    ValueError: as `open_source`.
  """
  opened = {}
  for name, part in parts.items():
    options = dict(part)
    weight = options.pop("weight")
    opened[name] = Part(open_source(**options, cache_dir=cache_dir, setting=f"data.mixture.{name}.path"), weight)
  return MixtureSource(opened)


def _subset_of(source: ImageSource, path: str) -> SubsetSource:
  from input_pipeline.sources.subset import read_subset

  return SubsetSource(source, read_subset(path, source), os.path.basename(path))
