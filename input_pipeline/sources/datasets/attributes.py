"""Pedestrian attributes: PA-100K, PETA, RAP, from their MATLAB files."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from input_pipeline import storage
from input_pipeline.sources.annotated.labeled_images import LabeledSource, Labels, open_labeled
from input_pipeline.sources.annotated.matlab import load_matlab, refuse_pickle
from input_pipeline.sources.annotated.photos import Photos, existing

# PETA and RAP come with random partitions; published scores use the first.
_FIRST = {"partition": "1 of 5"}

# Value in the file -> fact; in RAP, 2 marks what cannot be seen.
_VALUES = {0: 0, 1: 1, 2: None}


@dataclasses.dataclass(frozen=True)
class _Table:
  """The contents of a data set's MATLAB file.

  Attributes:
    images: names of the images, in the order of the rows.
    labels: (images, attributes) integers.
    names: names of the evaluated attributes.
    splits: name -> (n,) rows, counted from 0.
    protocol: facts to report with a score.
  """

  images: Sequence[str]
  labels: np.ndarray
  names: Sequence[str]
  splits: dict[str, np.ndarray]
  protocol: dict


def _pa100k(content: dict) -> _Table:
  """Reads {train, val, test}_images_name and _label (0 or 1), and the 26 `attributes`."""
  images, labels, splits = [], [], {}
  for split in ("train", "val", "test"):
    names = _texts(content[f"{split}_images_name"])
    splits[split] = np.arange(len(images), len(images) + len(names))
    images += names
    labels.append(np.reshape(content[f"{split}_label"], (len(names), -1)))
  splits["trainval"] = np.concatenate([splits["train"], splits["val"]])
  return _Table(images, np.concatenate(labels), _texts(content["attributes"]), splits, {})


def _peta(content: dict) -> _Table:
  """Reads one struct by the position of its members: labels after four other columns, names, and fourth the partitions.

  The first 35 of the 105 attributes are evaluated; images are numbered from 00001.png.
  """
  labels, names, _, partitions, *_ = content["peta"].values()
  names, (train, val, test) = _texts(names), _partition(partitions).values()
  splits = {"train": _rows(train), "val": _rows(val), "test": _rows(test)}
  splits["trainval"] = np.concatenate([splits["train"], splits["val"]])
  return _Table(
    [f"{k:05d}.png" for k in range(1, len(labels) + 1)],
    labels[:, 4:][:, :35],
    names[:35],
    splits,
    _FIRST | {"attributes": f"35 of {len(names)}"},
  )


def _rap(content: dict) -> _Table:
  """Reads version 1 (92 attributes, the first 51 evaluated) or version 2 (152, of which the file selects 54)."""
  content = content["RAP_annotation"]
  if "partition_attribute" in content:
    chosen = _rows(content["selected_attribute"])
    indices = _partition(content["partition_attribute"])
    splits = {split: _rows(indices[f"{split}_index"]) for split in ("train", "val", "test")}
    splits["trainval"] = np.concatenate([splits["train"], splits["val"]])
    return _Table(
      _texts(content["name"]),
      content["data"][:, chosen],
      [_texts(content["attribute"])[k] for k in chosen],
      splits,
      _FIRST | {"version": 2, "attributes": f"{len(chosen)} of {len(content['attribute'])}"},
    )
  train, test = _partition(content["partion"]).values()
  return _Table(
    _texts(content["imagesname"]),
    content["label"][:, :51],
    _texts(content["attribute_eng"])[:51],
    {"train": _rows(train), "test": _rows(test)},
    _FIRST | {"version": 1, "attributes": f"51 of {len(content['attribute_eng'])}"},
  )


_SETS: dict[str, tuple[tuple[str, ...], Callable[[dict], _Table]]] = {
  "pa100k": (("annotation.mat", "annotation/annotation.mat"), _pa100k),
  "peta": (("PETA.mat",), _peta),
  "rap": (("RAP_annotation/RAP_annotation.mat", "RAP_annotation.mat"), _rap),
}


def open_attributes(kind: str, path: str, split: str | None, cache_dir: str, setting: str) -> LabeledSource:
  """Opens one split of a pedestrian attribute data set: `people[0]["attributes"]`, named in `legend["attributes"]`.

  Only the attributes of published scores are read. Pickled versions of these files are never read.

  Args:
    kind: "pa100k", "peta" or "rap" (version 1 or 2, recognized from its file).
    path: the data set's folder, which holds its .mat file and, anywhere below, its images.
    split: train, val, trainval or test; RAP 1 has only train and test; None for train.
    cache_dir: folder of the remembered index.
    setting: the option that gave `path`, named in messages.

  Raises:
    ValueError: no such file or split, a malformed file, or no usable image.
  """
  (places, parse), split = _SETS[kind], split or "train"
  refuse_pickle(path, setting, f"the folder that holds {places[0]}")
  root = existing(path, setting, f"a folder with {places[0]}")
  file = next((file for file in (f"{root}/{place}" for place in places) if storage.exists(file)), None)
  if file is None:
    raise ValueError(f"{setting}={path} has no {places[0]}; expected the folder that holds it and the images")
  return open_labeled(
    kind,
    root,
    root,
    [file],
    lambda: _read(file, parse, split, root, setting),
    cache_dir=cache_dir,
    setting=setting,
    protocol={"split": split},
  )


def _read(file: str, parse: Callable[[dict], _Table], split: str, root: str, setting: str) -> Labels:
  content = load_matlab(file, setting)
  try:
    table = parse(content)
  except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
    raise ValueError(
      f"{setting}: {file} does not have this data set's format ({type(error).__name__}: {error})"
    ) from error
  if table.labels.shape != (len(table.images), len(table.names)):
    raise ValueError(
      f"{setting}: {file} has labels of shape {table.labels.shape} for {len(table.images):,} images and "
      f"{len(table.names)} attributes"
    )
  if split not in table.splits:
    raise ValueError(f"{setting}: {file} has no split {split!r}; it has {', '.join(table.splits)}")
  rows = table.splits[split]
  if rows.size and (rows.min() < 0 or rows.max() >= len(table.images)):
    raise ValueError(f"{setting}: {file} has image {rows.max() + 1} in its split {split}; it has {len(table.images):,}")
  labels = Labels(Photos(root), legend={"attributes": list(table.names)}, protocol=table.protocol)
  for row in rows.tolist():
    values = table.labels[row].tolist()
    if set(values) <= _VALUES.keys():
      labels.add(table.images[row], {"people": [{"attributes": [_VALUES[value] for value in values]}]})
    else:
      labels.left_out.append((table.images[row], f"row {row + 1} has a label other than 0, 1 and 2"))
  return labels


def _texts(cells) -> list[str]:
  return [str(cell) for cell in np.atleast_1d(cells)]


def _rows(numbers) -> np.ndarray:
  """Returns rows counted from 0 for numbers counted from 1; a table with several columns gives its first."""
  numbers = np.atleast_1d(numbers)
  return (numbers if numbers.ndim == 1 else numbers[:, 0]).astype(np.int64) - 1


def _partition(partitions) -> dict:
  """Returns the first of several random partitions: split -> numbers of its images, in the file's order."""
  return np.atleast_1d(partitions)[0]
