"""The one shape that figures consist of, and a builder of figures."""

import dataclasses

import numpy as np

from input_pipeline.people.cloth import Cloth
from input_pipeline.people.parts import LABELS
from input_pipeline.people.skeleton import Body


@dataclasses.dataclass(frozen=True)
class Solid:
  """A round cone (two balls and the hull between them), flattened across its axis; equal ends make an ellipsoid.

  Attributes:
    start: (3,) center of the first ball, meters.
    end: (3,) center of the second ball.
    radii: the two balls' radii before flattening, meters.
    front: (3,) direction of the solid's own z axis, up to the component along its axis.
    flatten: factors on the thickness along the solid's own x (sideways) and z (front).
    cloth: its surface.
    part: one of `SOLID_PARTS`: what it belongs to; clothes have the name of the limb that they cover.
    label: its class in `LIP_PARTS`; 0 for bags, which are no part of a person.
    open_end: cut off flat at the second center, as the hem of a skirt.
  """

  start: np.ndarray
  end: np.ndarray
  radii: tuple[float, float]
  front: np.ndarray
  flatten: tuple[float, float]
  cloth: Cloth
  part: str
  label: int
  open_end: bool = False


SOLID_PARTS = (
  "hips",
  "torso",
  "skirt",
  "neck",
  "head",
  "bag",
  *(
    f"{side}_{limb}" for side in ("left", "right") for limb in ("upper_arm", "forearm", "hand", "thigh", "shin", "foot")
  ),
)
"""What a solid can belong to; `skirt` is everything that hangs around both thighs."""


class Draft:
  """A figure under construction.

  Args:
    body: proportions.
    positions: joint -> (3,) meters, world frame.
    rotations: joint -> (3, 3) from its rest frame to the world.

  Attributes:
    solids: the solids added so far.
    size: the stature in meters: lengths scale with it.
    girth: thicknesses scale with it.
  """

  def __init__(self, body: Body, positions: dict[str, np.ndarray], rotations: dict[str, np.ndarray]):
    self.body, self.positions, self.rotations = body, positions, rotations
    self.size, self.girth = body.stature, body.stature * body.build
    self.solids: list[Solid] = []

  def at(self, joint: str, x: float, y: float, z: float, size: float | None = None) -> np.ndarray:
    """Returns a point fixed to a joint, offset in shares of the stature or of another size."""
    return self.positions[joint] + self.rotations[joint] @ (np.array([x, y, z]) * (size or self.size))

  def between(self, first: str, second: str, share: float) -> np.ndarray:
    """Returns a point on the line from one joint to another."""
    return self.positions[first] + share * (self.positions[second] - self.positions[first])

  def add(
    self,
    part: str,
    label: str | None,
    joint: str,
    start: np.ndarray,
    end: np.ndarray,
    radii: tuple[float, float],
    cloth: Cloth,
    flatten: tuple[float, float] = (1.0, 1.0),
    *,
    front: tuple[float, float, float] = (0.0, 0.0, 1.0),
    open_end: bool = False,
  ) -> None:
    """Adds a solid, front fixed to a joint; `label` is a name in `LIP_PARTS`, None if it is no part of a person."""
    self.solids.append(
      Solid(
        start,
        end,
        radii,
        self.rotations[joint] @ np.array(front),
        flatten,
        cloth,
        part,
        LABELS[label or "Background"],
        open_end,
      )
    )

  def add_ellipsoid(
    self,
    part: str,
    label: str | None,
    joint: str,
    center: np.ndarray,
    radius: float,
    cloth: Cloth,
    flatten: tuple[float, float],
    axis: np.ndarray | None = None,
  ) -> None:
    """Adds an ellipsoid with `radius` along `axis`; None: along the joint's own y axis."""
    step = (self.rotations[joint][:, 1] if axis is None else axis) * 4e-4  # far too short to be seen
    self.add(part, label, joint, center - step, center + step, (radius, radius), cloth, flatten)

  def add_segment(
    self,
    part: str,
    label: str,
    joint: str,
    bone: tuple[np.ndarray, np.ndarray],
    radii: tuple[float, float],
    span: tuple[float, float],
    cloth: Cloth,
    *,
    grown: tuple[float, float] = (1.0, 1.0),
    deep: float = 1.0,
    open_end: bool = False,
  ) -> None:
    """Adds a segment of a limb.

    Args:
      part: as for `Solid`.
      label: a name in `LIP_PARTS`.
      joint: the joint that its front is fixed to.
      bone: both ends of the whole limb, meters.
      radii: of the bare limb at its ends, meters.
      span: start and end of the segment, shares of the bone.
      cloth: its surface.
      grown: factors on the radii at the ends of the segment.
      deep: factor on the thickness from front to back.
      open_end: as for `Solid`.
    """
    first, last = (bone[0] + share * (bone[1] - bone[0]) for share in span)
    thick = tuple((radii[0] + share * (radii[1] - radii[0])) * factor for share, factor in zip(span, grown))
    self.add(part, label, joint, first, last, thick, cloth, (1.0, deep), open_end=open_end)
