"""What one identity wears and looks like: cloth patterns, skin, hair, things carried."""

import dataclasses

import numpy as np

_SKIN_RGB = np.array([[250, 214, 188], [236, 190, 158], [214, 160, 122], [182, 126, 90], [134, 88, 60], [86, 56, 42]])
_HAIR_RGB = np.array([[24, 20, 18], [52, 36, 26], [92, 62, 38], [150, 108, 60], [214, 178, 112], [140, 64, 36],
                      [150, 148, 146], [222, 220, 216]])
PATTERNS = ("plain", "stripes", "bars", "checks", "dots", "gradient", "blocks", "print")


@dataclasses.dataclass(frozen=True)
class Cloth:
  """A pattern on a surface.

  Attributes:
    pattern: one of `PATTERNS`.
    base_rgb: (3,) linear-ish albedo, 0 to 1.
    accent_rgb: (3,) the pattern's second colour.
    period: size of a repeat, metres.
  """

  pattern: str
  base_rgb: np.ndarray
  accent_rgb: np.ndarray
  period: float

  def albedo(self, points: np.ndarray) -> np.ndarray:
    """Colours at points on a solid.

    Args:
      points: (N, 3) in the solid's own frame, metres: x to its left, y along its axis, z to its front.

    Returns:
      (N, 3) RGB, 0 to 1.
    """
    if self.pattern == "plain":
      return np.broadcast_to(self.base_rgb, points.shape)
    x, y, z = points.T
    around = np.arctan2(x, z) * .13  # metres along the cloth of a middling limb
    if self.pattern == "stripes":
      share = (np.mod(y, self.period) < self.period * .45)
    elif self.pattern == "bars":
      share = (np.mod(around, self.period) < self.period * .4)
    elif self.pattern == "checks":
      share = ((np.mod(y, self.period) < self.period * .5) * .5 + (np.mod(around, self.period) < self.period * .5) * .5)
    elif self.pattern == "dots":
      rows = np.floor(y / self.period)
      dx = np.mod(around + rows * self.period * .5, self.period) - self.period * .5
      dy = np.mod(y, self.period) - self.period * .5
      share = dx * dx + dy * dy < (self.period * .3) ** 2
    elif self.pattern == "gradient":
      share = np.clip(y / .45 + .2, 0, 1)
    elif self.pattern == "blocks":
      share = y > self.period * 3
    elif self.pattern == "print":
      share = (np.abs(x) < .085) & (z > 0) & (y > .17) & (y < .30)
    else:
      assert False, self.pattern
    share = share[:, None].astype(np.float32)
    return self.base_rgb * (1 - share) + self.accent_rgb * share


@dataclasses.dataclass(frozen=True)
class Outfit:
  """Everything visible of an identity but its proportions; lengths are shares of the limb, 0 to 1.

  Attributes:
    sleeve: 0 none, 0.5 at the elbow, 1 at the wrist.
    leg: trouser length: 0.3 shorts, 1 to the ankle.
    skirt: length of a skirt, 0 without one.
    hem: how far the top reaches below the waist, share of the thigh.
    looseness: factor on the thickness of sleeves and trouser legs.
    hair_style: bald, short, bob, long, tail or bun.
    hat: none, cap or beanie.
    bag: none, backpack or shoulder.
  """

  top: Cloth
  bottom: Cloth
  shoes: Cloth
  skin: Cloth
  hair: Cloth
  hat_cloth: Cloth
  bag_cloth: Cloth
  sleeve: float
  leg: float
  skirt: float
  hem: float
  looseness: float
  hair_style: str
  hat: str
  bag: str

  @classmethod
  def sample(cls, rng: np.random.Generator) -> "Outfit":
    skirt = rng.uniform(.5, 1.25) if rng.random() < .18 else 0.
    return cls(
        top=_sample_cloth(rng, plain=.35), bottom=_sample_cloth(rng, plain=.75, sober=.65),
        shoes=_sample_cloth(rng, plain=1., sober=.6),
        skin=_plain(_mix(rng, _SKIN_RGB)), hair=_plain(_mix(rng, _HAIR_RGB)),
        hat_cloth=_sample_cloth(rng, plain=.8), bag_cloth=_sample_cloth(rng, plain=.7, sober=.4),
        sleeve=rng.choice([0., rng.uniform(.3, .5), 1.], p=[.10, .40, .50]),
        leg=rng.choice([rng.uniform(.25, .5), rng.uniform(.7, .85), 1.], p=[.22, .08, .70]),
        skirt=skirt, hem=rng.choice([rng.uniform(.0, .2), rng.uniform(.35, .9)], p=[.75, .25]),
        looseness=rng.uniform(1.06, 1.38),
        hair_style=str(rng.choice(["bald", "short", "bob", "long", "tail", "bun"], p=[.07, .45, .13, .17, .10, .08])),
        hat=str(rng.choice(["none", "cap", "beanie"], p=[.80, .12, .08])),
        bag=str(rng.choice(["none", "backpack", "shoulder"], p=[.66, .20, .14])))


def _plain(rgb: np.ndarray) -> Cloth:
  return Cloth("plain", rgb.astype(np.float32), rgb.astype(np.float32), 1.)


def _mix(rng: np.random.Generator, palette: np.ndarray) -> np.ndarray:
  """A colour between two neighbours of a palette."""
  place = rng.uniform(0, len(palette) - 1)
  first = min(int(place), len(palette) - 2)
  return (palette[first] + (place - first) * (palette[first + 1] - palette[first])) / 255


def _sample_rgb(rng: np.random.Generator, sober: float) -> np.ndarray:
  """A cloth colour; with chance `sober` a dull or dark one (black, grey, navy, khaki, white)."""
  if rng.random() < sober:
    grey, tint = rng.choice([.07, .12, .22, .40, .62, .85]), rng.normal(0, .03, 3)
    navy = np.array([-.02, 0, .10]) if rng.random() < .4 else 0.
    return np.clip(grey + tint + navy, .03, .95)
  hue, chroma, value = rng.uniform(0, 6), rng.uniform(.35, .95), rng.uniform(.25, .95)
  wheel = np.clip(np.abs(np.mod(hue + np.array([0, 4, 2]), 6) - 3) - 1, 0, 1)
  return np.clip(value * (1 - chroma + chroma * wheel), .03, .95)


def _sample_cloth(rng: np.random.Generator, plain: float, sober: float = .3) -> Cloth:
  pattern = "plain" if rng.random() < plain else str(rng.choice(PATTERNS[1:]))
  base, accent = _sample_rgb(rng, sober), _sample_rgb(rng, .35)
  return Cloth(pattern, base.astype(np.float32), accent.astype(np.float32), float(rng.uniform(.035, .11)))
