"""Head, hair, hat, scarf and facial features as solids; their sizes scale with the head alone."""

import dataclasses

import numpy as np

from input_pipeline.people.appearance import Outfit
from input_pipeline.people.cloth import Cloth
from input_pipeline.people.solid import Draft

_SHADE = Cloth.plain((0.035, 0.035, 0.04))  # of sunglasses
_EYE_RGB = np.array([0.05, 0.04, 0.04], np.float32)
_LIPS_RGB = np.array([0.82, 0.50, 0.50], np.float32)  # factors on the skin
_CHIN = -0.026  # height of the head solid's lower ball above the head joint


@dataclasses.dataclass(frozen=True)
class Face(Cloth):
  """Skin with painted eyes, brows, lips and beard, in the frame of the lower of the head's two balls.

  Attributes:
    period: size of the head, meters: its features scale with it.
    accent_rgb: (3,) color of brows and beard.
    beard: whether there is one.
  """

  beard: bool = False

  def albedo(self, points: np.ndarray) -> np.ndarray:
    """See `Cloth.albedo`."""
    x, y, z = points / np.float32(self.period)
    x, y, front = np.abs(x), y + np.float32(_CHIN), z > 0
    color = np.repeat(self.base_rgb[:, None], len(x), 1)

    def paint(where, rgb):
      color[:, front & where] = rgb[:, None]

    if self.beard:
      paint((y < -0.014) & (y < 0.9 * x - 0.022), self.accent_rgb)
    paint((x < 0.0135) & (np.abs(y + 0.040) < 0.0042), self.base_rgb * _LIPS_RGB)
    paint((np.abs(x - 0.0195) < 0.0115) & (np.abs(y - 0.0185) < 0.0028), self.accent_rgb)
    paint((x - 0.0195) ** 2 + ((y - 0.0065) * 1.6) ** 2 < 0.0088**2, _EYE_RGB)
    return color


def add_head(draft: Draft, outfit: Outfit) -> None:
  """Adds head and neck, with everything worn on them."""
  size = draft.size * draft.body.head
  skin = outfit.skin

  def cone(label, start, end, radii, cloth, flatten=(1.0, 1.0)):
    draft.add(
      "head",
      label,
      "head",
      draft.at("head", *start, size),
      draft.at("head", *end, size),
      (radii[0] * size, radii[1] * size),
      cloth,
      flatten,
    )

  if outfit.scarf is None:
    draft.add(
      "neck",
      "Face",
      "neck",
      draft.at("neck", 0, -0.030, -0.004),
      draft.at("neck", 0, 0.052, 0.006),
      (0.0415 * size, 0.0310 * size),
      skin,
    )
  else:
    _add_scarf(draft, outfit.scarf)
  face = Face("face", skin.base_rgb, skin.base_rgb * 0.35 + outfit.hair.base_rgb * 0.65, size, outfit.beard)
  cone("Face", (0, _CHIN, 0.007), (0, 0.012, 0), (0.0385, 0.052), face, (0.88, 1.06))
  cone("Face", (0, -0.004, 0.053), (0, -0.018, 0.057), (0.0045, 0.0085), skin)  # nose
  if outfit.hair_style not in ("bob", "long"):
    cone("Face", (-0.046, 0.001, -0.003), (0.046, 0.001, -0.003), (0.0125, 0.0125), skin)  # both ears
  if outfit.sunglasses:
    cone("Sunglasses", (-0.032, 0.007, 0.045), (0.032, 0.007, 0.045), (0.0125, 0.0125), _SHADE, (0.95, 0.7))
  _add_hair(cone, outfit)
  _add_hat(cone, outfit)


def _add_scarf(draft: Draft, cloth: Cloth) -> None:
  """Adds a ring around the neck and one end that hangs down in front."""
  deep = draft.body.build
  draft.add(
    "neck",
    "Scarf",
    "neck",
    draft.at("neck", -0.012, 0.012, 0.004),
    draft.at("neck", 0.012, 0.012, 0.004),
    (0.043 * draft.size,) * 2,
    cloth,
    (0.80, 1.1),
  )
  draft.add(
    "neck",
    "Scarf",
    "chest",
    draft.at("chest", 0.018, 0.075, 0.052 * deep),
    draft.at("chest", 0.026, -0.060, 0.083 * deep),
    (0.021 * draft.size, 0.025 * draft.size),
    cloth,
    (1.0, 0.5),
  )


def _add_hair(cone, outfit: Outfit) -> None:
  hair, style = outfit.hair, outfit.hair_style
  if style != "bald":
    cone("Hair", (0, -0.006, -0.013), (0, 0.020, -0.009), (0.049, 0.0535), hair, (0.96, 1.02))
  if style in ("bob", "long"):
    length = 0.068 if style == "bob" else 0.15
    cone("Hair", (0, 0.010, -0.020), (0, -length, -0.032), (0.050, 0.042), hair, (1.08, 0.74))
  elif style == "tail":
    cone("Hair", (0, 0.018, -0.062), (0, -0.11, -0.068), (0.020, 0.012), hair)
  elif style == "bun" and outfit.hat == "none":
    cone("Hair", (0, 0.050, -0.050), (0, 0.050, -0.050), (0.027, 0.027), hair)


def _add_hat(cone, outfit: Outfit) -> None:
  cloth, hat = outfit.hat_cloth, outfit.hat
  if hat != "none":
    cone(
      "Hat", (0, 0.027, -0.007), (0, 0.044 if hat == "beanie" else 0.036, -0.010), (0.0555, 0.052), cloth, (0.99, 1.06)
    )
  if hat == "cap":  # its peak
    cone("Hat", (-0.020, 0.034, 0.058), (0.020, 0.034, 0.058), (0.030, 0.030), cloth, (0.28, 1.3))
  elif hat == "brim":
    cone("Hat", (-2e-4, 0.034, -0.005), (2e-4, 0.034, -0.005), (0.090, 0.090), cloth, (0.13, 1.05))  # a disc
