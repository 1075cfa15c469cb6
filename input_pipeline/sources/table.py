"""How each kind of data set is opened."""

import functools
import os
from collections.abc import Callable, Mapping

from input_pipeline.people.dataset import open_people
from input_pipeline.settings import MixturePart
from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import MixtureSource, SubsetSource, WeightedSource
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
from input_pipeline.sources.held_out import held_out
from input_pipeline.sources.kinds import SOURCE_KINDS
from input_pipeline.sources.subset import read_subset

OPENERS: dict[str, Callable[..., ImageSource]] = {
  "folder": lambda path, cache_dir, setting, **_: FolderSource(path, cache_dir, setting),
  "arrayrecord": lambda path, setting, **_: ArrayRecordSource(path, setting),
  "tfds": lambda path, split, setting, **_: TfdsSource(path, split, setting),
  "webdataset": open_webdataset,
  "zip": open_zip,
  "lmdb": open_lmdb,
  "video": open_video,
  "multiview": open_multiview,
  "coco": open_coco,
  "yolo": open_yolo,
  "pennfudan": open_pennfudan,
  "lsp": open_lsp,
  "market1501": open_market1501,
  "msmt17": open_msmt17,
  "crowdhuman": functools.partial(open_coco, kind="crowdhuman"),
  "joints3d": open_joints_npz,
  "cuhkpedes": functools.partial(open_captions, "cuhkpedes"),
  "icfgpedes": functools.partial(open_captions, "icfgpedes"),
  "rstpreid": functools.partial(open_captions, "rstpreid"),
  "pa100k": functools.partial(open_attributes, "pa100k"),
  "peta": functools.partial(open_attributes, "peta"),
  "rap": functools.partial(open_attributes, "rap"),
  "lip": functools.partial(open_parsing, "lip"),
  "cihp": functools.partial(open_parsing, "cihp"),
  "atr": functools.partial(open_parsing, "atr"),
  "ccp": open_ccp,
  "fashionpedia": open_fashionpedia,
  "people": lambda path, split, **_: open_people(path, 0, split),
}
"""Key of `SOURCE_KINDS` -> its opener, called with the keywords path, split, cache_dir and setting, and the options of
crops where the kind has them. `setting` is the name of the option that gave the path."""


def open_source(
  source: str,
  path: str | os.PathLike | None,
  *,
  split: str | None = None,
  subset: str | None = None,
  hold_out: bool = False,
  cache_dir: str | os.PathLike,
  people_count: int = 0,
  people_composition: str = "crops",
  setting: str = "data.path",
  **crop_options,
) -> ImageSource:
  """Opens a data set.

  Args:
    source: a key of `SOURCE_KINDS` (`data.source`).
    path: where the data lies (`data.path`); None: the default set of built-in people, which only "people" has.
    split: a part of it (`data.split`); None: the default one.
    subset: a file of names (`data.subset`): these images alone; None: all.
    hold_out: leave out what `saip evaluate --hold-out` measures (`data.hold_out`).
    cache_dir: a folder for indexes that the source keeps; never inside the data.
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
  if source not in SOURCE_KINDS:
    raise ValueError(f"{section}source={source!r} is unknown; choose one of: {', '.join(sorted(SOURCE_KINDS))}")
  kind = SOURCE_KINDS[source]
  if split is not None and kind.splits is not None and split not in kind.splits:
    raise ValueError(
      f"{section}split={split!r}: {source} has "
      + (f"the splits {', '.join(kind.splits)}" if kind.splits else "no splits; leave it out")
    )
  if crop_options and not kind.crops:
    raise ValueError(
      f"--{'/--'.join(crop_options).replace('_', '-')}: {source} cuts no persons out of photos; that is "
      f"for {', '.join(name for name, kind in SOURCE_KINDS.items() if kind.crops)}"
    )
  if path is None and source == "people":
    opened = open_people(None, people_count, split, people_composition)
  elif path is None:
    raise ValueError(f"{section}source={source} needs {setting}: {kind.path}")
  else:
    opened = OPENERS[source](path=str(path), split=split, cache_dir=str(cache_dir), setting=setting, **crop_options)
  if subset is not None:
    opened = SubsetSource(opened, read_subset(subset, opened), os.path.basename(subset))
  return held_out(opened)[0] if hold_out else opened


def whole_photo_options(source: str) -> dict:
  """Returns the arguments of `open_source` for uncropped photos with all their persons: for kinds that cut persons out,
  the whole photos; for the default set of built-in people, scenes."""
  return {"people_composition": "scenes"} | ({"whole": True} if SOURCE_KINDS[source].crops else {})


def open_mixture(parts: Mapping[str, MixturePart], cache_dir: str | os.PathLike) -> MixtureSource:
  """Opens several data sets that one run draws from.

  Args:
    parts: name -> data set (`data.mixture`).
    cache_dir: as for `open_source`.

  Returns:
    The mixture.

  Raises:
    ValueError: as `open_source`.
  """
  opened = {
    name: open_source(
      part.source,
      part.path,
      split=part.split,
      subset=part.subset,
      hold_out=part.hold_out,
      cache_dir=cache_dir,
      people_count=part.people_count,
      people_composition=part.people_composition,
      setting=f"data.mixture.{name}.path",
    )
    for name, part in parts.items()
  }
  return MixtureSource({name: WeightedSource(opened[name], part.weight) for name, part in parts.items()})
