"""Human parsing data sets: LIP, CIHP, ATR, Clothing Co-Parsing. Each image has a file with a class for every pixel."""

import dataclasses
import io
import os

import scipy  # imports scipy.io on first use

from input_pipeline import storage
from input_pipeline.people.parts import LIP_PARTS
from input_pipeline.prepared import entries
from input_pipeline.sources.annotated.labeled_images import LabeledSource, Labels, open_labeled
from input_pipeline.sources.annotated.matlab import load_matlab
from input_pipeline.sources.annotated.photos import NO_PHOTO, Photos, existing

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
  """The layout of a parsing data set. Places are paths below its folder; the first that exists is used.

  Attributes:
    lists: split -> possible places of its list of images, one name without extension per line.
    images: split -> possible places of the folder of images.
    planes: file in annotations() -> split -> possible places of the folder of its PNGs.
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
  """Opens one split of a parsing data set: parts.png with the classes `legend["parts"]`; for CIHP also instances.png.

  An image is left out if its labels have another size.

  Args:
    kind: a key of `PARSING_SETS`.
    path: the data set's folder.
    split: train or val, for ATR also test; None for train.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.

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
      f"{setting}={path} has no split {split!r} of {kind.upper()}: expected {' and '.join(missing)}; it has lists of "
      f"{', '.join(splits) or 'none'}"
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
    words = line.split()  # some lists also name the label file
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
  """Opens the photos of Clothing Co-Parsing with labeled pixels: 59 classes of clothing, hair and skin in parts.png.

  Photos with tags but no labeled pixels are left out. The data set has no splits.

  Args:
    path: the folder with photos/, annotations/pixel-level/ and label_list.mat.
    split: unused; the data set has no splits.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.

  Raises:
    ValueError: no such folder, or no usable photo.
  """
  del split
  root = existing(path, setting, "the folder of Clothing Co-Parsing")
  names, folder = f"{root}/label_list.mat", "annotations/pixel-level"
  if not storage.exists(names) or not storage.is_folder(f"{root}/{folder}"):
    raise ValueError(
      f"{setting}={path} is not Clothing Co-Parsing; expected a folder with label_list.mat, photos/ and {folder}/"
    )

  def read() -> Labels:
    parts = load_matlab(names, setting).get("label_list", ())
    labels = Labels(Photos(root), legend={"parts": [str(part) for part in parts]}, in_pixels=True)
    present = set(entries(f"{root}/{folder}"))
    for photo in labels.photos.below("photos"):
      file = f"{os.path.splitext(os.path.basename(photo))[0]}.mat"
      if file not in present:
        labels.left_out.append((photo, "its pixels are not labeled, only its tags are known"))
        continue
      size = _size_of_labels(f"{root}/{folder}/{file}")
      if size is None:
        labels.left_out.append((photo, f"{folder}/{file} is not a MATLAB file with a table `groundtruth`"))
        continue
      labels.add(photo, {}, {"parts.png": {"mat": f"{folder}/{file}", "variable": "groundtruth"}})
      labels.images[-1].size = size
    labels.protocol = {"classes": len(parts)}
    return labels

  return open_labeled("ccp", root, root, [names], read, cache_dir=cache_dir, setting=setting, protocol={})


def _size_of_labels(file: str) -> tuple[int, int] | None:
  """Returns (width, height) of the labels in a .mat file without reading them; None if it has none."""
  try:
    shapes = {name: shape for name, shape, _ in scipy.io.whosmat(io.BytesIO(storage.read_file(file)))}
  except Exception:  # scipy raises many types on other files
    return None
  shape = shapes.get("groundtruth", ())
  return tuple(int(side) for side in shape[::-1]) if len(shape) == 2 else None
