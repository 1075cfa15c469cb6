"""What one identity wears and looks like: garments, skin, hair and carried things.

Clothes do not identify a person: most are dark or plain and come in few tones, so that many people look alike and only
some stand out, as on a street. The shares below agree with the frequencies in attributes.py.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from input_pipeline.people.cloth import ALL_OVER_PATTERNS, Cloth, pick, sample_cloth

_SKIN_RGB = ((250, 214, 188), (236, 190, 158), (214, 160, 122), (182, 126, 90), (134, 88, 60), (86, 56, 42))
_HAIR_RGB = {
  "black": ((24, 20, 18), (36, 30, 28)),
  "brown": ((58, 40, 29), (98, 66, 41)),
  "blond": ((158, 118, 68), (216, 182, 118)),
  "red": ((128, 56, 30), (160, 78, 42)),
  "grey": ((138, 136, 134), (218, 216, 212)),
}

_TOPS = {
  "black": 0.23,
  "blue": 0.17,
  "grey": 0.16,
  "white": 0.15,
  "red": 0.07,
  "green": 0.07,
  "brown": 0.06,
  "pink": 0.03,
  "yellow": 0.03,
  "purple": 0.02,
  "orange": 0.01,
}
_BOTTOMS = {
  "black": 0.33,
  "blue": 0.33,
  "grey": 0.14,
  "brown": 0.10,
  "white": 0.04,
  "green": 0.03,
  "red": 0.01,
  "pink": 0.01,
  "purple": 0.01,
}
_SHOES = {"black": 0.42, "white": 0.25, "brown": 0.13, "grey": 0.10, "blue": 0.05, "red": 0.05}
_EXTRAS = {
  "black": 0.30,
  "grey": 0.18,
  "blue": 0.16,
  "red": 0.10,
  "brown": 0.10,
  "white": 0.06,
  "green": 0.05,
  "yellow": 0.03,
  "pink": 0.02,
}
_GLOVES = {"black": 0.60, "brown": 0.20, "grey": 0.10, "red": 0.10}
_SOCKS = {"white": 0.40, "black": 0.30, "grey": 0.20, "red": 0.05, "blue": 0.05}
_PATTERNED_TOPS, _PATTERNED_BOTTOMS, _PATTERNED_COATS = 0.38, 0.10, 0.10


class _Taste(NamedTuple):
  """Chances of clothes, hair and a beard that occur together; each half of the people has one of two tastes."""

  wears: dict[str, float]
  hair: dict[str, float]
  beard: float


_TASTES = (
  _Taste(
    {"trousers": 0.46, "shorts": 0.10, "skirt": 0.18, "dress": 0.20, "jumpsuit": 0.06},
    {"short": 0.12, "bob": 0.24, "long": 0.30, "tail": 0.22, "bun": 0.12},
    0.0,
  ),
  _Taste(
    {"trousers": 0.78, "shorts": 0.20, "jumpsuit": 0.02},
    {"bald": 0.10, "short": 0.78, "bob": 0.04, "long": 0.04, "tail": 0.02, "bun": 0.02},
    0.30,
  ),
)
_HAIR = {"black": 0.33, "brown": 0.37, "blond": 0.15, "red": 0.05, "grey": 0.10}
_SLEEVES = {"none": 0.08, "short": 0.44, "long": 0.48}
_COATS = {"none": 0.75, "jacket": 0.13, "coat": 0.12}
_HATS = {"none": 0.80, "cap": 0.10, "beanie": 0.06, "brim": 0.04}
_BAGS = {"none": 0.65, "backpack": 0.19, "shoulder": 0.16}
_SUNGLASSES, _BOOTS = 0.11, 0.12
_SOCKS_SHARE = 0.45  # of those with bare shins and no boots
_GLOVES_SHARE, _SCARF_SHARE = 0.15, 0.20  # of those with long sleeves
_OPEN_COATS, _TUCKED, _CROPPED = 0.5, 0.45, 0.12


class Garment(NamedTuple):
  """A piece of clothing on one region of the body.

  Attributes:
    cloth: its surface.
    label: its name in `LIP_PARTS`.
    length: how far it reaches along the limb, see `Outfit`.
  """

  cloth: Cloth
  label: str
  length: float


@dataclasses.dataclass(frozen=True)
class Outfit:
  """All visible properties of an identity except its proportions; lengths are shares of a limb.

  Attributes:
    wears: what covers the legs: trousers, shorts, skirt, dress or jumpsuit; the last two cover the trunk as well.
    top: cloth of shirt, dress or jumpsuit.
    bottom: cloth of trousers, shorts or skirt; that of `top` for dress and jumpsuit.
    coat: none, jacket (to the hips) or coat (around the thighs); worn over `top`.
    shoes: cloth of shoes or boots.
    scarf: None without one; the same holds for `gloves`.
    sleeve: length of the sleeves of `top`: 0 none, 0.5 at the elbow, 1 at the wrist.
    leg: length of trousers, shorts or jumpsuit: 0.5 at the knee, 1 at the ankle; 0 with a skirt or dress.
    skirt: length of a skirt or dress: 1 at the knee, more below it; 0 without one.
    hem: length of a coat, in the units of `skirt`; 0 for a jacket.
    coat_open: whether the front of the trunk shows what is under the coat.
    tucked: whether the top ends at the waist and not over the hips.
    looseness: factor on the thickness of sleeves and trouser legs.
    socks: how far long socks reach up the shin, 0 without them.
    boots: how far boots reach up the shin, 0 for shoes.
    hair_color: black, brown, blond, red or grey.
    hair_style: bald, short, bob, long, tail or bun.
    hat: none, cap, beanie or brim.
    bag: none, backpack or shoulder.
  """

  wears: str
  top: Cloth
  bottom: Cloth
  coat: str
  coat_cloth: Cloth
  shoes: Cloth
  scarf: Cloth | None
  gloves: Cloth | None
  skin: Cloth
  hair: Cloth
  hat_cloth: Cloth
  bag_cloth: Cloth
  sleeve: float
  leg: float
  skirt: float
  hem: float
  coat_open: bool
  tucked: bool
  looseness: float
  socks: float
  sock_cloth: Cloth
  boots: float
  hair_color: str
  hair_style: str
  beard: bool
  sunglasses: bool
  hat: str
  bag: str

  @classmethod
  def sample(cls, rng: np.random.Generator, child: bool = False) -> "Outfit":
    """Draws a random outfit.

    Args:
      rng: source of all draws.
      child: whether a child wears it: no beard, no bald or grey head.

    Returns:
      The outfit.
    """
    taste = _TASTES[rng.integers(len(_TASTES))]
    wears = pick(rng, taste.wears)
    whole = wears in ("dress", "jumpsuit")
    top = sample_cloth(rng, _TOPS, _PATTERNED_TOPS, *((ALL_OVER_PATTERNS,) if whole else ()))
    bottom = sample_cloth(rng, _BOTTOMS, _PATTERNED_BOTTOMS, ALL_OVER_PATTERNS)
    coat = pick(rng, _COATS)
    sleeve = {"none": 0.0, "short": rng.uniform(0.28, 0.5), "long": 1.0}[pick(rng, _SLEEVES)]
    leg = {
      "shorts": rng.uniform(0.27, 0.47),
      "trousers": 0.86 if rng.random() < _CROPPED else 1.0,
      "jumpsuit": 1.0,
    }.get(wears, 0.0)
    skirt = rng.uniform(0.5, 1.2) if wears in ("skirt", "dress") else 0.0
    boots = rng.uniform(0.35, 0.8) if rng.random() < _BOOTS else 0.0
    socks = rng.uniform(0.3, 0.7) if leg < 0.5 and not boots and rng.random() < _SOCKS_SHARE else 0.0
    wrapped = coat != "none" or sleeve == 1
    hair_color, hair_style = pick(rng, _HAIR), pick(rng, taste.hair)
    if child:
      hair_color = "brown" if hair_color == "grey" else hair_color
      hair_style = "short" if hair_style == "bald" else hair_style
    return cls(
      wears=wears,
      top=top,
      bottom=top if whole else bottom,
      coat=coat,
      coat_cloth=sample_cloth(rng, _TOPS, _PATTERNED_COATS, ALL_OVER_PATTERNS),
      shoes=sample_cloth(rng, _SHOES),
      scarf=sample_cloth(rng, _EXTRAS, 0.4, ALL_OVER_PATTERNS) if wrapped and rng.random() < _SCARF_SHARE else None,
      gloves=sample_cloth(rng, _GLOVES) if wrapped and rng.random() < _GLOVES_SHARE else None,
      skin=Cloth.plain(_between(rng, _SKIN_RGB)),
      hair=Cloth.plain(_between(rng, _HAIR_RGB[hair_color])),
      hat_cloth=sample_cloth(rng, _EXTRAS, 0.2, ALL_OVER_PATTERNS),
      bag_cloth=sample_cloth(rng, _EXTRAS),
      sleeve=sleeve,
      leg=leg,
      skirt=skirt,
      hem=rng.uniform(0.35, min(0.9, skirt - 0.12) if skirt else 0.9) if coat == "coat" else 0.0,
      coat_open=rng.random() < _OPEN_COATS,
      tucked=rng.random() < _TUCKED,
      looseness=rng.uniform(1.06, 1.3),
      socks=socks,
      sock_cloth=sample_cloth(rng, _SOCKS),
      boots=boots,
      hair_color=hair_color,
      hair_style=hair_style,
      beard=rng.random() < taste.beard and not child,
      sunglasses=rng.random() < _SUNGLASSES,
      hat=pick(rng, _HATS),
      bag=pick(rng, _BAGS),
    )

  @property
  def under(self) -> Garment:
    """The garment of the trunk next to the skin."""
    return Garment(self.top, {"dress": "Dress", "jumpsuit": "Jumpsuits"}.get(self.wears, "Upper-clothes"), self.sleeve)

  @property
  def upper(self) -> Garment:
    """The outermost garment of trunk and arms: the coat, if there is one."""
    return self.under if self.coat == "none" else Garment(self.coat_cloth, "Coat", 1.0)

  @property
  def lower(self) -> Garment:
    """The garment of the legs; `length` is `leg` or `skirt`."""
    label = {"dress": "Dress", "jumpsuit": "Jumpsuits", "skirt": "Skirt"}.get(self.wears, "Pants")
    return Garment(self.bottom, label, self.skirt or self.leg)


def _between(rng: np.random.Generator, tones) -> np.ndarray:
  """Draws a color between two neighbors of (N, 3) tones of 0 to 255."""
  place = rng.uniform(0, len(tones) - 1)
  return np.array([np.interp(place, range(len(tones)), channel) for channel in np.transpose(tones)]) / 255
