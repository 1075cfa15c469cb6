"""Pairs of images: the same instant seen by another camera, or the same person at another moment.

CroCo-Human (Armando et al. 2024) learns from both kinds. If the record of an image holds its partner (`saip prepare
--pairs`), that is its only partner. For all other images, the facts decide (see records.py):

    view (0)  same group, same person, same time, another camera
    pose (1)  same group, same person, same camera, another time, `gap` away

`group` is a clip, a scene or a recording. Without identities all persons of a group count as the same, without cameras
all cameras. An image without a group or a time has no partner.
"""

import bisect
import collections
import dataclasses
import hashlib
import json
import os

import numpy as np
from tqdm import tqdm

from input_pipeline.settings import PAIR_KINDS, PairsConfig
from input_pipeline.source import ImageSource, bounded
from input_pipeline.sources.combined import MixtureSource, SubsetSource, WeightedSource, parts_of
from input_pipeline.sources.index import Index, cached_index

_FORMAT = 1  # of the cached lists; incremented with every change of the rules
_UNKNOWN, _OTHER_KIND = -1, -2


class Pairs:
  """The partners of every image of a source.

  The partner is a function of the image and a number. The lists are files mapped into memory; pickled into worker
  processes, they are paths.

  Args:
    indices: the list of each part of the source, in their order, as `_build` makes it.
    settings: which images make a pair.
  """

  def __init__(self, indices: list[Index], settings: PairsConfig):
    self._indices = indices
    lengths = [len(index.columns["kept"]) for index in indices]
    self._ends = np.cumsum(lengths).tolist()
    self._starts = [end - length for end, length in zip(self._ends, lengths)]
    self.identity = json.loads(json.dumps(dataclasses.asdict(settings)))  # tuples become lists
    counts = collections.Counter()
    for index in indices:
      counts.update(index.header["counts"])
    self.summary = [f"{counts[kind]:,} images have a {kind} partner" for kind in settings.kinds]
    if any(index.header["numbered"] for index in indices):
      self.summary.append(f"numbered frames are taken at {settings.frame_rate:g} per second")

  def partner(self, i: int, draw: int) -> tuple[int, int]:
    """Returns the partner of image `i`, and the kind of the pair as an index into `PAIR_KINDS`.

    Args:
      i: an index in the source.
      draw: any number of 0 or more. For uniform numbers, both kinds are equally likely where an image has partners of
        both, and so are all partners of a kind.

    Returns:
      The index of the partner, `i` itself where the record of `i` holds it, and the kind.
    """
    part = bisect.bisect_right(self._ends, i)
    columns, start = self._indices[part].columns, self._starts[part]
    if columns["own"][i - start] >= 0:
      return i, int(columns["own"][i - start])
    ranges = columns["ranges"][i - start]  # (kinds, 2, 2): two stretches of the order of each kind
    counts = (ranges[..., 1] - ranges[..., 0]).sum(1)
    kinds = np.flatnonzero(counts)
    kind = int(kinds[draw % len(kinds)])
    rank = draw // len(PAIR_KINDS) % int(counts[kind])
    (first, end), (second, _) = ranges[kind].tolist()
    place = first + rank if rank < end - first else second + rank - (end - first)
    return start + int(columns[f"{PAIR_KINDS[kind]}_order"][place]), kind


def open_pairs(source: ImageSource, settings: PairsConfig, cache_dir: str | os.PathLike) -> tuple[ImageSource, Pairs]:
  """Returns the images of a source that have a partner, and the partners.

  The facts of all images are read once and kept in `cache_dir`.

  Args:
    source: all images.
    settings: which images make a pair (`data.pairs`).
    cache_dir: a folder of the run.

  Returns:
    The source without the images that have no partner, which are in its `left_out`, and their partners.

  Raises:
    ValueError: no image of the source, or of a part of a mixture, has a partner.
  """
  indices = {name: _index_of(part, settings, cache_dir) for name, part in parts_of(source).items()}
  for name, index in indices.items():
    if not len(index.columns["kept"]):
      reasons = "; ".join(f"{count:,}: {reason}" for reason, count in index.header["reasons"].items())
      raise ValueError(
        f"data.source={source.identity['source']}: no image of {name!r} has a partner of kind "
        f"{' or '.join(settings.kinds)} ({reasons}); take data.source=multiview or video, people with "
        "data.people_composition=views or clips, or a set made by `saip prepare ... --pairs=FILE`, or change "
        f"data.pairs.gap, which is {settings.gap[0]:g} to {settings.gap[1]:g} seconds"
      )
  pairs = Pairs(list(indices.values()), settings)
  if not isinstance(source, MixtureSource):
    return _paired(source, *indices.values()), pairs
  return MixtureSource(
    {name: WeightedSource(_paired(part.source, indices[name]), part.weight) for name, part in source.parts.items()}
  ), pairs


def _paired(source: ImageSource, index: Index) -> ImageSource:
  return source if len(index.columns["kept"]) == len(source) else _Paired(source, index)


class _Paired(SubsetSource):
  """The images of a source that have a partner."""

  def __init__(self, source: ImageSource, index: Index):
    super().__init__(source, index.columns["kept"], "with partners")
    self.left_out = [*source.left_out, *(tuple(item) for item in index.header["left_out"])]


def _index_of(source: ImageSource, settings: PairsConfig, cache_dir: str | os.PathLike) -> Index:
  of = json.dumps({"format": _FORMAT, "source": source.identity, "rules": dataclasses.asdict(settings)})
  return cached_index(cache_dir, "pairs", of, lambda header: True, lambda: _build(source, settings))


def _build(source: ImageSource, settings: PairsConfig) -> tuple[dict, dict, dict]:
  """Returns header, texts and columns of the list of a source.

  Columns: `kept` (K,), the images of the source that have a partner. For each of these: `own` (K,), the kind of the
  pair that its record holds, negative for none; and `ranges` (K, kinds, 2, 2), its partners of each kind as two
  stretches [start, end) of `view_order` or `pose_order`, which hold positions in `kept`.
  """
  facts = _read_facts(source, settings.frame_rate)
  own = np.where(np.isin(facts["own"], [PAIR_KINDS.index(kind) for kind in settings.kinds]), facts["own"], _UNKNOWN)
  orders, ranges = [], np.zeros((len(source), len(PAIR_KINDS), 2, 2), np.int64)
  alone = (facts["own"] == _UNKNOWN) & (facts["group"] >= 0) & (facts["time"] >= 0)
  for number, (kind, find) in enumerate({"view": _view_ranges, "pose": _pose_ranges}.items()):
    wanted = np.flatnonzero(alone & (kind in settings.kinds) & ((kind == "pose") | (facts["camera"] >= 0)))
    order, found = find({name: column[wanted] for name, column in facts.items()}, settings)
    orders.append(wanted[order])
    ranges[wanted[order], number] = found
  partners = (ranges[..., 1] - ranges[..., 0]).sum(-1)  # (images, kinds)
  has_partner = (own >= 0) | partners.any(1)
  kept = np.flatnonzero(has_partner)
  place = np.cumsum(has_partner) - 1
  columns = {"kept": kept, "own": own[kept], "ranges": ranges[kept]} | {
    f"{kind}_order": place[order] for kind, order in zip(PAIR_KINDS, orders)
  }
  reasons = _reasons(facts, has_partner)
  listed = ((source.name(i) if number < 1000 else "", reason) for number, (i, reason) in enumerate(reasons))
  digest = hashlib.sha256(b"".join(column.tobytes() for column in columns.values())).hexdigest()[:16]
  header = {
    "digest": digest,
    "left_out": bounded(listed),
    "numbered": bool(facts["numbered"].any()),
    "reasons": dict(collections.Counter(reason for _, reason in reasons)),
    "counts": {kind: int(((partners[:, k] > 0) | (own == k)).sum()) for k, kind in enumerate(PAIR_KINDS)},
  }
  return header, {"name": []}, columns


def _read_facts(source: ImageSource, frame_rate: float) -> dict[str, np.ndarray]:
  """Returns (n,) numbers that decide which images pair: group, identity, camera, kind of the pair in the record, and
  time in milliseconds, each -1 where unknown; and whether the time was computed from the number of a frame."""
  rows = np.full((len(source), 6), _UNKNOWN, np.int64)
  codes = collections.defaultdict(dict)
  code = lambda name, value: _UNKNOWN if value is None else codes[name].setdefault(repr(value), len(codes[name]))
  for i in tqdm(range(len(source)), "pairs", disable=None, leave=False):
    try:
      facts, _ = source.annotations(i)
    except OSError:  # it has no partner
      continue
    person = next(iter(facts.get("people") or ()), {})
    kind = facts.get("pair")
    own = _UNKNOWN if kind is None else PAIR_KINDS.index(kind) if kind in PAIR_KINDS else _OTHER_KIND
    numbered = "time" not in facts and "frame" in facts
    seconds = facts["frame"] / frame_rate if numbered else facts.get("time", -1)
    rows[i] = (
      code("group", facts.get("group")),
      code("identity", person.get("identity")),
      code("camera", facts.get("camera")),
      own,
      round(seconds * 1000),
      numbered,
    )
  return dict(zip(("group", "identity", "camera", "own", "time", "numbered"), rows.T))


def _view_ranges(facts: dict[str, np.ndarray], settings: PairsConfig) -> tuple[np.ndarray, np.ndarray]:
  """Returns an order that groups the images of an instant, and (n, 2, 2) the stretches of the other cameras."""
  order = np.lexsort([facts[name] for name in ("camera", "time", "identity", "group")])
  instants = _runs([facts[name][order] for name in ("group", "identity", "time")])
  cameras = _runs([facts[name][order] for name in ("group", "identity", "time", "camera")])
  return order, np.stack([instants[:, 0], cameras[:, 0], cameras[:, 1], instants[:, 1]], 1).reshape(-1, 2, 2)


def _pose_ranges(facts: dict[str, np.ndarray], settings: PairsConfig) -> tuple[np.ndarray, np.ndarray]:
  """Returns the order of time, camera by camera, and (n, 2, 2) the stretches within the gap before and after."""
  order = np.lexsort([facts[name] for name in ("time", "camera", "identity", "group")])
  sequences = _runs([facts[name][order] for name in ("group", "identity", "camera")])
  time = facts["time"][order]
  # A millisecond more on either side: each time was rounded by up to half of one.
  least, most = max(round(settings.gap[0] * 1000) - 1, 1), round(settings.gap[1] * 1000) + 1
  # One clock for all sequences, each of which starts so late that no gap reaches into the one before.
  number = np.cumsum(np.arange(len(order)) == sequences[:, 0])
  since = time - time[sequences[:, 0]]
  clock = number * (since.max(initial=0) + most + 1) + since
  bounds = [
    np.searchsorted(clock, clock + shift, side)
    for shift, side in ((-most, "left"), (-least, "right"), (least, "left"), (most, "right"))
  ]
  return order, np.stack(bounds, 1).reshape(-1, 2, 2)


def _runs(keys: list[np.ndarray]) -> np.ndarray:
  """Returns (n, 2) the start and the end of the run of equal keys that contains each position."""
  length = len(keys[0])
  if not length:
    return np.zeros((0, 2), np.int64)
  begins = np.concatenate([[True], np.any([key[1:] != key[:-1] for key in keys], axis=0)])
  starts = np.flatnonzero(begins)
  return np.stack([starts, np.append(starts[1:], length)], 1)[np.cumsum(begins) - 1]


def _reasons(facts: dict[str, np.ndarray], has_partner: np.ndarray) -> list[tuple[int, str]]:
  """Returns (image, reason) of all images without a partner."""

  def reason(i: int) -> str:
    if facts["own"][i] != _UNKNOWN:
      return "its record holds a pair of a kind that is not wanted"
    if facts["group"][i] < 0 or facts["time"][i] < 0:
      return "its group or its time is unknown"
    return "no other camera saw its instant, and its camera has no other moment that far away"

  return [(i, reason(i)) for i in np.flatnonzero(~has_partner).tolist()]
