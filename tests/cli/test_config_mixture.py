"""Mixtures in the configuration: typed part by part, errors named with the part."""

import json

import pytest

from input_pipeline.schema import to_dict
from input_pipeline.settings import MixturePart
from saip_jax.recipes import apply_overrides, parse_config
from tests.support.toy_method import TOY_METHODS, toy_config, toy_recipe

MIXTURE = "{'a': {'source': 'lmdb', 'path': '/x', 'weight': 3}, 'b': {'source': 'folder', 'path': '/y'}}"


def test_a_mixture_from_the_command_line_is_typed():
  config = toy_config("data.source=mixture", f"data.mixture={MIXTURE}")
  assert config.data.mixture == {
    "a": MixturePart(source="lmdb", path="/x", weight=3.0),
    "b": MixturePart(source="folder", path="/y"),
  }
  again = parse_config(json.loads(json.dumps(to_dict(config))), TOY_METHODS)
  assert again == config


def test_a_recipe_with_a_mixture_takes_overrides_of_its_parts():
  recipe = toy_recipe()
  recipe["data"] |= {"source": "mixture", "mixture": {"a": {"source": "zip", "path": "/x", "weight": 1.0}}}
  config = parse_config(apply_overrides(recipe, ["--config.data.mixture.a.weight=5"]), TOY_METHODS)
  assert config.data.mixture["a"].weight == 5.0
  config = parse_config(apply_overrides(recipe, ["--config.data.source=zip", "--config.data.path=/y"]), TOY_METHODS)
  assert config.data.mixture is None and config.data.path == "/y"  # another source has no use for the parts


def test_built_in_people_of_two_compositions_need_no_path():
  parts = {name: {"source": "people", "people_count": 64, "people_composition": name} for name in ("views", "clips")}
  recipe = toy_recipe()
  recipe["data"] |= {"source": "mixture", "mixture": parts, "pairs": {"gap": (0.2, 1)}}
  config = parse_config(recipe, TOY_METHODS)
  assert config.data.mixture["clips"].people_composition == "clips" and config.data.pairs.gap == (0.2, 1.0)


@pytest.mark.parametrize(
  "overrides, words",
  [
    (["data.source=mixture"], "config.data.source is 'mixture' and config.data.mixture is empty"),
    ([f"data.mixture={MIXTURE}"], "source 'mixture' and a mixture go together"),
    (["data.source=mixture", f"data.mixture={MIXTURE}", "data.split=train"], "config.data.mixture.NAME.split"),
    (
      ["data.source=mixture", "data.mixture={'a': {'source': 'lmbd', 'path': '/x'}}"],
      "config.data.mixture.a.source is 'lmbd'.*did you mean 'lmdb'",
    ),
    (["data.source=mixture", "data.mixture={'a': {'source': 'lmdb'}}"], "missing: config.data.mixture.a.path"),
    (["data.source=mixture", "data.mixture={'a': {'source': 'lmdb', 'path': '/x', 'weight': 0}}"], "positive"),
    (
      ["data.source=mixture", "data.mixture={'a': {'source': 'lmdb', 'path': '/x', 'wieght': 1}}"],
      "config.data.mixture.a has no key 'wieght'",
    ),
    (["data.source=mixture", "data.mixture={'a': {'source': 'people'}}"], "a.path or a positive people_count"),
    (["data.pairs={'gap': (2.0, 1.0)}"], r"config.data.pairs.gap is \(2.0, 1.0\)"),
    (["data.pairs={'kinds': ('view', 'stereo')}"], r"config.data.pairs.kinds\[1\] is 'stereo'"),
    (["data.pairs={'kinds': ()}"], "config.data.pairs.kinds is empty"),
    (["data.pairs={'frame_rate': 0}"], "config.data.pairs.frame_rate is 0"),
  ],
)
def test_errors_name_the_part(overrides, words):
  with pytest.raises(ValueError, match=words) as error:
    toy_config(*overrides)
  assert "\n" not in str(error.value)
