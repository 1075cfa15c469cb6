"""Appearance of the built-in people: parts, colors, clothes with the declared frequencies, solids and captions."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from input_pipeline.people import cloth as cloth_module
from input_pipeline.people.appearance import Outfit
from input_pipeline.people.attributes import ATTRIBUTES, FACINGS, caption, label_attributes
from input_pipeline.people.cloth import BASIC_COLORS, PATTERNS, Cloth, color_name, color_words, sample_cloth
from input_pipeline.people.figure import build_figure
from input_pipeline.people.motion import sample_pose
from input_pipeline.people.parts import FLIPPED_PARTS, LABELS, LIP_PARTS
from input_pipeline.people.raycast import frames
from input_pipeline.people.skeleton import Body, place_joints
from input_pipeline.people.solid import SOLID_PARTS

seeds = st.integers(0, 2**31)
quick = settings(max_examples=60, deadline=None)

LIMBS = {
  "upper_arm": ("shoulder", "elbow"),
  "forearm": ("elbow", "wrist"),
  "hand": ("wrist", "fingers"),
  "thigh": ("hip", "knee"),
  "shin": ("knee", "ankle"),
  "foot": ("ankle", "toes"),
}
BODY_PARTS = {
  "upper_arm": ("arm",),
  "forearm": ("arm",),
  "hand": ("arm",),
  "thigh": ("leg",),
  "shin": ("leg", "shoe"),
  "foot": ("shoe",),
}


def person(seed):
  """Body, outfit and the generator that drew them."""
  rng = np.random.default_rng(seed)
  body = Body.sample(rng)
  return body, Outfit.sample(rng, body.child), rng


def figure(seed):
  body, outfit, rng = person(seed)
  positions, rotations = place_joints(body, sample_pose(rng), rng.uniform(0, 6.28))
  return body, outfit, positions, build_figure(body, outfit, positions, rotations)


def test_parts_are_lips_and_mirror_left_to_right():
  assert (
    len(LIP_PARTS) == 20
    and LIP_PARTS[0] == "Background"
    and LIP_PARTS[13:] == ("Face", "Left-arm", "Right-arm", "Left-leg", "Right-leg", "Left-shoe", "Right-shoe")
  )
  assert FLIPPED_PARTS.dtype == np.uint8 and (FLIPPED_PARTS[FLIPPED_PARTS] == np.arange(20)).all()
  moved = {(LIP_PARTS[a], LIP_PARTS[b]) for a, b in enumerate(FLIPPED_PARTS) if a != b}
  assert moved == {
    (f"{a}-{limb}", f"{b}-{limb}") for limb in ("arm", "leg", "shoe") for a, b in (("Left", "Right"), ("Right", "Left"))
  }


@given(st.tuples(*[st.floats(0, 1)] * 3))
@quick
def test_every_color_has_one_name_and_words_that_keep_to_it(rgb):
  name = color_name(np.array(rgb))
  assert name in BASIC_COLORS
  basic = {word for phrase in color_words(np.array(rgb)) for word in phrase.split()} & set(BASIC_COLORS)
  assert basic <= {name}


def test_no_word_stands_for_two_colors():
  words = [{word for _, words in steps for word in words} for steps in cloth_module._WORDS.values()]
  assert all(not first & second for first, second in itertools.combinations(words, 2))


@given(st.sampled_from(BASIC_COLORS), seeds)
@quick
def test_cloth_has_the_color_it_was_drawn_in(color, seed):
  assert color_name(sample_cloth(np.random.default_rng(seed), {color: 1.0}).base_rgb) == color


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_keep_to_their_two_colors_and_mostly_to_the_first(pattern):
  rng = np.random.default_rng(0)
  turn, y = rng.uniform(-np.pi, np.pi, 4000), rng.uniform(-0.1, 0.4, 4000)
  points = np.stack([0.15 * np.sin(turn), y, 0.1 * np.cos(turn)]).astype(np.float32)
  cloth = Cloth(pattern, np.full(3, 0.2, np.float32), np.full(3, 0.8, np.float32), 0.07)
  albedo = cloth.albedo(points)
  assert albedo.shape == (3, 4000) and albedo.dtype == np.float32
  share = (albedo[0] - 0.2) / 0.6
  assert -1e-5 < share.min() and share.max() < 1 + 1e-5
  assert (share.mean() == 0) if pattern == "plain" else 0.02 < share.mean() < 0.5
  bare = cloth.all_over().albedo(points)
  assert (bare == albedo).all() or (bare == np.float32(0.2)).all()


@given(seeds)
@quick
def test_outfits_can_be_worn(seed):
  body, outfit, _ = person(seed)
  assert outfit.wears in ("trousers", "shorts", "skirt", "dress", "jumpsuit")
  assert (outfit.skirt > 0) == (outfit.wears in ("skirt", "dress")) == (outfit.leg == 0)
  assert (outfit.bottom is outfit.top) == (outfit.wears in ("dress", "jumpsuit"))
  assert not (outfit.socks and outfit.boots) and (not outfit.socks or outfit.leg < 0.5)
  assert outfit.upper.length == 1 or (outfit.scarf is None and outfit.gloves is None)
  assert (outfit.hem > 0) == (outfit.coat == "coat") and (not outfit.skirt or outfit.hem < outfit.skirt)
  assert not (body.child and (outfit.beard or outfit.hair_style == "bald" or outfit.hair_color == "grey"))


@given(seeds)
@quick
def test_solids_carry_the_labels_of_what_is_worn(seed):
  _, outfit, _, solids = figure(seed)
  labels = {LIP_PARTS[solid.label] for solid in solids}
  bare_arms, bare_legs = outfit.gloves is None or outfit.upper.length < 1, outfit.leg < 1 - outfit.boots / 2
  expected = {
    "Background": outfit.bag != "none",
    "Hat": outfit.hat != "none",
    "Hair": outfit.hair_style != "bald",
    "Glove": outfit.gloves is not None,
    "Sunglasses": outfit.sunglasses,
    "Dress": outfit.wears == "dress",
    "Coat": outfit.coat != "none",
    "Socks": outfit.socks > 0,
    "Pants": outfit.wears in ("trousers", "shorts"),
    "Jumpsuits": outfit.wears == "jumpsuit",
    "Scarf": outfit.scarf is not None,
    "Skirt": outfit.wears == "skirt",
    "Upper-clothes": outfit.wears not in ("dress", "jumpsuit") and (outfit.coat == "none" or outfit.coat_open),
    "Face": True,
    "Left-arm": bare_arms,
    "Right-arm": bare_arms,
    "Left-leg": bare_legs,
    "Right-leg": bare_legs,
    "Left-shoe": True,
    "Right-shoe": True,
  }
  assert labels == {name for name, there in expected.items() if there}


@given(seeds)
@quick
def test_solids_are_sound_and_on_their_own_side(seed):
  body, _, positions, solids = figure(seed)
  axes = frames(solids)
  np.testing.assert_allclose(axes @ np.swapaxes(axes, 1, 2), np.broadcast_to(np.eye(3), axes.shape), atol=1e-9)
  for solid in solids:
    assert solid.part in SOLID_PARTS
    assert np.isfinite([*solid.start, *solid.end, *solid.front, *solid.radii, *solid.flatten]).all()
    assert min(*solid.radii, *solid.flatten) > 0
    side, _, limb = solid.part.partition("_")
    name = LIP_PARTS[solid.label]
    if limb not in LIMBS:
      assert not name.startswith(("Left", "Right"))
      assert (solid.part == "bag") == (name == "Background")
      assert (solid.part == "head") == (name in ("Hat", "Hair", "Sunglasses")) or name == "Face"
      continue
    if name.startswith(("Left", "Right")):
      assert name in {f"{side.title()}-{kind}" for kind in BODY_PARTS[limb]}
    top, bottom = (positions[f"{side}_{joint}"] for joint in LIMBS[limb])
    for end in (solid.start, solid.end):  # near the limb of its own side that it is named for
      share = np.clip((end - top) @ (bottom - top) / ((bottom - top) @ (bottom - top)), 0, 1)
      assert np.linalg.norm(end - top - share * (bottom - top)) < 0.035 * body.stature


def test_same_draws_same_figure_and_all_classes_occur_in_few_solids():
  figures = [figure(seed)[3] for seed in range(300)]
  assert {solid.label for solids in figures for solid in solids} == set(range(len(LABELS)))
  mean = np.mean([len(solids) for solids in figures])
  print(f"{mean:.1f} solids per figure")
  assert 18 < mean < 24
  for first, second in zip(figures[7], figure(7)[3]):
    assert first.label == second.label and (first.start == second.start).all() and first.radii == second.radii


def test_attributes_are_as_frequent_as_declared():
  rng, count = np.random.default_rng(0), 4000
  held = np.zeros(len(ATTRIBUTES))
  for _ in range(count):
    body = Body.sample(rng)
    outfit = Outfit.sample(rng, body.child)
    attributes = label_attributes(body, outfit, str(rng.choice(FACINGS, p=[0.25, 0.5, 0.25])))
    assert attributes.keys() == ATTRIBUTES.keys()
    held += list(attributes.values())
  declared = np.array([attribute.frequency for attribute in ATTRIBUTES.values()])
  off = (held / count - declared) / np.sqrt(declared * (1 - declared) / count)
  assert len(ATTRIBUTES) >= 24
  assert np.abs(off).max() < 4, {
    name: (share, value) for name, share, value in zip(ATTRIBUTES, held / count, off) if abs(value) >= 4
  }


@given(seeds, st.sampled_from(FACINGS))
@quick
def test_exclusive_attributes_hold_one_at_a_time(seed, facing):
  body, outfit, _ = person(seed)
  attributes = label_attributes(body, outfit, facing)
  for group in (
    [f"facing_{name}" for name in FACINGS],
    [f"top_{name}" for name in BASIC_COLORS],
    [name for name in ATTRIBUTES if name.startswith("bottom_") and name != "bottom_patterned"],
    ["dress", "jumpsuit", "skirt", "shorts", "trousers"],
  ):
    assert sum(attributes[name] for name in group) == 1
  for group in (
    ["backpack", "shoulder_bag"],
    ["sleeves_long", "sleeves_short"],
    ["heavy", "slim"],
    ["child", "tall"],
    ["socks", "boots"],
  ):
    assert sum(attributes[name] for name in group) <= 1
  assert attributes["facing_" + facing]


# Noun of a caption -> (attribute that it implies, field of the outfit whose color precedes it).
NOUNS = {
  "tank top": (None, "top"),
  "sleeveless top": (None, "top"),
  "T-shirt": (None, "top"),
  "shirt": (None, "top"),
  "sweater": (None, "top"),
  "pullover": (None, "top"),
  "dress": ("dress", "top"),
  "jumpsuit": ("jumpsuit", "top"),
  "coat": ("coat", "coat_cloth"),
  "jacket": ("coat", "coat_cloth"),
  "trousers": ("trousers", "bottom"),
  "pants": ("trousers", "bottom"),
  "jeans": ("trousers", "bottom"),
  "shorts": ("shorts", "bottom"),
  "skirt": ("skirt", "bottom"),
  "cap": ("hat", "hat_cloth"),
  "hat": ("hat", "hat_cloth"),
  "beanie": ("hat", "hat_cloth"),
  "scarf": ("scarf", "scarf"),
  "gloves": ("gloves", "gloves"),
  "socks": ("socks", "sock_cloth"),
  "shoes": (None, "shoes"),
  "boots": ("boots", "shoes"),
  "backpack": ("backpack", "bag_cloth"),
  "bag": ("shoulder_bag", "bag_cloth"),
}
CLAIMS = {
  "sunglasses": "sunglasses",
  "beard": "beard",
  "bald": "bald",
  "child": "child",
  "tall": "tall",
  "heavyset": "heavy",
  "slim": "slim",
  "facing the camera": "facing_front",
  "from the front": "facing_front",
  "from the side": "facing_side",
  "in profile": "facing_side",
  "from behind": "facing_back",
  "facing away": "facing_back",
  "short-sleeved": "sleeves_short",
}
NAME_OF_WORDS = {word: name for name, steps in cloth_module._WORDS.items() for _, words in steps for word in words}
_COLOR = "|".join(sorted(NAME_OF_WORDS, key=len, reverse=True))
_NOUN = "|".join(sorted(NOUNS, key=len, reverse=True))
_PHRASE = re.compile(rf"\b({_COLOR})(?: and ({_COLOR}))?((?: (?!(?:{_COLOR}|and|with|over)\b)[\w-]+)*?) ({_NOUN})\b")

_HAIR = re.compile(r"\b(black|brown|blond|red|grey) (?:hair|bob|bun|ponytail)\b")


@given(seeds, st.sampled_from(FACINGS), st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_captions_say_what_the_attributes_say(seed, facing, wording):
  body, outfit, _ = person(seed)
  attributes = label_attributes(body, outfit, facing)
  text = caption(np.random.default_rng(wording), body, outfit, facing)
  lower = text[0].lower() + text[1:]
  found = _PHRASE.findall(text)
  for color, accent, between, noun in found:
    attribute, field = NOUNS[noun]
    worn = getattr(outfit, field)
    assert attribute is None or attributes[attribute], text
    assert NAME_OF_WORDS[color] == color_name(worn.base_rgb), text
    assert not accent or NAME_OF_WORDS[accent] == color_name(worn.accent_rgb), text
    assert worn.pattern != "plain" or not (accent or "striped" in between or "checked" in between), text
    if field in ("coat_cloth", "top") and (field == "coat_cloth") == attributes["coat"]:
      assert attributes[f"top_{NAME_OF_WORDS[color]}"], text
    if field == "bottom":
      name = NAME_OF_WORDS[color]
      assert attributes.get(f"bottom_{name}", attributes["bottom_bright"]), text
  hair = _HAIR.findall(text)
  assert hair in ([], [outfit.hair_color]), text
  assert not re.search(rf"\b({_COLOR})\b", _HAIR.sub("", _PHRASE.sub("", text))), text  # no color goes unchecked
  for words, attribute in CLAIMS.items():
    if re.search(rf"\b{words}\b", lower) and not (words == "short-sleeved" and attributes["coat"]):
      assert attributes[attribute], text
  assert attributes["coat"] == bool(re.search(r"\b(coat|jacket)\b", text))
  for name in ("dress", "jumpsuit", "skirt", "shorts", "scarf", "backpack"):
    assert attributes[name] == bool(re.search(rf"\b{name}\b", text)), text


@given(seeds, st.sampled_from(FACINGS))
@quick
def test_captions_are_sentences_in_many_words(seed, facing):
  body, outfit, _ = person(seed)
  texts = [caption(np.random.default_rng(wording), body, outfit, facing) for wording in range(12)]
  assert texts[3] == caption(np.random.default_rng(3), body, outfit, facing) and len(set(texts)) > 6
  for text in texts:
    assert re.fullmatch(r"[A-Z][^.]*\.( [A-Z][^.]*\.)?", text) and "  " not in text and "{" not in text
    assert not re.search(r"\ba [aeio]|\ban [^aeiou]| ,|\bnone\b", text, re.I)
    assert not re.search(r"\b[Aa]n? [\w -]*(trousers|pants|jeans|shorts|socks|shoes|boots|gloves)$", text)
