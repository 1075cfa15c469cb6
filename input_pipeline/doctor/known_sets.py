"""Recognizes published data sets by their number of images and the layout of their folders."""

import dataclasses
import os

_NEAR = 0.01


@dataclasses.dataclass(frozen=True)
class KnownPart:
  """A published data set or a part of it.

  Attributes:
    name: name of the part.
    count: number of its images.
    kinds: kinds of source that are always this set, so that other counts are reported too.
  """

  name: str
  count: int
  kinds: tuple[str, ...] = ()


def _parts(name: str, kind: str, **counts: int) -> list[KnownPart]:
  return [KnownPart(f"{name} {split}", count, (kind,)) for split, count in counts.items()]


_MARKET, _MSMT = ("market1501",), ("msmt17",)
KNOWN_PARTS = (
  KnownPart("LUPerson", 4_180_243),
  KnownPart("LUPerson-NL", 10_683_716),
  KnownPart("Market-1501 train", 12_936, _MARKET),
  KnownPart("Market-1501 query", 3_368, _MARKET),
  KnownPart("Market-1501 gallery", 15_913, _MARKET),
  KnownPart("Market-1501 gallery with its junk", 19_732, _MARKET),
  KnownPart("MSMT17 train", 30_248, _MSMT),
  KnownPart("MSMT17 val", 2_373, _MSMT),
  KnownPart("MSMT17 train and val", 32_621, _MSMT),
  KnownPart("MSMT17 query", 11_659, _MSMT),
  KnownPart("MSMT17 gallery", 82_161, _MSMT),
  *_parts("CUHK-PEDES", "cuhkpedes", train=34_054, val=3_078, test=3_074),
  *_parts("ICFG-PEDES", "icfgpedes", train=34_674, test=19_848),
  *_parts("RSTPReid", "rstpreid", train=18_505, val=1_000, test=1_000),
  *_parts("PA-100K", "pa100k", train=80_000, val=10_000, trainval=90_000, test=10_000),
  *_parts("PETA", "peta", train=9_500, val=1_900, trainval=11_400, test=7_600),
  *_parts("RAPv1", "rap", train=33_268, test=8_317),
  *_parts("RAPv2", "rap", train=50_957, val=16_986, trainval=67_943, test=16_985),
  *_parts("LIP", "lip", train=30_462, val=10_000),
  *_parts("CIHP", "cihp", train=28_280, val=5_000),
)
# From this count on, a match within 1 % is not by chance; a smaller set is recognized by its exact count, if not round.
_TELLING_COUNT = 1_000_000

_MSMT_FOLDERS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}


def known_sets(kind: str, path: str, length: int, split: str | None = None) -> list[str]:
  """Returns sentences on the published data set that matches, or nearly matches.

  Args:
    kind: the kind of source.
    path: its path; only used for MSMT17.
    length: its number of images.
    split: the opened split; None if the set has none. The count is compared with the parts of this split, unless it
      is exactly that of another part.

  Returns:
    The sentences; [] if no known set matches.
  """
  candidates = [part for part in KNOWN_PARTS if kind in part.kinds] or [
    part for part in KNOWN_PARTS if part.count >= _TELLING_COUNT or part.count == length and length % 100
  ]
  parts = [part for part in candidates if part.count == length] or [
    part for part in candidates if split is None or not part.kinds or part.name.split()[1] == split
  ]
  nearest = min(parts, key=lambda part: abs(part.count - length), default=None)
  sentences = [sentence] if nearest and (sentence := _compared(nearest, kind, length)) else []
  version = _msmt17_version(path)
  return sentences + (
    [
      f"This is MSMT17 {version} by its folders ({', '.join(_MSMT_FOLDERS[version])}); numbers of V1 "
      "and V2 cannot be compared."
    ]
    if version
    else []
  )


def _msmt17_version(path: str) -> str | None:
  """Returns "V1" or "V2" (with masked faces) by the layout of an MSMT17 folder; None if it is not MSMT17."""
  if os.path.exists(os.path.join(path, "list_train.txt")):
    for version, folders in _MSMT_FOLDERS.items():
      if all(os.path.isdir(os.path.join(path, folder)) for folder in folders):
        return version
  return None


def _compared(part: KnownPart, kind: str, length: int) -> str | None:
  difference = length - part.count
  missing = f"{abs(difference):,} {'missing' if difference < 0 else 'more'}"
  if not difference:
    return f"{length:,} images: exactly the number of {part.name}{_contrast(part)}."
  if abs(difference) <= _NEAR * part.count:
    return (
      f"{length:,} images: about {part.name}, which has {part.count:,} ({missing}; only the exact number is "
      f"certain){_contrast(part)}."
    )
  if kind in part.kinds:
    return f"{length:,} images: not the number of any part of this set; {part.name} has {part.count:,} ({missing})."
  return None


def _contrast(part: KnownPart) -> str:
  others = [other for other in KNOWN_PARTS if other is not part and other.count >= _TELLING_COUNT]
  if part.count < _TELLING_COUNT:
    return ""
  return "".join(f", not {other.name} ({other.count:,})" for other in others)
