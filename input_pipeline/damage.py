"""Damaged images: which, why, and when there are too many to go on."""

import threading

from input_pipeline.names import shown
from input_pipeline.source import ImageSource


class DamageReport:
  """The distinct damaged images that this process met, and the limit past which a run stops.

  A few damaged files in a large folder must not end a long run, and must not go unnoticed. Each host counts the images
  that it read itself.

  Args:
    sources: role -> data set, e.g. {"image": ..., "scene": ...}; both roles may share one data set.
    limit_fraction: the share of a data set that may be damaged (`data.max_damaged_fraction`).
  """

  def __init__(self, sources: dict[str, ImageSource], limit_fraction: float):
    self._sources = sources
    self._limit_fraction = limit_fraction
    self._reasons: dict[int, dict[int, str]] = {id(source): {} for source in sources.values()}
    self._lock = threading.Lock()

  def __len__(self) -> int:
    """The number of distinct damaged images."""
    return sum(len(reasons) for reasons in self._reasons.values())

  @property
  def indices(self) -> dict[str, list[int]]:
    """role -> sorted indices of the damaged images of that role's data set."""
    return {role: sorted(self._reasons[id(source)]) for role, source in self._sources.items()}

  def record(self, role: str, index: int, reason: str) -> None:
    """Notes one damaged image; noting it again changes nothing."""
    with self._lock:
      self._reasons[id(self._sources[role])].setdefault(index, reason)

  def check(self) -> None:
    """Raises ValueError if a data set has more damaged images than allowed, or none that can be read."""
    for source in {id(s): s for s in self._sources.values()}.values():
      reasons = self._reasons[id(source)]
      allowed = allowed_damage(len(source), self._limit_fraction)
      if len(reasons) <= allowed and len(reasons) < len(source):
        continue
      first = "; ".join(f"{shown(source.name(i))}: {reasons[i]}" for i in sorted(reasons)[:3])
      raise ValueError(
        f"{len(reasons)} of {len(source)} images of '{shown(source.identity['name'])}' are damaged, "
        f"data.max_damaged_fraction={self._limit_fraction:g} allows {allowed}; repair or remove them, or "
        f"raise it (some image must be readable). First: {first}"
      )

  def lines(self) -> list[str]:
    """Returns `name: reason` of each file that a data set left out and each damaged image, in its order."""
    distinct = {id(source): source for source in self._sources.values()}
    return [f"{name}: {reason}" for source in distinct.values() for name, reason in source.left_out] + [
      f"{distinct[key].name(i)}: {reason}"
      for key, reasons in self._reasons.items()
      for i, reason in sorted(reasons.items())
    ]


def allowed_damage(length: int, limit_fraction: float) -> int:
  """Returns the number of damaged images that a data set of `length` may have."""
  return int(length * limit_fraction)
