"""A scene: people and things at one place at one moment, for any number of cameras."""

import dataclasses

import numpy as np

from input_pipeline.people.appearance import Outfit
from input_pipeline.people.cloth import PATTERNS, Cloth
from input_pipeline.people.figure import build_figure
from input_pipeline.people.light import Light
from input_pipeline.people.place import Place
from input_pipeline.people.skeleton import Body, Pose, place_joints
from input_pipeline.people.solid import Solid

_IDENTITY_STREAM = 1


def sample_identity(seed: int, identity: int) -> tuple[Body, Outfit]:
  """Draws body and clothes of one identity of a set."""
  return sample_person(np.random.default_rng((seed, _IDENTITY_STREAM, identity)))


def sample_person(rng: np.random.Generator) -> tuple[Body, Outfit]:
  """Draws a body and clothes that suit it."""
  body = Body.sample(rng)
  return body, Outfit.sample(rng, body.child)


@dataclasses.dataclass(frozen=True)
class PosedPerson:
  """A dressed body in a pose at a place.

  Attributes:
    identity: number in the set; -1 for a passer-by who belongs to no set.
    body: proportions.
    outfit: clothes.
    positions: joint -> (3,) meters, world frame.
    rotations: joint -> (3, 3) from the joint's rest frame.
    solids: the figure.
  """

  identity: int
  body: Body
  outfit: Outfit
  positions: dict[str, np.ndarray]
  rotations: dict[str, np.ndarray]
  solids: list[Solid]

  @classmethod
  def standing(
    cls, identity: int, body: Body, outfit: Outfit, pose: Pose, heading: float, ground_xz: tuple[float, float]
  ) -> "PosedPerson":
    """Puts a person on the ground; heading in radians, 0 looks along +z."""
    positions, rotations = place_joints(body, pose, heading, ground_xz)
    return cls(identity, body, outfit, positions, rotations, build_figure(body, outfit, positions, rotations))

  def middle(self) -> np.ndarray:
    """Returns (3,) the middle of the joints' bounds."""
    points = np.array(list(self.positions.values()))
    return (points.min(0) + points.max(0)) / 2


@dataclasses.dataclass(frozen=True)
class Scene:
  """People and things at one moment.

  Attributes:
    place: ground, panels and sky.
    light: the light.
    people: labeled people.
    bystanders: unlabeled people.
    props: things that hide people: the solids of each.
  """

  place: Place
  light: Light
  people: list[PosedPerson]
  bystanders: list[PosedPerson]
  props: list[list[Solid]]


def sample_prop(rng: np.random.Generator, at: np.ndarray, across: np.ndarray) -> list[Solid]:
  """Draws a pole, hedge, bin, rail or board.

  Args:
    rng: source of all draws.
    at: (3,) place on the ground, meters.
    across: (3,) unit, horizontal: the direction of long things.
  """
  kind = str(rng.choice(["pole", "hedge", "bin", "rail", "board"], p=[0.3, 0.25, 0.15, 0.15, 0.15]))
  rgb = np.clip(rng.uniform(0.1, 0.8) + rng.normal(0, 0.12, (2, 3)), 0.03, 0.95).astype(np.float32)
  if kind == "hedge":
    rgb *= np.array([0.7, 1.0, 0.45], np.float32)
  pattern = "dots" if kind == "hedge" else str(rng.choice(PATTERNS[:4]))
  cloth = Cloth(pattern, rgb[0], rgb[1], 0.05 if kind == "hedge" else float(rng.uniform(0.04, 0.3)))
  up, front = np.array([0.0, 1.0, 0.0]), np.cross(across, (0.0, 1.0, 0.0))

  def solid(start, end, radius, flatten=(1.0, 1.0)):
    return Solid(start, end, (radius, radius), front, flatten, cloth, part="prop", label=0)

  if kind == "pole":
    return [solid(at, at + 4.5 * up, rng.uniform(0.03, 0.11))]
  if kind == "hedge":
    bushes = zip(np.linspace(-1, 1, 5) * rng.uniform(0.2, 1.2), rng.uniform(0.2, 0.42, 5))
    return [solid(at + x * across, at + x * across + radius * up, radius) for x, radius in bushes]
  if kind == "bin":
    radius = rng.uniform(0.18, 0.3)
    return [solid(at, at + rng.uniform(0.4, 0.7) * up, radius)]
  half = across * rng.uniform(0.4, 1.2)
  if kind == "rail":
    return [solid(at - half + height * up, at + half + height * up, 0.025) for height in (0.45, 0.95)] + [
      solid(at + side * half, at + side * half + 0.95 * up, 0.03) for side in (-1, 1)
    ]
  radius = rng.uniform(0.2, 0.45)
  return [
    solid(at + (0.2 + radius) * up, at + (0.6 + radius) * up, radius, (1.2, 0.08)),
    solid(at, at + 0.5 * up, 0.04),
  ]
