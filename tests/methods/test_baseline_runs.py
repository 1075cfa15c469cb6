"""Runs of MAE and DINO are opened, exported and continued like runs of SAIP."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.schema import to_dict
from saip_jax import cli
from saip_jax.interop.weights import load_backbone, open_weights
from saip_jax.run_folder.folder import write_config
from saip_jax.training.checkpoint import Checkpoints
from saip_jax.training.optimizer import make_optimizer, parameter_names
from saip_jax.training.step import init_state
from tests.support.tiny_methods import tiny_method

VIT_TINY = {"width": 192, "depth": 12, "heads": 3, "tapped_block": 6}
CASES = [("mae_demo", (), "student"), ("dino_demo", ("method.mae.weight=1.0",), "teacher")]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case[0])
def run(request, tmp_path_factory):
  """(folder of a run with one checkpoint, method, state, the encoder that is exported)."""
  recipe, overrides, which = request.param
  config, method = tiny_method(recipe, *overrides, **VIT_TINY)
  tx, _ = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  state = jax.jit(lambda: init_state(method, tx, 0))()
  if "teacher" in state.method_state:  # not the student
    state.method_state["teacher"] = jax.jit(lambda tree: jax.tree.map(lambda a: a * 0.9, tree))(
      state.method_state["teacher"]
    )
  workdir = tmp_path_factory.mktemp(recipe)
  write_config(workdir, to_dict(config))
  checkpoints = Checkpoints(workdir, 1, None, {})
  checkpoints.save(4, state.replace(step=jnp.int32(4)))
  checkpoints.close()
  return workdir, method, state, which


def test_a_run_is_opened(run):
  workdir, method, state, which = run
  weights, loaded = open_weights(workdir), load_backbone(workdir, which)
  assert loaded.module.pos_interpolation == "grid2d" and weights.student.keys() == state.params.keys()
  assert weights.head_counts == {"mae_heads": 2}
  wanted, found = (
    parameter_names(tree) for tree in (method.export_params(state.params, state.method_state, which), loaded.params)
  )
  assert wanted.keys() == found.keys()
  for name in wanted:
    np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
  if "teacher" not in state.method_state:
    with pytest.raises(ValueError, match="teacher"):
      load_backbone(workdir, "teacher")


@pytest.mark.torch
def test_a_run_is_exported(run, tmp_path):
  pytest.importorskip("timm")
  workdir, _, _, which = run
  out = tmp_path / "out"
  assert cli.main(["export", f"--checkpoint={workdir}", "--dialect=timm", f"--which={which}", f"--out={out}"]) == 0
  record = json.loads((out / "parity.json").read_text())
  assert {"cls", "patch_tokens"} <= record["outputs"].keys()
  assert all(output["max_abs_difference"] < 2e-5 for output in record["outputs"].values())
