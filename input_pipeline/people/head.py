"""Head, hair, hat, scarf and what is painted on a face, as solids; sizes follow the head alone."""

import dataclasses

import numpy as np

from input_pipeline.people.appearance import Outfit
from input_pipeline.people.cloth import Cloth
from input_pipeline.people.solid import Draft

_SHADE = Cloth.plain((.035, .035, .04))  # of sunglasses
_EYE_RGB = np.array([.05, .04, .04], np.float32)
_LIPS_RGB = np.array([.82, .50, .50], np.float32)  # factors on the skin
_CHIN = -.026  # height of the head solid's lower ball above the head joint


@dataclasses.dataclass(frozen=True)
class Face(Cloth):
  """Skin with eyes, brows, lips and beard painted on, as seen from the lower of the head's two balls.

  Attributes:
    period: size of the head, metres: its features follow it.
    accent_rgb: (3,) brows and beard.
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
      paint((y < -.014) & (y < .9 * x - .022), self.accent_rgb)
    paint((x < .0135) & (np.abs(y + .040) < .0042), self.base_rgb * _LIPS_RGB)
    paint((np.abs(x - .0195) < .0115) & (np.abs(y - .0185) < .0028), self.accent_rgb)
    paint((x - .0195) ** 2 + ((y - .0065) * 1.6) ** 2 < .0088 ** 2, _EYE_RGB)
    return color


def add_head(draft: Draft, outfit: Outfit) -> None:
  """Adds head and neck with all that is worn on them."""
  size = draft.size * draft.body.head
  skin = outfit.skin

  def cone(label, start, end, radii, cloth, flatten=(1., 1.)):
    draft.add("head", label, "head", draft.at("head", *start, size), draft.at("head", *end, size),
              (radii[0] * size, radii[1] * size), cloth, flatten)

  if outfit.scarf is None:
    draft.add("neck", "Face", "neck", draft.at("neck", 0, -.030, -.004), draft.at("neck", 0, .052, .006),
              (.0415 * size, .0310 * size), skin)
  else:
    _add_scarf(draft, outfit.scarf)
  face = Face("face", skin.base_rgb, skin.base_rgb * .35 + outfit.hair.base_rgb * .65, size, outfit.beard)
  cone("Face", (0, _CHIN, .007), (0, .012, 0), (.0385, .052), face, (.88, 1.06))
  cone("Face", (0, -.004, .053), (0, -.018, .057), (.0045, .0085), skin)  # nose
  if outfit.hair_style not in ("bob", "long"):
    cone("Face", (-.046, .001, -.003), (.046, .001, -.003), (.0125, .0125), skin)  # both ears
  if outfit.sunglasses:
    cone("Sunglasses", (-.032, .007, .045), (.032, .007, .045), (.0125, .0125), _SHADE, (.95, .7))
  _add_hair(cone, outfit)
  _add_hat(cone, outfit)


def _add_scarf(draft: Draft, cloth: Cloth) -> None:
  """A ring around the neck and one end that hangs down in front."""
  deep = draft.body.build
  draft.add("neck", "Scarf", "neck", draft.at("neck", -.012, .012, .004), draft.at("neck", .012, .012, .004),
            (.043 * draft.size,) * 2, cloth, (.80, 1.1))
  draft.add("neck", "Scarf", "chest", draft.at("chest", .018, .075, .052 * deep),
            draft.at("chest", .026, -.060, .083 * deep), (.021 * draft.size, .025 * draft.size), cloth, (1., .5))


def _add_hair(cone, outfit: Outfit) -> None:
  hair, style = outfit.hair, outfit.hair_style
  if style != "bald":
    cone("Hair", (0, -.006, -.013), (0, .020, -.009), (.049, .0535), hair, (.96, 1.02))
  if style in ("bob", "long"):
    length = .068 if style == "bob" else .15
    cone("Hair", (0, .010, -.020), (0, -length, -.032), (.050, .042), hair, (1.08, .74))
  elif style == "tail":
    cone("Hair", (0, .018, -.062), (0, -.11, -.068), (.020, .012), hair)
  elif style == "bun" and outfit.hat == "none":
    cone("Hair", (0, .050, -.050), (0, .050, -.050), (.027, .027), hair)


def _add_hat(cone, outfit: Outfit) -> None:
  cloth, hat = outfit.hat_cloth, outfit.hat
  if hat != "none":
    cone("Hat", (0, .027, -.007), (0, .044 if hat == "beanie" else .036, -.010), (.0555, .052), cloth, (.99, 1.06))
  if hat == "cap":  # its peak
    cone("Hat", (-.020, .034, .058), (.020, .034, .058), (.030, .030), cloth, (.28, 1.3))
  elif hat == "brim":
    cone("Hat", (-2e-4, .034, -.005), (2e-4, .034, -.005), (.090, .090), cloth, (.13, 1.05))  # a disc
