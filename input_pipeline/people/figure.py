"""A posed, dressed body as a list of solids: what the ray caster draws."""

import dataclasses

import numpy as np

from input_pipeline.people.appearance import Cloth, Outfit
from input_pipeline.people.skeleton import Body


@dataclasses.dataclass(frozen=True)
class Solid:
  """A round cone (two balls and the hull between them), flattened across its axis; equal ends make an ellipsoid.

  Attributes:
    start: (3,) centre of the first ball, metres.
    end: (3,) centre of the second ball.
    radii: the two balls' radii before flattening, metres.
    front: (3,) direction that the solid's own z axis points to, as far as its axis allows.
    flatten: factors on the thickness along the solid's own x (sideways) and z (front).
    cloth: its surface.
    part: what it is, for labels.
    open_end: cut off flat at the second centre, as the hem of a skirt.
  """

  start: np.ndarray
  end: np.ndarray
  radii: tuple[float, float]
  front: np.ndarray
  flatten: tuple[float, float]
  cloth: Cloth
  part: str
  open_end: bool = False

  def frame(self) -> np.ndarray:
    """(3, 3): rows are the solid's x, y (along the axis), z in the frame that its points are given in."""
    axis = self.end - self.start
    length = np.linalg.norm(axis)
    y = axis / length if length > 1e-6 else np.array([0., 1., 0.])
    z = self.front - (self.front @ y) * y
    if np.linalg.norm(z) < 1e-3:  # looking along the axis: any other direction serves
      z = np.eye(3)[np.argmin(np.abs(y))] - y * np.min(np.abs(y)) * np.sign(y[np.argmin(np.abs(y))])
    z = z / np.linalg.norm(z)
    return np.stack([np.cross(y, z), y, z])


def build_figure(body: Body, outfit: Outfit, positions: dict[str, np.ndarray],
                 rotations: dict[str, np.ndarray]) -> list[Solid]:
  """The solids of a dressed body in the world frame (see skeleton.py), all sizes following the body's proportions."""
  size, girth = body.stature, body.stature * body.build
  solids: list[Solid] = []

  def local(joint: str, x: float, y: float, z: float) -> np.ndarray:
    """A point fixed to a joint, offset in shares of the stature."""
    return positions[joint] + rotations[joint] @ (np.array([x, y, z]) * size)

  def add(part, joint, start, end, radii, cloth, flatten=(1., 1.), open_end=False):
    solids.append(Solid(start, end, radii, rotations[joint] @ np.array([0., 0., 1.]), flatten, cloth, part,
                        open_end))

  def between(first: str, second: str, share: float) -> np.ndarray:
    return positions[first] + share * (positions[second] - positions[first])

  _add_trunk(body, outfit, add, local, positions, girth)
  for side in ("left", "right"):
    _add_arm(outfit, add, between, positions, side, girth)
    _add_leg(outfit, add, between, positions, side, size, girth)
    if outfit.bag == "shoulder" and side == "left":
      add("bag", "pelvis", local("pelvis", .125 * body.hips, -.02, .01), local("pelvis", .125 * body.hips, -.10, .01),
          (.062 * size, .066 * size), outfit.bag_cloth, (.45, 1.05))
      add("strap", "chest", local("chest", -.07, .075, .02), local("pelvis", .125 * body.hips, .0, .05),
          (.011 * size, .011 * size), outfit.bag_cloth)
      add("strap", "chest", local("chest", -.07, .075, -.02), local("pelvis", .125 * body.hips, .0, -.05),
          (.011 * size, .011 * size), outfit.bag_cloth)
  _add_head(outfit, add, local, size * body.head)
  return solids


def _add_trunk(body, outfit, add, local, positions, girth) -> None:
  wide = body.shoulders
  add("hips", "pelvis", local("pelvis", 0, -.012, 0), local("pelvis", 0, -.012, 0), (.078 * girth,) * 2, outfit.bottom,
      (1.18 * body.hips, .92))
  add("torso", "chest", local("pelvis", 0, .045, 0), local("chest", 0, -.008, 0), (.074 * girth, .094 * girth),
      outfit.top, (1.06 * (1 + wide) / 2, .74))
  shoulders = positions["right_shoulder"], positions["left_shoulder"]
  add("torso", "chest", *shoulders, (.041 * girth,) * 2, outfit.top, (1., .95))
  if outfit.hem > .2:  # a coat or long shirt
    _add_bell(outfit.top, "torso", outfit.hem, 1.04, body, add, local, positions, girth)
  if outfit.skirt:
    _add_bell(outfit.bottom, "skirt", outfit.skirt, 1., body, add, local, positions, girth)
  if outfit.bag == "backpack":
    add("bag", "chest", local("chest", 0, -.10, -.105), local("chest", 0, .02, -.105),
        (.068 * girth, .062 * girth), outfit.bag_cloth, (1.15, .75))
    for x in (-.062, .062):
      add("strap", "chest", local("chest", x * wide, .075, .025), local("chest", x * wide, -.06, .068 * body.build),
          (.011 * girth,) * 2, outfit.bag_cloth)


def _add_bell(cloth, part, length, ease, body, add, local, positions, girth) -> None:
  """Cloth that hangs around both thighs, `length` of a thigh long, as wide as the stride needs."""
  middle, half_gap = {}, {}
  for joint in ("hip", "knee"):
    left, right = positions[f"left_{joint}"], positions[f"right_{joint}"]
    middle[joint], half_gap[joint] = (left + right) / 2, np.linalg.norm(left - right) / 2
  start = local("pelvis", 0, .035, 0)
  end = middle["hip"] + min(length, 1.) * (middle["knee"] - middle["hip"])
  end = end + max(0., length - 1) * (end - start)
  radius = (half_gap["hip"] + min(length, 1.) * max(0., half_gap["knee"] - half_gap["hip"])) + .058 * girth
  add(part, "pelvis", start, end, (.090 * girth * ease, max(radius, .1 * girth) * ease), cloth,
      (1.13 * (1 + body.hips) / 2, 1.02), True)


def _add_arm(outfit, add, between, positions, side, girth) -> None:
  shoulder, elbow, wrist = f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"
  upper, fore = (.033 * girth, .026 * girth), (.0265 * girth, .018 * girth)
  add("upper_arm", shoulder, positions[shoulder], positions[elbow], upper, outfit.skin)
  add("forearm", elbow, positions[elbow], positions[wrist], fore, outfit.skin)
  add("hand", wrist, between(wrist, f"{side}_fingers", .3), between(wrist, f"{side}_fingers", .75),
      (.020 * girth, .017 * girth), outfit.skin, (.6, 1.15))
  loose = outfit.looseness
  if outfit.sleeve > 0:
    end = min(1., outfit.sleeve * 2)
    add("upper_arm", shoulder, positions[shoulder], between(shoulder, elbow, end),
        (upper[0] * loose ** .5, upper[1] * loose), outfit.top)
  if outfit.sleeve > .5:
    add("forearm", elbow, positions[elbow], between(elbow, wrist, outfit.sleeve * 2 - 1),
        (fore[0] * loose, fore[1] * loose * 1.1), outfit.top)


def _add_leg(outfit, add, between, positions, side, size, girth) -> None:
  hip, knee, ankle, toes = (f"{side}_{joint}" for joint in ("hip", "knee", "ankle", "toes"))
  thigh, shin = (.056 * girth, .038 * girth), (.037 * girth, .023 * girth)
  top = .3 if outfit.skirt or outfit.hem > .2 else 0.  # under wide cloth the hip itself would show through
  add("thigh", hip, between(hip, knee, top), positions[knee], thigh, outfit.skin)
  add("shin", knee, positions[knee], positions[ankle], shin, outfit.skin)
  heel = positions[ankle] - .2 * (positions[toes] - positions[ankle]) - np.array([0, .012 * size, 0])
  add("shoe", ankle, heel, between(ankle, toes, .85), (.026 * size, .020 * size), outfit.shoes)
  if outfit.skirt:
    return
  loose = 1 + (outfit.looseness - 1) * .8
  add("thigh", hip, between(hip, knee, top), between(hip, knee, max(top, min(1., outfit.leg * 2))),
      (thigh[0] * loose ** .5, thigh[1] * loose), outfit.bottom)
  if outfit.leg > .5:
    add("shin", knee, positions[knee], between(knee, ankle, (outfit.leg * 2 - 1) * .93),
        (shin[0] * loose, shin[1] * loose * 1.25), outfit.bottom)


def _add_head(outfit, add, local, size) -> None:
  """Head, face and hair; sizes follow the head alone."""
  skin, hair = outfit.skin, outfit.hair
  dark = Cloth("plain", np.full(3, .06, np.float32), np.full(3, .06, np.float32), 1.)
  lips = Cloth("plain", (skin.base_rgb * (.80, .50, .50)).astype(np.float32), skin.base_rgb, 1.)

  def ball(part, x, y, z, radius, cloth, flatten=(1., 1.)):
    add(part, "head", local("head", x, y, z), local("head", x, y, z), (radius * size,) * 2, cloth, flatten)

  def cone(part, start, end, radii, cloth, flatten=(1., 1.)):
    add(part, "head", local("head", *start), local("head", *end), (radii[0] * size, radii[1] * size), cloth, flatten)

  add("neck", "neck", local("neck", 0, -.02, 0), local("neck", 0, .05, .004), (.032 * size, .030 * size), skin)
  cone("head", (0, -.022, .004), (0, .012, 0), (.043, .052), skin, (.90, 1.06))
  cone("face", (0, -.006, .053), (0, -.018, .058), (.005, .009), skin)  # nose
  cone("face", (-.012, -.040, .043), (.012, -.040, .043), (.0055, .0055), lips)
  for x in (-1, 1):
    ball("face", .019 * x, .006, .0465, .0085, dark, (1.1, .8))  # eye
    ball("face", .0475 * x, .001, -.002, .014, skin, (.5, 1.))  # ear
  if outfit.hair_style != "bald":
    cone("hair", (0, -.004, -.013), (0, .021, -.010), (.050, .0535), hair, (.96, 1.02))
  if outfit.hair_style in ("bob", "long"):
    length = .075 if outfit.hair_style == "bob" else .15
    cone("hair", (0, .005, -.022), (0, -length, -.034), (.050, .043), hair, (1.06, .74))
  elif outfit.hair_style == "tail":
    cone("hair", (0, .012, -.066), (0, -.12, -.066), (.022, .013), hair)
  elif outfit.hair_style == "bun":
    ball("hair", 0, .055, -.045, .028, hair)
  if outfit.hat != "none":
    cone("hat", (0, .026, -.004), (0, .034, -.006), (.055, .053), outfit.hat_cloth, (.98, 1.06))
  if outfit.hat == "cap":  # its peak
    cone("hat", (-.022, .030, .066), (.022, .030, .066), (.030, .030), outfit.hat_cloth, (.30, 1.2))
