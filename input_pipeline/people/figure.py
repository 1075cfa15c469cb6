"""A posed, dressed body as a list of solids for the ray caster.

Every solid costs time in every image, so invisible solids are left out: no skin under cloth, no hips under a skirt.
Numbers are shares of the stature unless a comment gives another unit.
"""

import numpy as np

from input_pipeline.people.appearance import Garment, Outfit
from input_pipeline.people.cloth import Cloth
from input_pipeline.people.head import add_head
from input_pipeline.people.skeleton import Body
from input_pipeline.people.solid import Draft, Solid

# Radii at both ends; neighbors agree where they meet, otherwise a ring would show.
_UPPER_ARM, _FOREARM = (0.0315, 0.0255), (0.0255, 0.0175)
_THIGH, _SHIN, _TROUSER_SHIN = (0.048, 0.0345), (0.0345, 0.0195), (0.0345, 0.0265)
_LEG_DEPTH = 1.08  # deeper than wide

# Below a hem, a limb begins this much higher (share of its two segments), so that no gap shows.
_OVERLAP = 0.06


def build_figure(
  body: Body, outfit: Outfit, positions: dict[str, np.ndarray], rotations: dict[str, np.ndarray]
) -> list[Solid]:
  """Builds the solids of a dressed body.

  Args:
    body: proportions; all sizes scale with them.
    outfit: clothes.
    positions: joint -> (3,) meters, world frame (see skeleton.py).
    rotations: joint -> (3, 3) from its rest frame to the world.

  Returns:
    The solids, world frame.
  """
  draft = Draft(body, positions, rotations)
  bell = max(outfit.skirt, outfit.hem)
  _add_trunk(draft, outfit)
  if outfit.skirt:
    _add_bell(draft, outfit.lower, bell, 1.0)
  if outfit.hem:
    _add_bell(draft, outfit.upper._replace(length=outfit.hem), bell, 1.07)
  for side in ("left", "right"):
    _add_arm(draft, outfit, side)
    _add_leg(draft, outfit, side, bell)
    _add_foot(draft, outfit, side)
  add_head(draft, outfit)
  _add_bag(draft, outfit)
  return draft.solids


def _add_trunk(draft: Draft, outfit: Outfit) -> None:
  """Adds chest to waist or hem, the slope of the shoulders, the garment under an open coat, hips in trousers."""
  body, girth, upper = draft.body, draft.girth, outfit.upper
  width, ease = (body.shoulders + body.hips) / 2, 1.0 if outfit.coat == "none" else 1.06
  around_thighs = bool(outfit.skirt or outfit.hem)
  over_hips = not around_thighs and (outfit.coat == "jacket" or not outfit.tucked) and upper.label != "Jumpsuits"
  chest, waist = draft.at("chest", 0, -0.011, 0.004), draft.at("pelvis", 0, -0.022 if over_hips else 0.026, 0.001)
  radii = 0.0855 * girth, (0.079 if over_hips else 0.0675) * girth
  flatten = (1.24 * ease * width, 0.82 * ease)
  draft.add("torso", upper.label, "chest", chest, waist, radii, upper.cloth, flatten, open_end=True)
  draft.add_ellipsoid(
    "torso",
    upper.label,
    "chest",
    draft.at("chest", 0, 0.048, -0.004),
    0.048 * girth * ease,
    upper.cloth.all_over(),
    (2.50 * body.shoulders / (ease * body.build**0.7), 1.01),
  )
  if outfit.coat != "none" and outfit.coat_open:
    forward = draft.rotations["chest"] @ np.array([0, 0, 0.008 * draft.size])
    draft.add(
      "torso",
      outfit.under.label,
      "chest",
      chest + forward,
      waist + forward,
      radii,
      outfit.top,
      (0.60, flatten[1]),
      open_end=True,
    )
  if not around_thighs and not over_hips:
    lower = outfit.lower
    draft.add_ellipsoid(
      "hips",
      lower.label,
      "pelvis",
      draft.at("pelvis", 0, 0.006, -0.005),
      0.066 * girth,
      lower.cloth.all_over(),
      (1.42 * body.hips, 0.88),
    )


def _add_bell(draft: Draft, garment: Garment, longest: float, ease: float) -> None:
  """Adds cloth that hangs around both thighs, as wide as the stride needs.

  `longest`, the length of the longest bell of the outfit, gives all its bells one shape.
  """
  middle, apart = {}, {}
  to_pelvis = draft.rotations["pelvis"].T
  for joint in ("hip", "knee"):
    left, right = draft.positions[f"left_{joint}"], draft.positions[f"right_{joint}"]
    middle[joint], apart[joint] = (left + right) / 2, np.abs(to_pelvis @ (left - right)) / 2
  share = min(longest, 1.0)
  start = draft.at("pelvis", 0, -0.014, 0.001)
  end = middle["hip"] + share * (middle["knee"] - middle["hip"])
  end = end + max(0.0, longest - 1) * (end - start)
  across, _, along = apart["hip"] + share * (apart["knee"] - apart["hip"]) + 0.050 * draft.girth
  deep = float(np.clip(along / across, 0.76, 0.92))
  top = 0.085 * draft.girth * (1 + draft.body.hips) / 2
  bottom = max(across, along / 0.92, 0.100 * draft.girth) + 0.012 * longest * draft.size
  cut = garment.length / longest
  draft.add(
    "skirt",
    garment.label,
    "pelvis",
    start,
    start + cut * (end - start),
    (top * ease, (top + cut * (bottom - top)) * ease),
    garment.cloth.all_over(),
    (1.0, deep),
    open_end=True,
  )


def _add_arm(draft: Draft, outfit: Outfit, side: str) -> None:
  shoulder, elbow, wrist, fingers = (f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "fingers"))
  label, sleeve = f"{side.title()}-arm", outfit.upper
  loose = outfit.looseness * (1.0 if outfit.coat == "none" else 1.08)
  cloth = sleeve.cloth.all_over()
  upper, fore = (tuple(radius * draft.girth for radius in radii) for radii in (_UPPER_ARM, _FOREARM))
  sideways = -0.006 if side == "left" else 0.006
  socket = draft.positions[shoulder] + draft.rotations["chest"] @ (np.array([sideways, -0.010, 0]) * draft.size)
  bone = socket, draft.positions[elbow]
  covered = min(1.0, sleeve.length * 2)
  if covered:
    draft.add_segment(
      f"{side}_upper_arm",
      sleeve.label,
      shoulder,
      bone,
      upper,
      (0, covered),
      cloth,
      grown=(loose**0.5, loose),
      open_end=covered < 1,
    )
  if covered < 1:
    draft.add_segment(
      f"{side}_upper_arm", label, shoulder, bone, upper, (max(0.0, covered - 2 * _OVERLAP), 1.0), outfit.skin
    )
  bone = draft.positions[elbow], draft.positions[wrist]
  if sleeve.length == 1:
    draft.add_segment(f"{side}_forearm", sleeve.label, elbow, bone, fore, (0, 1), cloth, grown=(loose, loose * 1.12))
  else:
    draft.add_segment(f"{side}_forearm", label, elbow, bone, fore, (0, 1), outfit.skin)
  draft.add(
    f"{side}_hand",
    label if outfit.gloves is None else "Glove",
    wrist,
    draft.between(wrist, fingers, 0.2),
    draft.between(wrist, fingers, 0.78),
    (0.0200 * draft.girth, 0.0150 * draft.girth),
    outfit.gloves or outfit.skin,
    (0.62, 1.12),
  )


def _add_leg(draft: Draft, outfit: Outfit, side: str, bell: float) -> None:
  """Adds a leg in pieces from hip (0) over knee (0.5) to ankle (1): trousers, skin, then sock or boot."""
  begin = max(0.0, bell / 2 - _OVERLAP)  # the leg above is hidden
  stocking = 1 - max(outfit.socks, outfit.boots) / 2
  lower, covered = outfit.lower, min(outfit.leg, stocking)
  if covered > begin:
    _add_leg_piece(
      draft,
      lower.label,
      side,
      (begin, covered),
      0.2 + outfit.looseness * 0.8,
      lower.cloth.all_over(),
      open_end=outfit.leg == covered < 1,
    )
  if covered < stocking:
    _add_leg_piece(draft, f"{side.title()}-leg", side, (max(begin, covered - _OVERLAP), stocking), 1.0, outfit.skin)
  if outfit.boots:
    _add_leg_piece(draft, f"{side.title()}-shoe", side, (stocking, 1.0), 1.28, outfit.shoes)
  elif outfit.socks:
    _add_leg_piece(draft, "Socks", side, (stocking, 1.0), 1.07, outfit.sock_cloth)


def _add_leg_piece(
  draft: Draft, label: str, side: str, span: tuple[float, float], loose: float, cloth: Cloth, open_end: bool = False
) -> None:
  """Adds one surface along a leg; leaves out a piece so short that its neighbor's round end hides it."""
  first, last = span
  hip, knee, ankle = (f"{side}_{joint}" for joint in ("hip", "knee", "ankle"))
  thigh, shin = ((draft.positions[top], draft.positions[end]) for top, end in ((hip, knee), (knee, ankle)))
  thigh_radii, shin_radii = (
    tuple(radius * draft.girth for radius in radii)
    for radii in (_THIGH, _TROUSER_SHIN if label in ("Pants", "Jumpsuits") else _SHIN)
  )
  if first < 0.44:
    draft.add_segment(
      f"{side}_thigh",
      label,
      hip,
      thigh,
      thigh_radii,
      (2 * first, min(2 * last, 1.0)),
      cloth,
      grown=(loose**0.5, loose),
      deep=_LEG_DEPTH,
      open_end=open_end and last <= 0.5,
    )
  if last > 0.53:
    draft.add_segment(
      f"{side}_shin",
      label,
      knee,
      shin,
      shin_radii,
      (max(2 * first - 1, 0.0), 2 * last - 1),
      cloth,
      grown=(loose, loose),
      deep=_LEG_DEPTH,
      open_end=open_end,
    )


def _add_foot(draft: Draft, outfit: Outfit, side: str) -> None:
  ankle, outward = f"{side}_ankle", 0.007 if side == "left" else -0.007
  draft.add(
    f"{side}_foot",
    f"{side.title()}-shoe",
    ankle,
    draft.at(ankle, 0, -0.0245, -0.016),
    draft.at(ankle, outward, -0.030, 0.086),
    (0.0255 * draft.size, 0.0200 * draft.size),
    outfit.shoes,
    (0.95, 0.9),
    front=(0, 1, 0),
  )


def _add_bag(draft: Draft, outfit: Outfit) -> None:
  """Adds a bag and its straps: thin discs that cut through the trunk and show in front and behind."""
  size, girth, cloth = draft.size, draft.girth, outfit.bag_cloth
  if outfit.bag == "backpack":
    draft.add(
      "bag",
      None,
      "chest",
      draft.at("chest", 0, -0.105, -0.098),
      draft.at("chest", 0, 0.015, -0.100),
      (0.066 * size, 0.060 * size),
      cloth,
      (1.15, 0.72),
    )
    for x in (-0.055, 0.055):
      draft.add_ellipsoid(
        "bag",
        None,
        "chest",
        draft.at("chest", x * draft.body.shoulders, -0.015, 0.004),
        0.1 * girth,
        cloth,
        (0.11, 0.79),
      )
  elif outfit.bag == "shoulder":
    hip, shoulder = draft.at("pelvis", 0.105 * draft.body.hips, 0.015, 0), draft.at("chest", -0.075, 0.055, 0)
    length = float(np.linalg.norm(shoulder - hip))
    draft.add_ellipsoid(
      "bag",
      None,
      "chest",
      hip + 0.55 * (shoulder - hip),
      0.55 * length,
      cloth,
      (0.022 * size / length, 0.142 * girth / length),
      (shoulder - hip) / length,
    )
    draft.add(
      "bag",
      None,
      "pelvis",
      hip - (0, 0.060 * size, 0),
      hip - (0, 0.110 * size, 0),
      (0.052 * size, 0.056 * size),
      cloth,
      (0.5, 1.15),
    )
