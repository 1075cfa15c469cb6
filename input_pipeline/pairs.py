"""Which images go with which: the same instant seen by another camera, or the same person at another moment.

CroCo-Human (Armando et al. 2024) learns from both kinds. An image whose record holds its partner (`saip prepare
--pairs`) goes with that one; any other with what its facts say (see records.py):

    view (0)  same group, same person, same time, another camera
    pose (1)  same group, same person, same camera, another time, `gap` away

`group` is a clip, a scene or a recording. Persons count as the same where no identity is given, cameras where none is;
without a group or a time there is no partner.
"""

import bisect
import collections
import dataclasses
import hashlib
import json
import os

import numpy as np
from tqdm import tqdm

from input_pipeline.source import ImageSource, bounded
from input_pipeline.sources.combined import MixtureSource, Part, SubsetSource, parts_of
from input_pipeline.sources.index import Index, remembered

KINDS = ("view", "pose")
"""Names of the kinds; `pair_type` in a batch is the place in this list."""

_FORMAT = 1  # of the remembered lists; another one for every change of the rules
_UNKNOWN, _OTHER_KIND = -1, -2


@dataclasses.dataclass(frozen=True)
class PairRules:
  """What makes a pair (`data.pairs`).

  Attributes:
    kinds: which of `KINDS` are drawn.
    gap: of a pose pair, the shortest and the longest time between its images, seconds, to the millisecond.
    frame_rate: frames per second of images whose frames are numbered and not timed.
  """

  kinds: tuple[str, ...] = KINDS
  gap: tuple[float, float] = (0.2, 2.0)
  frame_rate: float = 30.0


class Pairs:
  """The partners of every image of a source.

  Which is drawn is a function of the image and a number. The lists lie in files that are mapped into memory, so that
  they travel to worker processes as paths.

  Args:
    indices: the list of each part of the source, in their order, as `_build` makes it.
    rules: for the identity of a run.
  """

  def __init__(self, indices: list[Index], rules: PairRules):
    self._indices = indices
    lengths = [len(index.columns["kept"]) for index in indices]
    self._ends = np.cumsum(lengths).tolist()
    self._starts = [end - length for end, length in zip(self._ends, lengths)]
    self.identity = json.loads(json.dumps(dataclasses.asdict(rules)))  # tuples as JSON has them
    counts = collections.Counter()
    for index in indices:
      counts.update(index.header["counts"])
    self.summary = [f"{counts[kind]:,} images have a {kind} partner" for kind in rules.kinds]
    if any(index.header["numbered"] for index in indices):
      self.summary.append(f"numbered frames are taken at {rules.frame_rate:g} per second")

  def partner(self, i: int, draw: int) -> tuple[int, int]:
    """The partner of image `i`: its index, `i` itself where the record of `i` holds it, and its place in `KINDS`.

    Args:
      i: an index in the source.
      draw: any number of 0 or more. Of an image with partners of both kinds either kind is as likely, of the partners
        of a kind each is.
    """
    part = bisect.bisect_right(self._ends, i)
    columns, start = self._indices[part].columns, self._starts[part]
    if columns["own"][i - start] >= 0:
      return i, int(columns["own"][i - start])
    ranges = columns["ranges"][i - start]  # (kinds, 2, 2): two stretches of the order of each kind
    counts = (ranges[..., 1] - ranges[..., 0]).sum(1)
    kinds = np.flatnonzero(counts)
    kind = int(kinds[draw % len(kinds)])
    rank = draw // len(KINDS) % int(counts[kind])
    (first, end), (second, _) = ranges[kind].tolist()
    place = first + rank if rank < end - first else second + rank - (end - first)
    return start + int(columns[f"{KINDS[kind]}_order"][place]), kind


def open_pairs(source: ImageSource, rules: PairRules, cache_dir: str | os.PathLike) -> tuple[ImageSource, Pairs]:
  """The images of a source that have a partner, and the partners.

  The facts of all images are read once and remembered in `cache_dir`.

  Args:
    source: all images.
    rules: what makes a pair.
    cache_dir: a folder of the run.

  Returns:
    The source without the images that have no partner, which are in its `left_out`, and their partners.

  Raises:
    ValueError: no image of the source, or of a part of a mixture, has a partner.
  """
  indices = {name: _remembered(part, rules, cache_dir) for name, part in parts_of(source).items()}
  for name, index in indices.items():
    if not len(index.columns["kept"]):
      reasons = "; ".join(f"{count:,}: {reason}" for reason, count in index.header["reasons"].items())
      raise ValueError(
        f"data.source={source.identity['source']}: no image of {name!r} has a partner of kind "
        f"{' or '.join(rules.kinds)} ({reasons}); take data.source=multiview or video, people with "
        "data.people_composition=views or clips, or a set made by `saip prepare ... --pairs=FILE`, or change "
        f"data.pairs.gap, which is {rules.gap[0]:g} to {rules.gap[1]:g} seconds"
      )
  pairs = Pairs(list(indices.values()), rules)
  if not isinstance(source, MixtureSource):
    return _paired(source, *indices.values()), pairs
  return MixtureSource(
    {name: Part(_paired(part.source, indices[name]), part.weight) for name, part in source.parts.items()}
  ), pairs


def _paired(source: ImageSource, index: Index) -> ImageSource:
  return source if len(index.columns["kept"]) == len(source) else _Paired(source, index)


class _Paired(SubsetSource):
  """The images of a source that have a partner."""

  def __init__(self, source: ImageSource, index: Index):
    super().__init__(source, index.columns["kept"], "with partners")
    self.left_out = [*source.left_out, *(tuple(item) for item in index.header["left_out"])]


def _remembered(source: ImageSource, rules: PairRules, cache_dir: str | os.PathLike) -> Index:
  of = json.dumps({"format": _FORMAT, "source": source.identity, "rules": dataclasses.asdict(rules)})
  return remembered(cache_dir, "pairs", of, lambda header: True, lambda: _build(source, rules))


def _build(source: ImageSource, rules: PairRules) -> tuple[dict, dict, dict]:
  """Header, texts and columns of the list of a source.

  Columns: `kept` (K,) the images of the source that have a partner, and of each of these `own` (K,), the kind of the
  pair that its record holds or less than 0, and `ranges` (K, kinds, 2, 2): its partners of a kind are two stretches
  [start, end) of `view_order` or `pose_order`, which hold places in `kept`.
  """
  facts = _read_facts(source, rules.frame_rate)
  own = np.where(np.isin(facts["own"], [KINDS.index(kind) for kind in rules.kinds]), facts["own"], _UNKNOWN)
  orders, ranges = [], np.zeros((len(source), len(KINDS), 2, 2), np.int64)
  alone = (facts["own"] == _UNKNOWN) & (facts["group"] >= 0) & (facts["time"] >= 0)
  for number, (kind, find) in enumerate({"view": _view_ranges, "pose": _pose_ranges}.items()):
    wanted = np.flatnonzero(alone & (kind in rules.kinds) & ((kind == "pose") | (facts["camera"] >= 0)))
    order, found = find({name: column[wanted] for name, column in facts.items()}, rules)
    orders.append(wanted[order])
    ranges[wanted[order], number] = found
  partners = (ranges[..., 1] - ranges[..., 0]).sum(-1)  # (images, kinds)
  has_partner = (own >= 0) | partners.any(1)
  kept = np.flatnonzero(has_partner)
  place = np.cumsum(has_partner) - 1
  columns = {"kept": kept, "own": own[kept], "ranges": ranges[kept]} | {
    f"{kind}_order": place[order] for kind, order in zip(KINDS, orders)
  }
  reasons = _reasons(facts, has_partner)
  listed = ((source.name(i) if number < 1000 else "", reason) for number, (i, reason) in enumerate(reasons))
  digest = hashlib.sha256(b"".join(column.tobytes() for column in columns.values())).hexdigest()[:16]
  header = {
    "digest": digest,
    "left_out": bounded(listed),
    "numbered": bool(facts["numbered"].any()),
    "reasons": dict(collections.Counter(reason for _, reason in reasons)),
    "counts": {kind: int(((partners[:, k] > 0) | (own == k)).sum()) for k, kind in enumerate(KINDS)},
  }
  return header, {"name": []}, columns


def _read_facts(source: ImageSource, frame_rate: float) -> dict[str, np.ndarray]:
  """What says who goes with whom, a number for each image: group, identity, camera and kind of the record's own pair,
  each -1 where unknown; time in milliseconds; whether that was a frame's number."""
  rows = np.full((len(source), 6), _UNKNOWN, np.int64)
  codes = collections.defaultdict(dict)
  code = lambda name, value: _UNKNOWN if value is None else codes[name].setdefault(repr(value), len(codes[name]))
  for i in tqdm(range(len(source)), "pairs", disable=None, leave=False):
    try:
      facts, _ = source.annotations(i)
    except OSError:  # it goes with none
      continue
    person = next(iter(facts.get("people") or ()), {})
    kind = facts.get("pair")
    own = _UNKNOWN if kind is None else KINDS.index(kind) if kind in KINDS else _OTHER_KIND
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


def _view_ranges(facts: dict[str, np.ndarray], rules: PairRules) -> tuple[np.ndarray, np.ndarray]:
  """Images in an order in which those of an instant stand together, and the stretches of others' cameras: (n, 2, 2)."""
  order = np.lexsort([facts[name] for name in ("camera", "time", "identity", "group")])
  instants = _runs([facts[name][order] for name in ("group", "identity", "time")])
  cameras = _runs([facts[name][order] for name in ("group", "identity", "time", "camera")])
  return order, np.stack([instants[:, 0], cameras[:, 0], cameras[:, 1], instants[:, 1]], 1).reshape(-1, 2, 2)


def _pose_ranges(facts: dict[str, np.ndarray], rules: PairRules) -> tuple[np.ndarray, np.ndarray]:
  """Images in the order of time, camera by camera, and the stretches before and after each within the gap."""
  order = np.lexsort([facts[name] for name in ("time", "camera", "identity", "group")])
  sequences = _runs([facts[name][order] for name in ("group", "identity", "camera")])
  time = facts["time"][order]
  # A millisecond more on either side: each time was rounded by up to half of one.
  least, most = max(round(rules.gap[0] * 1000) - 1, 1), round(rules.gap[1] * 1000) + 1
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
  """(n, 2) the first place and the one after the last of the run of equal keys that each place belongs to."""
  length = len(keys[0])
  if not length:
    return np.zeros((0, 2), np.int64)
  begins = np.concatenate([[True], np.any([key[1:] != key[:-1] for key in keys], axis=0)])
  starts = np.flatnonzero(begins)
  return np.stack([starts, np.append(starts[1:], length)], 1)[np.cumsum(begins) - 1]


def _reasons(facts: dict[str, np.ndarray], has_partner: np.ndarray) -> list[tuple[int, str]]:
  """(image, why it has no partner) of all that have none."""

  def reason(i: int) -> str:
    if facts["own"][i] != _UNKNOWN:
      return "its record holds a pair of a kind that is not wanted"
    if facts["group"][i] < 0 or facts["time"][i] < 0:
      return "nothing says of which group of images and which time it is"
    return "no other camera saw its instant, and its camera no other moment that far away"

  return [(i, reason(i)) for i in np.flatnonzero(~has_partner).tolist()]
