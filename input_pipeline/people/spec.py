"""The spec of an endless set of images: how many people, in which composition, and in which splits."""

import dataclasses

COMPOSITIONS = ("crops", "views", "clips", "scenes")
SPLITS = ("train", "val", "test")
STATIONS = 6
IMAGES_PER_IDENTITY = 8
VIEWS, FRAMES, FRAME_SECONDS = 4, 8, 0.125
MOST_PEOPLE = 12

_SPLIT_PATTERN = ("train", "test", "train", "val", "train", "train", "test", "train", "train", "train")
LEAST_SCENE_IDENTITIES = MOST_PEOPLE * len(_SPLIT_PATTERN)  # so that the rarest split fills a scene
_LEAST_HW, _MOST = (32, 16), 4096


@dataclasses.dataclass(frozen=True)
class SetSpec:
  """An endless set of images; the same spec gives the same set everywhere.

  Attributes:
    composition: crops (one person, every image another moment), views (each moment from 4 cameras), clips (8 frames of
      a motion from one camera) or scenes (1 to 12 people on a street).
    image_hw: size of an image in pixels.
    seed: the population; all compositions of a seed show the same people.
    identities: number of different people.

  Raises:
    ValueError: impossible numbers.
  """

  composition: str
  image_hw: tuple[int, int]
  seed: int
  identities: int

  def __post_init__(self):
    if self.composition not in COMPOSITIONS:
      raise ValueError(f"composition={self.composition!r} is unknown; choose one of: {', '.join(COMPOSITIONS)}")
    hw = self.image_hw
    if len(hw) != 2 or any(n < least for n, least in zip(hw, _LEAST_HW)) or max(hw) > _MOST:
      raise ValueError(
        f"image_hw={'x'.join(map(str, hw))} is impossible; expected HEIGHTxWIDTH of at least "
        f"{_LEAST_HW[0]}x{_LEAST_HW[1]} and at most {_MOST} each, e.g. 256x128"
      )
    if self.seed < 0:
      raise ValueError(f"seed={self.seed}: expected 0 or more")
    least = LEAST_SCENE_IDENTITIES if self.composition == "scenes" else 1
    if self.identities < least:
      raise ValueError(f"identities={self.identities}: {self.composition} need at least {least}")


def split_of(number: int) -> str:
  """Returns the split of an identity, or of a scene: 7 of 10 train, 1 val, 2 test; the first four cover all three."""
  return _SPLIT_PATTERN[number % len(_SPLIT_PATTERN)]


def split_of_picture(spec: SetSpec, index: int) -> str:
  """Returns the split of image `index`."""
  return split_of(index if spec.composition == "scenes" else identity_of_picture(spec, index))


def group_size(composition: str) -> int:
  """Returns how many consecutive images form a group that must stay together."""
  return {"views": VIEWS, "clips": FRAMES}.get(composition, 1)


def identity_of_picture(spec: SetSpec, index: int) -> int:
  """Returns the identity that image `index` shows.

  Crops alternate between the identities, so that the start of a set shows all of them. Views and clips show one
  identity in consecutive images.
  """
  return (index if spec.composition == "crops" else index // IMAGES_PER_IDENTITY) % spec.identities
