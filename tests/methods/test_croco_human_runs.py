"""Runs of CroCo-Human are opened, exported, and start from and start other methods."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.schema import to_dict
from saip_jax import cli
from saip_jax.initial import start_from
from saip_jax.interop.weights import load_backbone, open_weights
from saip_jax.run_folder.folder import write_config
from saip_jax.training.checkpoint import Checkpoints
from saip_jax.training.mesh import make_mesh, replicated
from saip_jax.training.optimizer import make_optimizer, parameter_names
from saip_jax.training.step import init_state
from tests.support.tiny_methods import tiny_method

VIT_TINY = {"width": 192, "depth": 12, "heads": 3, "tapped_block": 6}
ROPE = "method.positions=rope", "model.backbone=vit_tiny_rope"


def begin(recipe, *overrides):
  """Returns (config, method, state at the start) of a demo with a whole encoder."""
  config, method = tiny_method(recipe, *overrides, **VIT_TINY)
  tx, _ = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  return config, method, jax.jit(lambda: init_state(method, tx, 0))()


def write_run(workdir, recipe, *overrides):
  """Writes a run with one checkpoint; returns its method and state."""
  config, method, state = begin(recipe, *overrides)
  write_config(workdir, to_dict(config))
  checkpoints = Checkpoints(workdir, 1, None, {})
  checkpoints.save(4, state.replace(step=jnp.int32(4)))
  checkpoints.close()
  return method, state


@pytest.fixture(scope="module", params=[(), ROPE], ids=["cosine", "rope"])
def run(request, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("croco")
  return workdir, *write_run(workdir, "croco_human_demo", *request.param)


def test_a_run_is_opened_and_its_encoder_computes_the_same(run):
  workdir, method, state = run
  weights, loaded = open_weights(workdir), load_backbone(workdir)
  assert weights.student.keys() == {"backbone", "mae"} and weights.head_counts == {"mae_heads": 2}
  wanted, found = parameter_names(state.params["backbone"]), parameter_names(loaded.params)
  assert wanted.keys() == found.keys()
  for name in wanted:
    np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
  images = jax.random.normal(jax.random.key(0), (2, 64, 32, 3))
  encode = lambda module: jax.jit(lambda p: module.apply({"params": p}, images, ("cls",)).cls)(loaded.params)
  np.testing.assert_allclose(encode(loaded.module), encode(method.backbone), atol=1e-5)


@pytest.mark.torch
def test_a_run_is_exported_and_comes_back(run, tmp_path):
  pytest.importorskip("timm")
  workdir, _, state = run
  out = tmp_path / "out"
  assert cli.main(["export", f"--checkpoint={workdir}", "--dialect=timm", f"--out={out}"]) == 0
  record = json.loads((out / "parity.json").read_text())
  assert {"cls", "patch_tokens", "tapped_layer"} <= record["outputs"].keys()
  assert all(output["max_abs_difference"] < 2e-5 for output in record["outputs"].values())
  weights, own = open_weights(out), open_weights(workdir)
  assert (weights.spec.name, weights.spec.image_hw) == (own.spec.name, own.spec.image_hw)
  wanted, found = parameter_names(state.params["backbone"]), parameter_names(weights.backbone())
  assert wanted.keys() == found.keys()
  for name in wanted:
    np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def test_methods_start_from_each_other(run, tmp_path):
  """CroCo-Human from MAE, and DINO from CroCo-Human; decoders do not fit, and rotary encoders fit no others."""
  workdir, method, state = run
  mae = tmp_path / "mae"
  mae.mkdir()
  write_run(mae, "mae_demo")
  shardings = (replicated(make_mesh()),) * 2

  def start(source, recipe, *overrides):
    return start_from(*begin(recipe, f"init_from={source}", *overrides), shardings)[0]

  if method.backbone.rope:
    with pytest.raises(ValueError, match="weights of vit_tiny, config.model.backbone is vit_tiny_rope"):
      start(mae, "croco_human_demo", *ROPE)
    return
  with pytest.raises(ValueError, match="do not fit: mae/.*init_heads=False takes the backbone alone"):
    start(mae, "croco_human_demo")
  from_mae = start(mae, "croco_human_demo", "init_heads=False")
  np.testing.assert_array_equal(from_mae.params["backbone"]["pos_embed"], open_weights(mae).backbone()["pos_embed"])
  dino = start(workdir, "dino_demo", "init_heads=False")
  for who in (dino.params, dino.method_state["teacher"]):
    jax.tree.map(np.testing.assert_array_equal, who["backbone"], state.params["backbone"])
