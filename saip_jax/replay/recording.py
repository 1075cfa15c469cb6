"""Recorded numbers of published code, and their comparison with ours."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

LOSS = 1e-5  # relative
OUTPUT = 1e-4  # of the largest recorded value
GRADIENT = 1e-4  # of the largest entry of the tensor
GRADIENT_NORM = 5e-3  # relative
WEIGHT = 1e-5  # absolute, where the gradient is at least FELT of its largest entry
DECAY = 0.25  # of the published decay
TEACHER = 1e-6  # absolute, after a moving average of the recorded weights
EXACT = 0.0
FELT = 1e-3  # the first step of Adam is a sign: where the gradient is 0, rounding decides it
ROUNDING = 1e-5  # of the largest of all tensors: gradients that are exactly 0, as of biases of keys
_DRAWN = ("meta", "config", "in/", "rand/", "weights/", "student/", "teacher/", "class_token/cls_token")


@dataclasses.dataclass(frozen=True)
class Check:
  """One compared quantity.

  Attributes:
    name: name of the recorded array, or of a quantity derived from it.
    error: largest difference, in the units of the limit.
    limit: largest error allowed.
  """

  name: str
  error: float
  limit: float

  @property
  def passed(self) -> bool:
    return bool(self.error <= self.limit)  # False for NaN


def largest_error(ours, theirs) -> float:
  """Returns the largest difference as a fraction of the largest recorded value.

  Raises:
    ValueError: arrays of different shapes.
  """
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  if ours.shape != theirs.shape:
    raise ValueError(f"shape {ours.shape} here, {theirs.shape} in the fixture")
  return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))


def _largest(arrays: Mapping[str, np.ndarray]) -> float:
  return max((float(np.max(np.abs(a))) for a in arrays.values()), default=0.0)


class Recording:
  """A fixture, and the checks made with it so far.

  Attributes:
    arrays: name -> array.
    meta: sizes and settings of the recorded step.
    checks: the checks.
    compared: names of the arrays that they used.
  """

  def __init__(self, path: str):
    """Reads a fixture.

    Raises:
      ValueError: a file without the settings of a method.
    """
    with np.load(path) as archive:
      self.arrays: dict[str, np.ndarray] = dict(archive)
    described = self.arrays.get("meta", self.arrays.get("config"))
    if described is None:
      raise ValueError("expected an array `meta` or `config`, the settings as JSON; it has neither")
    self.meta: dict[str, Any] = json.loads(str(described))
    self.checks: list[Check] = []
    self.compared: set[str] = set()

  @property
  def method(self) -> str:
    """Name of the method; files of SAIP have `config` instead of `meta`, without a name."""
    return self.meta.get("method", "saip")

  @property
  def results(self) -> list[str]:
    """Names of the arrays that are results, not inputs, weights or draws."""
    return [name for name in self.arrays if not name.startswith(_DRAWN)]

  @property
  def left(self) -> list[str]:
    """Names of the results that no check has used."""
    return [name for name in self.results if name not in self.compared]

  def __getitem__(self, name: str) -> np.ndarray:
    return self.arrays[name]

  def __contains__(self, name: str) -> bool:
    return name in self.arrays

  def below(self, prefix: str) -> dict[str, np.ndarray]:
    """Returns the arrays whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}

  def images(self, *names: str) -> np.ndarray:
    """Returns recorded images (B, 3, H, W) of one size as (B, V, H, W, 3)."""
    return np.stack([self.arrays[name].transpose(0, 2, 3, 1) for name in names], axis=1)

  def numbered(self, prefix: str) -> list[str]:
    """Returns the names made of a prefix and a number, in their order."""
    numbers = sorted(int(name) for name in self.below(prefix) if name.isdigit())
    return [f"{prefix}{number}" for number in numbers]

  def add(self, name: str, error: float, limit: float, *used: str) -> None:
    """Adds a check; `used` are the arrays that it used, by default the one with its name."""
    self.checks.append(Check(name, float(error), limit))
    self.compared |= set(used or (name,))

  def loss(self, name: str, ours) -> None:
    """Compares a scalar, if it is recorded."""
    if name in self.arrays:
      self.add(name, abs(float(ours) / float(self.arrays[name]) - 1), LOSS)

  def output(self, name: str, ours, limit: float = OUTPUT) -> None:
    """Compares an array, if it is recorded; a longer last axis of ours is cut."""
    if name in self.arrays:
      theirs = self.arrays[name]
      self.add(name, largest_error(np.asarray(ours)[..., : theirs.shape[-1]], theirs), limit)

  def gradients(self, prefix: str, ours: Mapping[str, np.ndarray]) -> None:
    """Compares all recorded arrays `prefix`grad/* and `prefix`grad_norm/*.

    Args:
      prefix: prefix of the names.
      ours: published name -> gradient.
    """
    recorded = self.below(f"{prefix}grad/")
    top = _largest(recorded)
    for name, theirs in recorded.items():
      if name not in ours:
        continue
      if np.max(np.abs(theirs)) > ROUNDING * top:
        self.add(f"{prefix}grad/{name}", largest_error(ours[name], theirs), GRADIENT)
      else:
        self.add(f"{prefix}grad/{name}", np.max(np.abs(ours[name])) / top, ROUNDING)
    self.norms(f"{prefix}grad_norm/", ours)

  def norms(self, prefix: str, ours: Mapping[str, np.ndarray]) -> None:
    """Compares the norms of gradients that are recorded below a prefix.

    Args:
      prefix: prefix of the names.
      ours: published name -> gradient.
    """
    recorded = self.below(prefix)
    top = _largest(recorded)
    for name, theirs in recorded.items():
      if name not in ours:
        continue
      norm = np.linalg.norm(np.asarray(ours[name], np.float64))
      if theirs > ROUNDING * top:
        self.add(f"{prefix}{name}", abs(norm / float(theirs) - 1), GRADIENT_NORM)
      else:
        self.add(f"{prefix}{name}", norm / top, ROUNDING)

  def weights(
    self,
    after: str,
    ours: Mapping[str, np.ndarray],
    gradients: str,
    before: Mapping[str, np.ndarray],
    our_gradients: Mapping[str, np.ndarray],
  ) -> None:
    """Compares weights after an update, and the decay of each tensor.

    If the gradient of a tensor is not recorded, ours selects the entries with a gradient, and 99 % of them must be
    equal.

    Args:
      after: prefix of the recorded weights.
      ours: published name -> weight after the update.
      gradients: prefix of the recorded gradients.
      before: published name -> recorded weight before it.
      our_gradients: published name -> gradient.
    """
    decay, top = self.meta["lr"] * self.meta["weight_decay"], _largest(self.below(gradients))
    for name, theirs in self.below(after).items():
      if name not in ours:
        continue
      difference, gradient = ours[name] - theirs, self.arrays.get(f"{gradients}{name}")
      if gradient is None:
        own = np.abs(our_gradients[name])
        self.add(f"{after}{name}", np.quantile(np.abs(difference)[own >= FELT * np.max(own)], 0.99), WEIGHT)
        continue
      if np.max(np.abs(gradient)) <= ROUNDING * top:  # both step by lr, each in its own direction
        self.add(f"{after}{name}", np.max(np.abs(difference)), 2.1 * self.meta["lr"])
        continue
      felt = np.abs(gradient) >= FELT * np.max(np.abs(gradient))
      self.add(f"{after}{name}", np.max(np.abs(difference[felt])), WEIGHT)
      size = np.abs(before[name])
      large = felt & (size >= 0.5 * np.max(size)) & (size > 0)
      if np.any(large):
        share = np.median(difference[large] / (decay * before[name][large]))
        self.add(f"decay of {name}", abs(share), DECAY, f"{after}{name}")

  def teacher(self, ours: Mapping[str, np.ndarray]) -> None:
    """Compares a teacher that has moved towards the recorded weights of the student after the step.

    A tensor without recorded weights has moved towards ours, which differ where the gradient is 0.

    Args:
      ours: published name -> weight.
    """
    for name, theirs in self.below("teacher_after/").items():
      if name in ours:
        difference = np.abs(ours[name] - theirs)
        if f"student_after/{name}" in self.arrays:
          self.add(f"teacher_after/{name}", np.max(difference), TEACHER)
        else:
          self.add(f"teacher_after/{name}", np.quantile(difference, 0.99), WEIGHT)
