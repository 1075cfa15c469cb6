"""Human parsing: LIP, CIHP, ATR, Clothing Co-Parsing. A class for every pixel, in files beside the images."""

import dataclasses
import io
import os

import scipy.io

from input_pipeline import storage
from input_pipeline.people.parts import LIP_PARTS
from input_pipeline.prepared import entries
from input_pipeline.sources.annotated.matlab import load_matlab
from input_pipeline.sources.annotated.photos import NO_PHOTO, Photos, existing
from input_pipeline.sources.annotated.whole import LabeledSource, Labels, open_labeled

CIHP_PARTS = tuple("Torso-skin" if name == "Jumpsuits" else name for name in LIP_PARTS)
"""CIHP's 20 classes: LIP's, but for the eleventh."""

ATR_PARTS = (
  "Background",
  "Hat",
  "Hair",
  "Sunglasses",
  "Upper-clothes",
  "Skirt",
  "Pants",
  "Dress",
  "Belt",
  "Left-shoe",
  "Right-shoe",
  "Face",
  "Left-leg",
  "Right-leg",
  "Left-arm",
  "Right-arm",
  "Bag",
  "Scarf",
)
"""ATR's 18 classes."""


@dataclasses.dataclass(frozen=True)
class ParsingSet:
  """How a data set of parsing is laid out below its folder; of each place the first that is there counts.

  Attributes:
    lists: split -> where its list of images may be, one name without extension to a line.
    images: split -> where their folder may be.
    planes: file in annotations() -> split -> where the folder of its PNGs may be.
    parts: names of the classes.
  """

  lists: dict[str, tuple[str, ...]]
  images: dict[str, tuple[str, ...]]
  planes: dict[str, dict[str, tuple[str, ...]]]
  parts: tuple[str, ...]


_LIP_IMAGES, _LIP_LABELS = "TrainVal_images", "TrainVal_parsing_annotations"
_CIHP_FOLDERS = {"train": "Training", "val": "Validation"}
_ATR_SPLITS = ("train", "val", "test")


def _below_cihp(name: str) -> dict[str, tuple[str, ...]]:
  return {
    split: tuple(
      f"{above}{folder}/{name.format(split)}"
      for above in ("", "instance-level_human_parsing/", "instance-level_human_parsing/instance-level_human_parsing/")
    )
    for split, folder in _CIHP_FOLDERS.items()
  }


PARSING_SETS = {
  "lip": ParsingSet(
    {split: (f"{split}_id.txt", f"{_LIP_IMAGES}/{split}_id.txt") for split in ("train", "val")},
    {
      split: (f"{split}_images", f"{_LIP_IMAGES}/{split}_images", f"{_LIP_IMAGES}/{_LIP_IMAGES}/{split}_images")
      for split in ("train", "val")
    },
    {
      "parts.png": {
        split: tuple(
          f"{above}{split}_segmentations" for above in ("", f"{_LIP_LABELS}/", f"{_LIP_LABELS}/{_LIP_LABELS}/")
        )
        for split in ("train", "val")
      }
    },
    LIP_PARTS,
  ),
  "cihp": ParsingSet(
    _below_cihp("{}_id.txt"),
    _below_cihp("Images"),
    {"parts.png": _below_cihp("Category_ids"), "instances.png": _below_cihp("Human_ids")},
    CIHP_PARTS,
  ),
  "atr": ParsingSet(
    {
      split: (f"{split}_id.txt", f"{split}.txt", f"lists/{split}.txt", f"ImageSets/Segmentation/{split}.txt")
      for split in _ATR_SPLITS
    },
    dict.fromkeys(_ATR_SPLITS, ("JPEGImages",)),
    {"parts.png": dict.fromkeys(_ATR_SPLITS, ("SegmentationClassAug",))},
    ATR_PARTS,
  ),
}
"""Key of `data.source` -> its layout."""


def open_parsing(kind: str, path: str, split: str | None, cache_dir: str, setting: str) -> LabeledSource:
  """One split of a parsing data set: parts.png, whose classes are `legend["parts"]`; of CIHP instances.png too.

  An image whose labels are of another size than itself is left out.

  Args:
    kind: a key of `PARSING_SETS`.
    path: the data set's folder.
    split: train or val, and of ATR test; None: train.
    cache_dir: where the list of images is remembered.
    setting: the option that gave `path`, for messages.

  Raises:
    ValueError: no such folder or split, or no usable image.
  """
  layout, split = PARSING_SETS[kind], split or "train"
  root = existing(path, setting, f"the folder of {kind.upper()}")
  there = lambda places: next((place for place in places if storage.exists(f"{root}/{place}")), None)
  places = {"list": layout.lists, "images": layout.images} | layout.planes
  found = {what: there(of_split.get(split, ())) for what, of_split in places.items()}
  missing = [places[what].get(split, ("?",))[0] for what, place in found.items() if place is None]
  if missing:
    splits = [name for name, lists in layout.lists.items() if there(lists)]
    raise ValueError(
      f"{setting}={path} has no split {split!r} of {kind.upper()}, which would have "
      f"{' and '.join(missing)}; it has lists of {', '.join(splits) or 'none'}"
    )
  list_file = f"{root}/{found['list']}"
  return open_labeled(
    kind,
    root,
    root,
    [list_file],
    lambda: _read(root, found, layout),
    cache_dir=cache_dir,
    setting=setting,
    protocol={"split": split, "classes": len(layout.parts)},
  )


def _read(root: str, found: dict[str, str], layout: ParsingSet) -> Labels:
  labels = Labels(Photos(root), legend={"parts": list(layout.parts)}, in_pixels=True)
  photo_of = lambda name: labels.photos.find(name, base_is_enough=False)[0]
  for line in storage.lines_of(storage.read_file(f"{root}/{found['list']}")):
    words = line.split()  # some lists name the label file too
    if not words:
      continue
    stem = os.path.splitext(words[0].replace("\\", "/"))[0].rpartition("/")[2]
    image = next((photo for end in (".jpg", ".png") if (photo := photo_of(f"{found['images']}/{stem}{end}"))), None)
    if image is None:
      labels.left_out.append((f"{found['images']}/{stem}.jpg", NO_PHOTO))
    else:
      files = {name: f"{found[name]}/{stem}.png" for name in layout.planes}
      labels.add(image, {}, {name: {"png": photo_of(file) or file} for name, file in files.items()})
  return labels


def open_ccp(path: str, split: str | None, cache_dir: str, setting: str) -> LabeledSource:
  """The photos of Clothing Co-Parsing whose pixels are labeled: 59 classes of clothing, hair and skin in parts.png.

  Photos of which the set knows tags alone are left out. It has no splits of its own.

  Args:
    path: the folder with photos/, annotations/pixel-level/ and label_list.mat.
    split: not used: there are none.
    cache_dir: where the list of images is remembered.
    setting: the option that gave `path`, for messages.

  Raises:
    ValueError: no such folder, or no usable photo in it.
  """
  del split
  root = existing(path, setting, "the folder of Clothing Co-Parsing")
  names, folder = f"{root}/label_list.mat", "annotations/pixel-level"
  if not storage.exists(names) or not storage.is_folder(f"{root}/{folder}"):
    raise ValueError(
      f"{setting}={path} is no Clothing Co-Parsing; expected a folder with label_list.mat, photos/ and {folder}/"
    )

  def read() -> Labels:
    parts = load_matlab(names, setting).get("label_list", ())
    labels = Labels(Photos(root), legend={"parts": [str(part) for part in parts]}, in_pixels=True)
    present = set(entries(f"{root}/{folder}"))
    for photo in labels.photos.below("photos"):
      file = f"{os.path.splitext(os.path.basename(photo))[0]}.mat"
      if file not in present:
        labels.left_out.append((photo, "not labeled: its tags alone are known"))
        continue
      size = _size_of_labels(f"{root}/{folder}/{file}")
      if size is None:
        labels.left_out.append((photo, f"{folder}/{file} is no MATLAB file with a table `groundtruth`"))
        continue
      labels.add(photo, {}, {"parts.png": {"mat": f"{folder}/{file}", "variable": "groundtruth"}})
      labels.images[-1].size = size
    labels.protocol = {"classes": len(parts)}
    return labels

  return open_labeled("ccp", root, root, [names], read, cache_dir=cache_dir, setting=setting, protocol={})


def _size_of_labels(file: str) -> tuple[int, int] | None:
  """(width, height) of the labels in a .mat file, without reading them; None: it has none."""
  try:
    shapes = {name: shape for name, shape, _ in scipy.io.whosmat(io.BytesIO(storage.read_file(file)))}
  except Exception:  # scipy raises many types on what is no such file
    return None
  shape = shapes.get("groundtruth", ())
  return tuple(int(side) for side in shape[::-1]) if len(shape) == 2 else None
