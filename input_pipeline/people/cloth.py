"""Cloth: surface patterns, the colors of clothes, and the words for those colors."""

import dataclasses

import numpy as np

PATTERNS = ("plain", "stripes", "bars", "checks", "dots", "gradient", "blocks", "print")
ALL_OVER_PATTERNS = ("stripes", "bars", "checks", "dots")
"""Patterns that cover a whole garment; the others appear on the front of the trunk only."""

BASIC_COLORS = ("black", "grey", "white", "brown", "red", "pink", "orange", "yellow", "green", "blue", "purple")
"""The eleven basic color words of English; `color_name` maps each color to exactly one of them."""

# Tones of each color: few, so that many people wear nearly the same.
_TONES = {
  "black": ((0.045, 0.045, 0.05), (0.075, 0.07, 0.075), (0.105, 0.105, 0.11)),
  "grey": ((0.20, 0.20, 0.21), (0.34, 0.34, 0.35), (0.50, 0.50, 0.51), (0.64, 0.64, 0.63)),
  "white": ((0.88, 0.88, 0.87), (0.93, 0.92, 0.90)),
  "brown": ((0.22, 0.145, 0.09), (0.37, 0.245, 0.15), (0.54, 0.44, 0.30), (0.74, 0.64, 0.47)),
  "red": ((0.60, 0.08, 0.09), (0.38, 0.06, 0.09), (0.78, 0.15, 0.13)),
  "pink": ((0.88, 0.62, 0.68), (0.83, 0.42, 0.54)),
  "orange": ((0.86, 0.43, 0.11), (0.80, 0.35, 0.08)),
  "yellow": ((0.90, 0.78, 0.22), (0.80, 0.67, 0.13)),
  "green": ((0.09, 0.22, 0.13), (0.25, 0.30, 0.13), (0.18, 0.47, 0.25), (0.55, 0.72, 0.52)),
  "blue": (
    (0.06, 0.08, 0.20),
    (0.09, 0.12, 0.27),
    (0.17, 0.24, 0.38),
    (0.30, 0.41, 0.56),
    (0.12, 0.28, 0.66),
    (0.58, 0.69, 0.84),
  ),
  "purple": ((0.28, 0.14, 0.36), (0.54, 0.41, 0.68)),
}
# Words for the tones: basic color -> (highest brightness that they fit, words).
_WORDS = {
  "black": ((1.0, ("black",)),),
  "grey": ((0.28, ("dark grey", "charcoal")), (0.57, ("grey",)), (1.0, ("light grey", "grey"))),
  "white": ((1.0, ("white",)),),
  "brown": ((0.29, ("dark brown",)), (0.46, ("brown",)), (0.64, ("khaki", "light brown")), (1.0, ("beige", "tan"))),
  "red": ((0.48, ("burgundy", "dark red")), (1.0, ("red", "bright red"))),
  "pink": ((1.0, ("pink",)),),
  "orange": ((1.0, ("orange", "bright orange")),),
  "yellow": ((1.0, ("yellow", "bright yellow")),),
  "green": ((0.37, ("dark green",)), (0.62, ("green",)), (1.0, ("light green", "pale green"))),
  "blue": ((0.32, ("navy", "navy blue", "dark blue")), (0.74, ("blue",)), (1.0, ("light blue", "pale blue"))),
  "purple": ((0.5, ("dark purple", "purple")), (1.0, ("lilac", "light purple"))),
}
_TONE_JITTER, _TINT_JITTER = 0.08, 0.008
_LEAST_CONTRAST = 0.22


@dataclasses.dataclass(frozen=True)
class Cloth:
  """A pattern on a surface.

  Attributes:
    pattern: one of `PATTERNS`.
    base_rgb: (3,) linear-ish albedo, 0 to 1; more than half of the surface has it.
    accent_rgb: (3,) the pattern's second color.
    period: size of a repeat, meters.
  """

  pattern: str
  base_rgb: np.ndarray
  accent_rgb: np.ndarray
  period: float

  @classmethod
  def plain(cls, rgb) -> "Cloth":
    """Returns a surface of one color."""
    rgb = np.asarray(rgb, np.float32)
    return cls("plain", rgb, rgb, 1.0)

  def all_over(self) -> "Cloth":
    """Returns the cloth away from the front of the trunk: without a print or a band across the chest."""
    return self if self.pattern in ("plain", *ALL_OVER_PATTERNS) else Cloth.plain(self.base_rgb)

  def albedo(self, points: np.ndarray) -> np.ndarray:
    """Returns the colors at points on a solid.

    Args:
      points: (3, N) in the solid's own frame, meters: x across, y along its axis, z to its front. On the trunk y runs
        downwards from the middle of the chest.

    Returns:
      (3, N) RGB, 0 to 1.
    """
    base_rgb = self.base_rgb[:, None]
    if self.pattern == "plain":
      return np.broadcast_to(base_rgb, points.shape)
    x, y, z = points
    if self.pattern == "stripes":
      share = np.mod(y, self.period) < self.period * 0.42
    elif self.pattern == "gradient":
      share = np.clip((y - 0.08) / 0.35, 0, 1)
    elif self.pattern == "blocks":
      share = np.abs(y - 0.07) < 0.065
    elif self.pattern == "print":
      share = (np.abs(x) < 0.03 + self.period * 0.4) & (z > 0) & (np.abs(y - 0.05) < 0.02 + self.period * 0.4)
    else:
      around = np.arctan2(x, z) * np.float32(0.13)  # meters along the cloth of a typical limb
      if self.pattern == "bars":
        share = np.mod(around, self.period) < self.period * 0.4
      elif self.pattern == "checks":
        share = sum((np.mod(place, self.period) < self.period * 0.42) * np.float32(0.5) for place in (y, around))
      elif self.pattern == "dots":
        dx = np.mod(around + np.floor(y / self.period) * (self.period * 0.5), self.period) - self.period * 0.5
        dy = np.mod(y, self.period) - self.period * 0.5
        share = dx * dx + dy * dy < (self.period * 0.3) ** 2
      else:
        raise AssertionError(self.pattern)
    return base_rgb + share.astype(np.float32) * (self.accent_rgb[:, None] - base_rgb)


def color_name(rgb: np.ndarray) -> str:
  """Returns the word of `BASIC_COLORS` for a color; attributes and captions both use it."""
  red, green, blue = (float(channel) for channel in rgb)
  value = max(red, green, blue)
  chroma = value - min(red, green, blue)
  saturation = chroma / max(value, 1e-6)
  if value < 0.14:
    return "black"
  if saturation < 0.14:
    return "white" if value > 0.76 else "grey"
  if value == red:
    hue = 60 * ((green - blue) / chroma) % 360
  elif value == green:
    hue = 60 * ((blue - red) / chroma + 2)
  else:
    hue = 60 * ((red - green) / chroma + 4)
  if hue < 14 or hue >= 325:
    return "red" if saturation > 0.6 else "pink" if value > 0.5 else "brown" if hue < 14 else "purple"
  if hue < 60:
    if saturation < 0.6 or value < 0.5:
      return "brown"
    return "orange" if hue < 38 else "yellow"
  return "yellow" if hue < 66 else "green" if hue < 170 else "blue" if hue < 257 else "purple"


def color_words(rgb: np.ndarray) -> tuple[str, ...]:
  """Returns phrases for a color: finer than `color_name` and never in contradiction to it."""
  value = float(np.max(rgb))
  return next(words for brightest, words in _WORDS[color_name(rgb)] if value <= brightest)


def sample_cloth(
  rng: np.random.Generator, colors: dict[str, float], patterned: float = 0.0, patterns: tuple[str, ...] = PATTERNS[1:]
) -> Cloth:
  """Draws a random cloth.

  Args:
    rng: source of all draws.
    colors: basic color -> probability of being the base color; they sum to 1.
    patterned: probability of a pattern.
    patterns: patterns to choose from.

  Returns:
    The cloth.
  """
  base = _sample_rgb(rng, colors)
  if rng.random() >= patterned:
    return Cloth.plain(base)
  accent = _sample_rgb(rng, colors)
  while np.abs(accent - base).max() < _LEAST_CONTRAST:
    accent = _sample_rgb(rng, dict.fromkeys(BASIC_COLORS, 1 / len(BASIC_COLORS)))
  return Cloth(str(rng.choice(patterns)), base, accent, float(rng.uniform(0.035, 0.11)))


def _sample_rgb(rng: np.random.Generator, colors: dict[str, float]) -> np.ndarray:
  tones = _TONES[pick(rng, colors)]
  tone = np.array(tones[rng.integers(len(tones))]) * rng.uniform(1 - _TONE_JITTER, 1 + _TONE_JITTER)
  return np.clip(tone + rng.uniform(-_TINT_JITTER, _TINT_JITTER, 3), 0.02, 0.97).astype(np.float32)


def pick(rng: np.random.Generator, chances: dict[str, float]) -> str:
  """Draws one of the keys with the given probabilities, which sum to 1."""
  place = rng.random()
  for key, chance in chances.items():
    place -= chance
    if place < 0:
      break
  return key
