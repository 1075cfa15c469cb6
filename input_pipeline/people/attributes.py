"""Binary attributes of a person, their frequencies, and captions made from the same properties."""

from typing import NamedTuple

import numpy as np

from input_pipeline.people.appearance import Outfit
from input_pipeline.people.cloth import BASIC_COLORS, Cloth, color_name, color_words
from input_pipeline.people.skeleton import Body

FACINGS = ("front", "side", "back")
"""Orientation of the trunk to the camera: within 45 degrees, between 45 and 135 degrees, beyond 135 degrees."""

_TALL, _HEAVY, _SLIM = 1.80, 1.12, 0.90  # meters, and factors of girth
_BRIGHT = ("red", "pink", "orange", "yellow", "purple")


class Attribute(NamedTuple):
  """A binary attribute.

  Attributes:
    frequency: share of the images in which it holds.
    meaning: one line.
  """

  frequency: float
  meaning: str


_TOP_FREQUENCIES = (0.23, 0.16, 0.15, 0.06, 0.07, 0.03, 0.01, 0.03, 0.07, 0.17, 0.02)
_BOTTOM_FREQUENCIES = {"black": 0.316, "grey": 0.143, "white": 0.055, "brown": 0.094, "green": 0.036, "blue": 0.308}

ATTRIBUTES: dict[str, Attribute] = {
  "facing_front": Attribute(0.25, "the trunk faces the camera"),
  "facing_side": Attribute(0.5, "the trunk is seen from the side"),
  "facing_back": Attribute(0.25, "the trunk is seen from behind"),
  "child": Attribute(0.08, "a child"),
  "tall": Attribute(0.169, f"taller than {_TALL:.2f} m"),
  "heavy": Attribute(0.148, "thicker trunk and limbs than most"),
  "slim": Attribute(0.165, "thinner trunk and limbs than most"),
  "bald": Attribute(0.046, "no hair on the head"),
  "hair_long": Attribute(0.29, "hair that hangs below the shoulders, loose or as a ponytail"),
  "hair_light": Attribute(0.2305, "blond or grey hair"),
  "beard": Attribute(0.138, "a beard"),
  "hat": Attribute(0.20, "a cap, a beanie or a hat with a brim"),
  "sunglasses": Attribute(0.11, "sunglasses"),
  "scarf": Attribute(0.122, "a scarf"),
  "gloves": Attribute(0.0915, "gloves"),
  "backpack": Attribute(0.19, "a backpack"),
  "shoulder_bag": Attribute(0.16, "a bag on a strap across the trunk"),
  "coat": Attribute(0.25, "a coat or jacket over everything else"),
  "sleeves_long": Attribute(0.61, "sleeves to the wrist"),
  "sleeves_short": Attribute(0.33, "sleeves that end above the elbow"),
  "dress": Attribute(0.10, "a dress"),
  "jumpsuit": Attribute(0.04, "a jumpsuit"),
  "skirt": Attribute(0.09, "a skirt"),
  "shorts": Attribute(0.15, "shorts"),
  "trousers": Attribute(0.62, "trousers"),
  "socks": Attribute(0.1346, "long socks below bare knees"),
  "boots": Attribute(0.12, "boots that reach up the shin"),
  "shoes_black": Attribute(0.42, "black shoes or boots"),
  "shoes_white": Attribute(0.25, "white shoes or boots"),
  "top_patterned": Attribute(0.31, "a pattern on the outermost garment of the trunk"),
  "bottom_patterned": Attribute(0.1392, "a pattern on the garment of the legs"),
  **{
    f"top_{name}": Attribute(share, f"the outermost garment of the trunk is mainly {name}")
    for name, share in zip(BASIC_COLORS, _TOP_FREQUENCIES)
  },
  **{
    f"bottom_{name}": Attribute(share, f"the garment of the legs is mainly {name}")
    for name, share in _BOTTOM_FREQUENCIES.items()
  },
  "bottom_bright": Attribute(0.0482, f"the garment of the legs is mainly {', '.join(_BRIGHT[:-1])} or {_BRIGHT[-1]}"),
}
"""All attributes. Frequencies are over the population and all facings; a dress or jumpsuit is both top and bottom."""


def label_attributes(body: Body, outfit: Outfit, facing: str) -> dict[str, bool]:
  """Returns which of `ATTRIBUTES` hold, in their order.

  Args:
    body: proportions.
    outfit: clothes.
    facing: one of `FACINGS`.

  Returns:
    Name -> whether it holds.
  """
  upper, lower = outfit.upper, outfit.lower
  haired = outfit.hair_style != "bald"
  top, bottom, shoes = (color_name(cloth.base_rgb) for cloth in (upper.cloth, lower.cloth, outfit.shoes))
  holds = {
    **{f"facing_{name}": facing == name for name in FACINGS},
    "child": body.child,
    "tall": body.stature > _TALL,
    "heavy": body.build > _HEAVY,
    "slim": body.build < _SLIM,
    "bald": not haired,
    "hair_long": outfit.hair_style in ("long", "tail"),
    "hair_light": haired and outfit.hair_color in ("blond", "grey"),
    "beard": outfit.beard,
    "hat": outfit.hat != "none",
    "sunglasses": outfit.sunglasses,
    "scarf": outfit.scarf is not None,
    "gloves": outfit.gloves is not None,
    "backpack": outfit.bag == "backpack",
    "shoulder_bag": outfit.bag == "shoulder",
    "coat": outfit.coat != "none",
    "sleeves_long": upper.length == 1,
    "sleeves_short": 0 < upper.length < 1,
    **{name: outfit.wears == name for name in ("dress", "jumpsuit", "skirt", "shorts", "trousers")},
    "socks": outfit.socks > 0,
    "boots": outfit.boots > 0,
    "shoes_black": shoes == "black",
    "shoes_white": shoes == "white",
    "top_patterned": upper.cloth.pattern != "plain",
    "bottom_patterned": lower.cloth.pattern != "plain",
    **{f"top_{name}": top == name for name in BASIC_COLORS},
    **{f"bottom_{name}": bottom == name for name in _BOTTOM_FREQUENCIES},
    "bottom_bright": bottom in _BRIGHT,
  }
  assert holds.keys() == ATTRIBUTES.keys()
  return {name: bool(holds[name]) for name in ATTRIBUTES}


_PATTERN_WORDS = {
  "stripes": ("striped",),
  "bars": ("vertically striped", "pinstriped"),
  "checks": ("checked", "plaid"),
  "dots": ("dotted", "polka-dot"),
  "gradient": ("two-tone",),
  "blocks": ("colour-block",),
  "print": ("printed",),
}
_FACING_WORDS = {
  "front": ("facing the camera", "seen from the front"),
  "side": ("seen from the side", "in profile"),
  "back": ("seen from behind", "facing away from the camera"),
}
_TOP_WORDS = {
  "none": ("tank top", "sleeveless top"),
  "short": ("T-shirt", "short-sleeved shirt"),
  "long": ("sweater", "long-sleeved shirt", "pullover"),
}
_BOTTOM_WORDS = {"trousers": ("trousers", "pants"), "shorts": ("shorts",), "skirt": ("skirt",)}
_HAT_WORDS = {"cap": ("cap", "baseball cap"), "beanie": ("beanie", "woolly hat"), "brim": ("brimmed hat",)}
_HAIR_WORDS = {
  "short": ("short {} hair",),
  "bob": ("chin-length {} hair", "a {} bob"),
  "long": ("long {} hair",),
  "tail": ("a {} ponytail", "{} hair in a ponytail"),
  "bun": ("a {} bun", "{} hair in a bun"),
}


def caption(rng: np.random.Generator, body: Body, outfit: Outfit, facing: str) -> str:
  """Returns one or two sentences about the visible person, without what that side of it hides.

  Args:
    rng: draws the wording and the details that are mentioned.
    body: proportions.
    outfit: clothes.
    facing: one of `FACINGS`.

  Returns:
    English, with capitals and full stops.
  """
  choose = lambda words: str(rng.choice(words))
  person = "child" if body.child else choose(["person", "pedestrian"])
  build = [
    word
    for word, fits in (
      ("tall ", body.stature > _TALL),
      ("heavyset ", body.build > _HEAVY),
      ("slim ", body.build < _SLIM),
    )
    if fits
  ]
  subject = _with_article((choose(build) if build and rng.random() < 0.7 else "") + person)
  clothes, view = _clothes(rng, outfit, facing), choose(_FACING_WORDS[facing])
  first = choose(
    [
      f"{subject} in {clothes}, {view}",
      f"{subject} {view}, wearing {clothes}",
      f"{view}, {subject} wears {clothes}",
      f"{subject} wearing {clothes}, {view}",
      f"{subject} dressed in {clothes} is {view}",
    ]
  )
  sentences = [first]
  worn, has = _details(rng, outfit, facing)
  again = choose(["the", "this"]) + f" {person}"
  carried = _with_article(
    f"{_color(rng, outfit.bag_cloth)} "
    + {"backpack": "backpack", "shoulder": choose(["shoulder bag", "crossbody bag"])}.get(outfit.bag, "")
  )
  parts = ([f"has {_listed(has)}"] if has else []) + ([f"wears {_listed(worn)}"] if worn else [])
  if outfit.bag != "none":
    parts.append(f"{choose(['carries', 'is carrying'])} {carried}")
  if parts:
    sentences.append(f"{again} {_listed(parts)}")
  return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


def _clothes(rng: np.random.Generator, outfit: Outfit, facing: str) -> str:
  """Describes the garments of trunk and legs, as far as they are visible."""
  sleeve = "none" if outfit.sleeve == 0 else "short" if outfit.sleeve < 1 else "long"
  whole = outfit.wears in ("dress", "jumpsuit")
  if whole:
    noun = outfit.wears
    if outfit.coat == "none":
      noun = {"none": "sleeveless ", "short": "short-sleeved ", "long": "long-sleeved "}[sleeve] + noun
  else:
    noun = str(rng.choice(_TOP_WORDS[sleeve]))
  under = _garment(rng, outfit.top, noun, facing)
  if outfit.coat == "none":
    top = under
  else:
    top = _garment(rng, outfit.coat_cloth, outfit.coat, facing)
    if whole or (outfit.coat_open and facing == "front"):
      top = f"{top} over {under}"
  if whole:
    return top
  noun = str(rng.choice(_BOTTOM_WORDS[outfit.wears]))
  color = color_name(outfit.bottom.base_rgb)
  if outfit.wears == "trousers" and color == "blue" and outfit.bottom.pattern == "plain" and rng.random() < 0.7:
    noun = "jeans"
  bottom = _garment(rng, outfit.bottom, noun, facing)
  return f"{top} {str(rng.choice(['and', 'with']))} {bottom}"


def _details(rng: np.random.Generator, outfit: Outfit, facing: str) -> tuple[list[str], list[str]]:
  """Returns phrases for smaller worn things, and phrases for what belongs to the head."""
  choose = lambda words: str(rng.choice(words))
  worn, has = [], []
  if outfit.hair_style == "bald":
    has += ["a bald head"] if outfit.hat == "none" else []
  elif rng.random() < 0.7:
    has.append(choose(_HAIR_WORDS[outfit.hair_style]).format(outfit.hair_color))
  if outfit.beard and facing != "back":
    has.append("a beard")
  if outfit.hat != "none":
    worn.append(_garment(rng, outfit.hat_cloth, choose(_HAT_WORDS[outfit.hat]), facing))
  if outfit.sunglasses and facing != "back":
    worn.append("sunglasses")
  if outfit.scarf is not None:
    worn.append(_garment(rng, outfit.scarf, "scarf", facing))
  if outfit.gloves is not None:
    worn.append(_garment(rng, outfit.gloves, "gloves", facing))
  if outfit.socks:
    worn.append(_garment(rng, outfit.sock_cloth, choose(["knee socks", "knee-high socks"]), facing))
  if rng.random() < 0.6:
    worn.append(_garment(rng, outfit.shoes, "boots" if outfit.boots else "shoes", facing))
  return worn, has


def _garment(rng: np.random.Generator, cloth: Cloth, noun: str, facing: str) -> str:
  """Returns a phrase such as `a red and white striped T-shirt` or `dark blue jeans`."""
  words = _color(rng, cloth)
  if cloth.pattern != "plain" and not (cloth.pattern == "print" and facing == "back"):
    accent = str(rng.choice(color_words(cloth.accent_rgb)))
    if accent != words and cloth.pattern != "print" and rng.random() < 0.6:
      words = f"{words} and {accent}"
    words = f"{words} {rng.choice(_PATTERN_WORDS[cloth.pattern])}"
  phrase = f"{words} {noun}"
  return phrase if noun.endswith("s") and not noun.endswith("ss") else _with_article(phrase)


def _color(rng: np.random.Generator, cloth: Cloth) -> str:
  return str(rng.choice(color_words(cloth.base_rgb)))


def _with_article(phrase: str) -> str:
  return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _listed(phrases: list[str]) -> str:
  return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
