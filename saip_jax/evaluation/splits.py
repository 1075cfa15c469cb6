"""The training and test parts of a data set, for tasks."""

import dataclasses
import functools
import io

import cv2
import numpy as np
from PIL import Image

from input_pipeline.decode import READABLE_FORMATS, upright_hw
from input_pipeline.source import ImageSource, bounded
from input_pipeline.sources.combined import SubsetSource
from input_pipeline.sources.held_out import held_out, owner, share_of
from input_pipeline.sources.kinds import SOURCE_KINDS
from input_pipeline.sources.table import open_source, whole_photo_options

_TEST_NAMES = ("test", "val", "gallery")


class LabeledImages:
  """Images with their annotations.

  Args:
    source: the images.

  Attributes:
    source: the images.
    legend: meaning of the numbers in annotations, see `ImageSource.legend`.
  """

  def __init__(self, source: ImageSource):
    self.source, self.legend = source, source.legend

  def __len__(self) -> int:
    return len(self.source)

  @functools.cached_property
  def facts(self) -> list[dict]:
    """The annotations of each image, see input_pipeline/records.py."""
    return [self.source.annotations(i)[0] for i in range(len(self.source))]

  def first_person(self, i: int) -> dict:
    """Returns the annotations of the first person in image i, {} if there is none."""
    return next(iter(self.facts[i].get("people") or ()), {})

  def having(self, key: str) -> "LabeledImages":
    """Returns the images whose first person has an annotation `key`; the source counts the others as left out.

    Raises:
      ValueError: no image has it.
    """
    has = np.array([bool(self.first_person(i).get(key)) for i in range(len(self))])
    if has.all():
      return self
    if not has.any():
      raise ValueError(f"no image of {self.source.identity['name']!r} has {key}: choose other --data")
    part = SubsetSource(self.source, np.flatnonzero(has), f"with {key}")
    without = ((self.source.name(i), f"its person has no {key}") for i in np.flatnonzero(~has).tolist())
    part.left_out = [*self.source.left_out, *bounded(without)]
    return LabeledImages(part)

  def of_first_persons(self, key: str, what_for: str) -> list:
    """Returns an annotation of each image's first person; raises ValueError if an image lacks it."""
    values = [self.first_person(i).get(key) for i in range(len(self))]
    missing = next((i for i, value in enumerate(values) if value is None), None)
    if missing is not None:
      raise ValueError(
        f"{self.source.name(missing)} of {self.source.identity['name']!r} has no {key}: {what_for} "
        "needs one for each image; choose other --data"
      )
    return values

  def joint_names(self) -> list[str]:
    """Returns the names of the keypoints of the first persons; raises ValueError if unknown or of several kinds."""
    lists, name = self.legend.get("joints"), self.source.identity["name"]
    if not lists:
      raise ValueError(f"{name!r} has no names of joints: choose other --data, such as people")
    if not isinstance(lists, dict):
      return list(lists)
    used = {self.first_person(i).get("joints") for i in range(len(self))} & lists.keys()
    if len(used) != 1:
      raise ValueError(
        f"{name!r} has keypoints of several kinds or of none of {', '.join(lists)}: expected one kind; "
        "choose a part of the data set"
      )
    return list(lists[used.pop()])

  def size_hw(self, i: int) -> tuple[int, int]:
    """Returns height and width of image i in pixels, from its header; raises ValueError if it cannot be read."""
    try:
      return upright_hw(self.source.read(i))
    except OSError as error:
      why = "it is not an image" if isinstance(error, Image.UnidentifiedImageError) else error
      raise ValueError(f"{self.source.name(i)} of {self.source.identity['name']!r} cannot be read: {why}") from error

  def plane(self, i: int, *names: str) -> np.ndarray | None:
    """Returns the first existing annotation file of image i among `names`, such as "parts.png", (H, W); else None."""
    files = self.source.annotations(i)[1]
    name = next((name for name in names if name in files), None)
    if name is None:
      return None
    data = files[name]
    plane = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if plane is None or plane.ndim != 2:
      with Image.open(io.BytesIO(data), formats=READABLE_FORMATS) as image:
        plane = np.asarray(image)
    if plane.shape != self.size_hw(i):
      raise ValueError(
        f"{name} of {self.source.name(i)} is {plane.shape[0]}x{plane.shape[1]}: expected the size of "
        f"its image, {'x'.join(map(str, self.size_hw(i)))}"
      )
    return plane


@dataclasses.dataclass(frozen=True)
class Data:
  """A data set, as specified by `--data` and the options of its splits.

  Attributes:
    kind: a key of `SOURCE_KINDS`.
    path: its path; None for the default set of built-in people.
    cache_dir: folder for the caches of sources.
    people_count: number of images of the default set of built-in people, or of scenes for whole photos.
    train_split: split of the training part; None for "train".
    test_split: split of the test part; None for the usual one.
    hold_out: divide one split into both parts instead, see `held_out`.
    train_fraction: share of the identities of the training part that are kept, 0 to 1, see `share_of`.
    setting: the option that named it, for messages.
  """

  kind: str
  path: str | None
  cache_dir: str
  people_count: int
  train_split: str | None = None
  test_split: str | None = None
  hold_out: bool = False
  train_fraction: float = 1.0
  setting: str = "--data"

  def __post_init__(self):
    if not 0 < self.train_fraction <= 1:
      raise ValueError(f"--train-fraction={self.train_fraction}: expected more than 0 and at most 1")

  @classmethod
  def parse(cls, text: str, setting: str = "--data", **options) -> "Data":
    """Returns the data set of SOURCE:PATH, or of "people" alone.

    Args:
      text: the value of `--data`.
      setting: the option, for messages.
      **options: the other attributes.

    Raises:
      ValueError: another form, or an unknown source.
    """
    kind, colon, path = text.partition(":")
    if kind not in SOURCE_KINDS:
      raise ValueError(
        f"{setting}={text}: {kind!r} is not a source; expected SOURCE:PATH with one of:"
        f" {', '.join(sorted(SOURCE_KINDS))}"
      )
    if kind != "people" and not path:
      raise ValueError(f"{setting}={text}: expected {kind}:PATH, {SOURCE_KINDS[kind].path}")
    return cls(kind, path or None, setting=setting, **options)

  def open(self, split: str | None, whole: bool = False) -> LabeledImages:
    """Returns one split, by its name; with `whole`, photos with all persons instead of crops of persons."""
    return LabeledImages(
      open_source(
        self.kind,
        self.path,
        split=split,
        cache_dir=self.cache_dir,
        people_count=self.people_count,
        setting=self.setting,
        **whole_photo_options(self.kind) if whole else {},
      )
    )

  @property
  def names(self) -> tuple[str, ...]:
    """The names of its splits; () if there are none, or none known in advance."""
    return SOURCE_KINDS[self.kind].splits or ()

  def train_and_test(self, whole: bool = False) -> tuple[LabeledImages, LabeledImages]:
    """Returns the training part, or its share, and the test part.

    A data set without splits is divided, see `held_out`.

    Args:
      whole: see `open`.
    """
    train, test = self._parts(whole)
    if self.train_fraction < 1:
      train = LabeledImages(share_of(train.source, self.train_fraction))
    return train, test

  def _parts(self, whole: bool) -> tuple[LabeledImages, LabeledImages]:
    if self.hold_out or not (self.train_split or self.test_split or self.names):
      if self.test_split:
        raise ValueError(f"--test-split={self.test_split} and --hold-out, which divides --train-split: set only one")
      train, test = held_out(self.open(self.train_split, whole).source)
      return LabeledImages(train), LabeledImages(test)
    train, test = self.train_split or "train", self._usual_test()
    if train == test:
      raise ValueError(
        f"--train-split and --test-split are both {train!r}: the training part cannot be the test part; "
        "--hold-out divides one split"
      )
    return self.open(train, whole), self.open(test, whole)

  def test(self, whole: bool = False) -> LabeledImages:
    """Returns the test part, for a task without training; `whole` is that of `open`."""
    if self.hold_out or not (self.test_split or self.names):
      return self._parts(whole)[1]
    return self.open(self._usual_test(), whole)

  def query_and_gallery(self) -> tuple[LabeledImages, LabeledImages]:
    """Returns the two sides of a retrieval.

    These are the splits "query" and "gallery" if the data set has them. Otherwise the test part is divided by
    Market-1501's rule: the first image of each person and camera is a query, all others are the gallery.
    """
    if not self.hold_out and self.test_split is None and {"query", "gallery"} <= set(self.names):
      return self.open("query"), self.open("gallery")
    return _cut(self.test())

  def _usual_test(self) -> str:
    usual = next((name for name in _TEST_NAMES if name in self.names), None)
    if not (self.test_split or usual):
      raise ValueError(f"--test-split is needed, or --hold-out: the splits of {self.kind} have no fixed names")
    return self.test_split or usual


def _cut(whole: LabeledImages) -> tuple[LabeledImages, LabeledImages]:
  """Returns (query, gallery), see `Data.query_and_gallery`."""
  pairs = list(zip(whole.of_first_persons("identity", "retrieval"), cameras(whole)))
  _, first = np.unique(np.array(pairs), axis=0, return_index=True)
  query = np.zeros(len(pairs), bool)
  query[first] = True
  if query.all():
    raise ValueError(
      f"{whole.source.identity['name']!r} has one image of each person by each camera: expected more for a gallery"
    )
  part = lambda rows, name: LabeledImages(SubsetSource(whole.source, np.flatnonzero(rows), name))
  return part(query, "first of each person and camera"), part(~query, "the others")


def cameras(images: LabeledImages) -> np.ndarray:
  """Returns (n,) int64 the camera of each image; without cameras in the data set, every image has its own."""
  given = [facts.get("camera") for facts in images.facts]
  if all(camera is None for camera in given):
    return np.arange(len(given))
  missing = next((i for i, camera in enumerate(given) if camera is None), None)
  if missing is not None:
    raise ValueError(f"{images.source.name(missing)} has no camera, others have: retrieval needs all or none")
  return np.array(given, np.int64)


def groups(images: LabeledImages) -> np.ndarray:
  """Returns (n,) int64 groups: images of one person, else crops of one photo, else single images."""
  names = [owner(facts, images.source.name(i)) for i, facts in enumerate(images.facts)]
  return np.unique(names, return_inverse=True)[1].reshape(-1)
