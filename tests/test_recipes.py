"""Every recipe in configs/ builds, and its whole step has the right shapes, without computing anything."""

import pathlib

import jax
import pytest

from saip_jax.config import apply_overrides, load_recipe, parse_config
from saip_jax.methods import METHODS
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.step import init_state, make_train_step

REPO = pathlib.Path(__file__).resolve().parent.parent
RECIPES = sorted((REPO / "configs").glob("*.py"))


def load(path, *overrides):
  return parse_config(apply_overrides(load_recipe(path), ["--config.data.path=anywhere", *overrides]))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_step_of_every_recipe(path):
  config = load(path)
  method = METHODS[config.method.name].build(config)
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  step = make_train_step(method, tx, schedule, config.accumulate, config.seed)
  state = jax.eval_shape(lambda: init_state(method, tx, config.seed))
  after, metrics = jax.eval_shape(step, state, method.batch_spec(config.batch_size))
  assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), state)
  assert all(m.shape == () for m in metrics.values())
  parts = {"csm_rep": config.method.csm.weight, "csm_att": config.method.csm.attention_weight,
           "csr": config.method.csr.weight, "css_inst": config.method.css.weight, "css_roi": config.method.css.weight}
  expected = {"total", *(name for name, weight in parts.items() if weight)}
  assert {n.removeprefix("loss/") for n in metrics if n.startswith("loss/")} == expected
  assert {"optim/lr", "optim/grad_norm", "monitor/teacher_entropy", "monitor/center_norm",
          "monitor/feature_spread"} <= metrics.keys()


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_docstring_gives_command_and_hardware(path):
  text = path.read_text()
  assert f"--config=configs/{path.name}" in text and "Hardware:" in text


def test_published_recipe():
  """The numbers of the published run, spelled out here once more on purpose."""
  config = load(REPO / "configs" / "saip_vit_tiny.py")
  method = METHODS["saip"].build(config)
  params = jax.eval_shape(method.init, jax.random.key(0))[0]
  count = {name: sum(a.size for a in jax.tree.leaves(part)) for name, part in params.items()}
  assert count["backbone"] == 5_511_744
  # Published: 21.96 M with an unused norm (384) and 65,536 frozen gains.
  assert count["csm"] + 384 + 65_536 == 21_959_296
  assert round(count["csr"] / 1e6, 2) == 25.78 and round(count["css"] / 1e6, 2) == 17.10
  assert method.networks.grid == (16, 8) and method.networks.csr_grid == (20, 10)
  _, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  per_epoch = 488
  assert float(schedule(0)) == 0
  assert float(schedule(10 * per_epoch)) == pytest.approx(2e-3)
  assert float(schedule(155 * per_epoch)) == pytest.approx(1e-3, rel=1e-3)
  assert float(schedule(300 * per_epoch)) == pytest.approx(0, abs=1e-9)
