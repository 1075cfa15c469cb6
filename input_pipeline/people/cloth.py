"""What surfaces look like: cloth patterns, the colours that clothes come in, and what those colours are called."""

import dataclasses

import numpy as np

PATTERNS = ("plain", "stripes", "bars", "checks", "dots", "gradient", "blocks", "print")
ALL_OVER_PATTERNS = ("stripes", "bars", "checks", "dots")
"""Those that any part of a garment shows, not the front of the trunk alone."""

COLOURS = ("black", "grey", "white", "brown", "red", "pink", "orange", "yellow", "green", "blue", "purple")
"""The eleven basic colour words of English: every colour has exactly one of them, see `colour_name`."""

# What cloth is dyed in: few tones each, so that many people wear nearly the same.
_TONES = {
    "black": ((.045, .045, .05), (.075, .07, .075), (.105, .105, .11)),
    "grey": ((.20, .20, .21), (.34, .34, .35), (.50, .50, .51), (.64, .64, .63)),
    "white": ((.88, .88, .87), (.93, .92, .90)),
    "brown": ((.22, .145, .09), (.37, .245, .15), (.54, .44, .30), (.74, .64, .47)),
    "red": ((.60, .08, .09), (.38, .06, .09), (.78, .15, .13)),
    "pink": ((.88, .62, .68), (.83, .42, .54)),
    "orange": ((.86, .43, .11), (.80, .35, .08)),
    "yellow": ((.90, .78, .22), (.80, .67, .13)),
    "green": ((.09, .22, .13), (.25, .30, .13), (.18, .47, .25), (.55, .72, .52)),
    "blue": ((.06, .08, .20), (.09, .12, .27), (.17, .24, .38), (.30, .41, .56), (.12, .28, .66), (.58, .69, .84)),
    "purple": ((.28, .14, .36), (.54, .41, .68)),
}
# What people call the tones: word of `COLOURS` -> (brightness up to which they fit, words).
_WORDS = {
    "black": ((1., ("black",)),),
    "grey": ((.28, ("dark grey", "charcoal")), (.57, ("grey",)), (1., ("light grey", "grey"))),
    "white": ((1., ("white",)),),
    "brown": ((.29, ("dark brown",)), (.46, ("brown",)), (.64, ("khaki", "light brown")), (1., ("beige", "tan"))),
    "red": ((.48, ("burgundy", "dark red")), (1., ("red", "bright red"))),
    "pink": ((1., ("pink",)),),
    "orange": ((1., ("orange", "bright orange")),),
    "yellow": ((1., ("yellow", "bright yellow")),),
    "green": ((.37, ("dark green",)), (.62, ("green",)), (1., ("light green", "pale green"))),
    "blue": ((.32, ("navy", "navy blue", "dark blue")), (.74, ("blue",)), (1., ("light blue", "pale blue"))),
    "purple": ((.5, ("dark purple", "purple")), (1., ("lilac", "light purple"))),
}
_TONE_JITTER, _TINT_JITTER = .08, .008
_LEAST_CONTRAST = .22


@dataclasses.dataclass(frozen=True)
class Cloth:
  """A pattern on a surface.

  Attributes:
    pattern: one of `PATTERNS`.
    base_rgb: (3,) linear-ish albedo, 0 to 1; more than half of the surface has it.
    accent_rgb: (3,) the pattern's second colour.
    period: size of a repeat, metres.
  """

  pattern: str
  base_rgb: np.ndarray
  accent_rgb: np.ndarray
  period: float

  @classmethod
  def plain(cls, rgb) -> "Cloth":
    """A surface of one colour."""
    rgb = np.asarray(rgb, np.float32)
    return cls("plain", rgb, rgb, 1.)

  def all_over(self) -> "Cloth":
    """The same cloth away from the front of the trunk: a print or a band across the chest is not there."""
    return self if self.pattern in ("plain", *ALL_OVER_PATTERNS) else Cloth.plain(self.base_rgb)

  def albedo(self, points: np.ndarray) -> np.ndarray:
    """Colours at points on a solid.

    Args:
      points: (3, N) in the solid's own frame, metres: x across, y along its axis, z to its front. On the trunk y runs
        downwards from the middle of the chest.

    Returns:
      (3, N) RGB, 0 to 1.
    """
    base_rgb = self.base_rgb[:, None]
    if self.pattern == "plain":
      return np.broadcast_to(base_rgb, points.shape)
    x, y, z = points
    if self.pattern == "stripes":
      share = np.mod(y, self.period) < self.period * .42
    elif self.pattern == "gradient":
      share = np.clip((y - .08) / .35, 0, 1)
    elif self.pattern == "blocks":
      share = np.abs(y - .07) < .065
    elif self.pattern == "print":
      share = (np.abs(x) < .03 + self.period * .4) & (z > 0) & (np.abs(y - .05) < .02 + self.period * .4)
    else:
      around = np.arctan2(x, z) * np.float32(.13)  # metres along the cloth of a middling limb
      if self.pattern == "bars":
        share = np.mod(around, self.period) < self.period * .4
      elif self.pattern == "checks":
        share = sum((np.mod(place, self.period) < self.period * .42) * np.float32(.5) for place in (y, around))
      elif self.pattern == "dots":
        dx = np.mod(around + np.floor(y / self.period) * (self.period * .5), self.period) - self.period * .5
        dy = np.mod(y, self.period) - self.period * .5
        share = dx * dx + dy * dy < (self.period * .3) ** 2
      else:
        assert False, self.pattern
    return base_rgb + share.astype(np.float32) * (self.accent_rgb[:, None] - base_rgb)


def colour_name(rgb: np.ndarray) -> str:
  """The word of `COLOURS` for a colour: attributes and captions both go by it."""
  red, green, blue = (float(channel) for channel in rgb)
  value = max(red, green, blue)
  chroma = value - min(red, green, blue)
  saturation = chroma / max(value, 1e-6)
  if value < .14:
    return "black"
  if saturation < .14:
    return "white" if value > .76 else "grey"
  if value == red:
    hue = 60 * ((green - blue) / chroma) % 360
  elif value == green:
    hue = 60 * ((blue - red) / chroma + 2)
  else:
    hue = 60 * ((red - green) / chroma + 4)
  if hue < 14 or hue >= 325:
    return "red" if saturation > .6 else "pink" if value > .5 else "brown" if hue < 14 else "purple"
  if hue < 60:
    if saturation < .6 or value < .5:
      return "brown"
    return "orange" if hue < 38 else "yellow"
  return "yellow" if hue < 66 else "green" if hue < 170 else "blue" if hue < 257 else "purple"


def colour_words(rgb: np.ndarray) -> tuple[str, ...]:
  """What a colour may be called in a sentence: finer than `colour_name` and never at odds with it."""
  value = float(np.max(rgb))
  return next(words for brightest, words in _WORDS[colour_name(rgb)] if value <= brightest)


def sample_cloth(rng: np.random.Generator, colours: dict[str, float], patterned: float = 0.,
                 patterns: tuple[str, ...] = PATTERNS[1:]) -> Cloth:
  """A random cloth.

  Args:
    rng: source of all draws.
    colours: word of `COLOURS` -> chance that it is the base colour; they add up to 1.
    patterned: chance of a pattern.
    patterns: those to choose from.

  Returns:
    The cloth.
  """
  base = _sample_rgb(rng, colours)
  if rng.random() >= patterned:
    return Cloth.plain(base)
  accent = _sample_rgb(rng, colours)
  while np.abs(accent - base).max() < _LEAST_CONTRAST:
    accent = _sample_rgb(rng, dict.fromkeys(COLOURS, 1 / len(COLOURS)))
  return Cloth(str(rng.choice(patterns)), base, accent, float(rng.uniform(.035, .11)))


def _sample_rgb(rng: np.random.Generator, colours: dict[str, float]) -> np.ndarray:
  tones = _TONES[pick(rng, colours)]
  tone = np.array(tones[rng.integers(len(tones))]) * rng.uniform(1 - _TONE_JITTER, 1 + _TONE_JITTER)
  return np.clip(tone + rng.uniform(-_TINT_JITTER, _TINT_JITTER, 3), .02, .97).astype(np.float32)


def pick(rng: np.random.Generator, chances: dict[str, float]) -> str:
  """One of the keys, each with its own chance; the chances add up to 1."""
  place = rng.random()
  for key, chance in chances.items():
    place -= chance
    if place < 0:
      break
  return key
