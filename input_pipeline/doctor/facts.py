"""All findings as one JSON-able dict, from which report, doctor.json and advice are made."""

import collections
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from input_pipeline.doctor.duplicates import exact_groups, near_groups
from input_pipeline.doctor.examine import Findings
from input_pipeline.doctor.inspect_image import CANVAS_HW, TRAITS
from input_pipeline.doctor.known_sets import known_sets
from input_pipeline.names import shown
from input_pipeline.source import ImageSource, count_left_out
from input_pipeline.sources.datasets.coco import unread_files
from input_pipeline.sources.kinds import SOURCE_KINDS

# Maximum lengths of lists in the dict; the files in the folder `out` have all items.
_MOST_LISTED, _MOST_GROUPS, _MOST_OF_A_GROUP = 1000, 100, 20

_IN_COCO_FORM = ("coco", "crowdhuman")
_PERCENTILES = {"min": 0, "p5": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95, "max": 100}

# A training sample is an image and a scene, which by default is another image of the same data set.
_DECODED_PER_SAMPLE = 2


def duplicate_groups(findings: Findings) -> dict[str, list[np.ndarray]]:
  """Returns the rows of each group of "exact" and "near" copies, the largest group first.

  The search for near copies uses only the first of exact copies and no nearly blank images, which all look alike.
  """
  readable = findings.readable
  exact = [readable[group] for group in exact_groups(findings.digests[readable])]
  copies = np.concatenate([group[1:] for group in exact]) if exact else []
  compared = np.setdiff1d(np.setdiff1d(readable, copies), findings.rows_with("blank"))
  near = near_groups(findings.outlines[compared], findings.thumbnails[compared])
  return {"exact": exact, "near": [compared[group] for group in near]}


def gather_facts(
  source: ImageSource,
  kind: str,
  path: str,
  split: str | None,
  findings: Findings,
  groups: Mapping[str, Sequence[np.ndarray]],
  seed: int,
) -> dict:
  """Collects the facts of a data set.

  Args:
    source: the data set.
    kind: its kind, as in `data.source`.
    path: its path or URL.
    split: the opened split; None for the default one.
    findings: the findings in its images.
    groups: from `duplicate_groups`.
    seed: seed of the sample.

  Returns:
    A dict of plain values, always with the same keys. Shares are fractions of the examined images, sizes are in
    pixels, times in seconds; unknown values are None.
  """
  name = lambda row: shown(source.name(int(findings.positions[row])))
  examined = len(findings)
  traits = {}
  for trait in TRAITS:
    rows = findings.rows_with(trait)
    traits[trait] = _share(len(rows), examined) | {"names": [name(row) for row in rows[:_MOST_LISTED]]}
  hw = findings.hw[findings.readable]
  unreadable = sorted(findings.unreadable.items())
  return {
    "path": shown(path),
    "kind": kind,
    "split": split,
    "source": source.identity | {"name": shown(str(source.identity["name"]))},
    "unread_annotations": list(map(shown, unread_files(path, source.read_from))) if kind in _IN_COCO_FORM else [],
    "categories": source.categories,
    "known": known_sets(kind, path, len(source), split or next(iter(SOURCE_KINDS[kind].splits or ()), None)),
    "images": len(source),
    "examined": examined,
    "sample_seed": seed if examined < len(source) else None,
    "unreadable": _share(len(unreadable), examined)
    | {
      "reasons": _counted(findings.unreadable.values()),
      "images": [{"name": name(row), "reason": reason} for row, reason in unreadable[:_MOST_LISTED]],
    },
    "not_photos": _share(len(findings.not_photos), examined)
    | {
      "formats": _counted(findings.not_photos.values()),
      "names": [name(row) for row in sorted(findings.not_photos)[:_MOST_LISTED]],
    },
    "left_out": _describe_left_out(source.left_out),
    "duplicates": {key: _describe_groups(groups[key], name, examined) for key in ("exact", "near")},
    "traits": traits,
    "sizes": {
      "height": _spread(hw[:, 0]),
      "width": _spread(hw[:, 1]),
      "shorter_side": _spread(hw.min(1)),
      "aspect": _spread(hw[:, 0] / hw[:, 1]),
      "megapixels": _spread(hw.prod(1, dtype=np.int64) / 1e6),
    },
    "speed": _speed(findings, len(source)),
  }


def _describe_left_out(left_out: Sequence[tuple[str, str]]) -> dict:
  reasons = collections.Counter()
  for item in left_out:
    reasons[item[1]] += count_left_out([item])
  return {
    "count": count_left_out(left_out),
    "reasons": dict(reasons.most_common(_MOST_LISTED)),
    "images": [{"name": shown(name), "reason": reason} for name, reason in left_out[:_MOST_LISTED]],
  }


def _share(count: int, examined: int) -> dict:
  return {"count": count, "share": round(count / examined, 6)}


def _counted(items: Iterable[str]) -> dict[str, int]:
  return dict(collections.Counter(items).most_common(_MOST_LISTED))


def _describe_groups(groups: Sequence[np.ndarray], name, examined: int) -> dict:
  """Describes groups of copies; `count` is the number of images without the first of each group."""
  return _share(sum(len(group) - 1 for group in groups), examined) | {
    "groups": len(groups),
    "biggest": [
      {"size": len(group), "names": [name(row) for row in group[:_MOST_OF_A_GROUP]]} for group in groups[:_MOST_GROUPS]
    ],
  }


def _spread(values: np.ndarray) -> dict[str, float | None]:
  if not len(values):
    return dict.fromkeys(_PERCENTILES)
  return dict(
    zip(_PERCENTILES, [round(float(value), 4) for value in np.percentile(values, list(_PERCENTILES.values()))])
  )


def _speed(findings: Findings, length: int) -> dict:
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
  rate = findings.timed_images / findings.timed_s if findings.timed_images else None
  return {
    "canvas_hw": list(CANVAS_HW),
    "timed_images": findings.timed_images,
    "cores": cores,
    "images_per_second_one_thread": rate and round(rate, 1),
    "decoded_per_sample": _DECODED_PER_SAMPLE,
    "epoch_seconds": rate and round(length * _DECODED_PER_SAMPLE / (rate * cores), 1),
  }
