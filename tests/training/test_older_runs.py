"""Checkpoints of earlier versions have no model.json: the config describes their models, as the method would."""

import json

import pytest

from input_pipeline.schema import to_dict
from saip_jax.interop.weights import _spec_of
from saip_jax.methods import METHODS
from saip_jax.recipes import open_recipe
from saip_jax.run_folder.older import current_names, describe_older_model
from saip_jax.running import describe_model


@pytest.mark.parametrize(
  "recipe, settings",
  [
    ("saip_vit_tiny", []),
    ("saip_demo", ["method.fidelity=improved"]),
    ("saip_demo", ["method.fidelity=improved", "method.behavior.positions=flat1d"]),
    ("saip_demo", ["method.fidelity=official", "model.last_heads=6"]),
    ("dino_demo", ["model.heads=6"]),
    ("dino_demo", ["method.positions=as_published", "model.heads=6", "model.last_heads=12"]),
    ("mae_demo", []),
    ("hap_demo", ["model.heads=3"]),
    ("croco_human_demo", ["method.positions=learned"]),
    ("hcmoco", []),
    ("saip_swin_tiny", []),
  ],
)
def test_a_config_describes_the_model_as_the_method_does(recipe, settings):
  config = open_recipe(recipe, [f"--config.{s}" for s in settings])
  model = json.loads(json.dumps(describe_model(config, METHODS[config.method.name].build(config))))
  older = describe_older_model(json.loads(json.dumps(to_dict(config))))
  assert _spec_of(older, "config.json") == _spec_of(model, "model.json")
  assert older["head_counts"] == model["head_counts"]


def test_renamed_settings_are_read():
  stored = {"method": {"name": "saip", "fidelity": "official", "behaviour": {"positions": "grid2d"}}}
  config = current_names(stored) | {"model": {"backbone": "vit_tiny", "image_hw": [128, 64]}}
  assert describe_older_model(config)["facts"] == {
    "name": "vit_tiny",
    "image_hw": [128, 64],
    "pos_interpolation": "grid2d",
  }


@pytest.mark.parametrize("config", [{}, {"model": {}, "method": {"name": "mae"}}, {"model": 3, "method": []}])
def test_a_config_without_a_model_is_refused(config):
  with pytest.raises(ValueError, match="config.json does not describe a model"):
    describe_older_model(config)
