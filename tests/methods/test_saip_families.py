"""SAIP on hierarchical and convolutional backbones: their views, and the teacher's running statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones.statistics import join_statistics, split_statistics
from saip_jax.training.optimizer import make_optimizer, parameter_names
from tests.support.tiny_saip import made_up_batch, tiny

OFF = ("method.csm.attention_weight=0.0", "method.csr.weight=0.0")
SMALL = {
  "tinyvit_5m": {"dims": (8, 8, 12, 16), "depths": (1, 1, 1, 1), "heads": (1, 2, 2), "neck_width": 16},
  "swin_tiny": {"dims": (8, 16, 32, 64), "depths": (1, 1, 2, 1), "heads": (1, 2, 2, 4)},
  "convnext_femto": {"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1)},
  "hrnet_w18": {"dims": (4, 6, 8, 10), "depths": (1, 1, 1, 1), "units": 1},
}


def small(name, *overrides):
  return tiny(f"model.backbone={name}", "batch_size=4", *OFF, *overrides, **SMALL[name])


@pytest.mark.slow
@pytest.mark.parametrize(
  "name,overrides",
  [("tinyvit_5m", ["method.fidelity=improved"]), ("swin_tiny", []), ("convnext_femto", ["method.csr.weight=1.0"])],
  ids=lambda v: v if isinstance(v, str) else "",
)
def test_every_parameter_learns(name, overrides):
  config, method = small(name, *overrides)
  params, method_state = jax.jit(method.init)(jax.random.key(0))
  gradient = jax.jit(
    jax.value_and_grad(lambda p: method.loss(p, method_state, made_up_batch(4), jax.random.key(0), 0), has_aux=True)
  )
  (loss, aux), grads = gradient(params)
  assert np.isfinite(float(loss))
  losses = {key.removeprefix("loss/") for key in aux.metrics if key.startswith("loss/")}
  masked = {"csr"} if name == "convnext_femto" else set()
  assert losses == {"total", "csm_rep", "css_inst", "css_roi"} | masked
  # A branch that starts idle (scale zero) passes no gradient on; biases before a batch norm have none at all.
  idle = name == "tinyvit_5m"
  still = [n for n, g in parameter_names(grads).items() if not np.any(g)]
  assert not still or (idle and all("/stages_0/" in n for n in still)), still
  jax.eval_shape(make_optimizer(config.optimizer, 10, method.param_groups())[0].init, params)  # covers every parameter
  after = jax.eval_shape(method.after_update, method_state, params, aux.for_update, 0)
  assert jax.tree.structure(after) == jax.tree.structure(method_state)


@pytest.mark.slow
def test_an_encoder_of_many_branches_is_taken():
  """Shapes only: compiling takes long, and the encoders have their own tests of gradients."""
  config, method = small("hrnet_w18")
  params, method_state = jax.eval_shape(method.init, jax.random.key(0))
  _, aux = jax.eval_shape(method.loss, params, method_state, made_up_batch(4), jax.random.key(0), 0)
  assert {"loss/csm_rep", "loss/css_inst", "loss/css_roi"} <= aux.metrics.keys()
  assert jax.tree.structure(aux.for_update["statistics"]) == jax.tree.structure(method_state["statistics"])
  make_optimizer(config.optimizer, 10, method.param_groups())[0].init(params)  # covers every parameter


def test_statistics_go_round():
  tree = {"a": {"bn": {"scale": 1, "bias": 2, "mean": 3, "var": 4}}, "b": {"kernel": 5}}
  split = split_statistics(tree)
  assert split == {
    "params": {"a": {"bn": {"scale": 1, "bias": 2}}, "b": {"kernel": 5}},
    "batch_stats": {"a": {"bn": {"mean": 3, "var": 4}}},
  }
  assert join_statistics(split["params"], split["batch_stats"]) == tree
  assert split_statistics({"b": {"kernel": 5}}) == {"params": {"b": {"kernel": 5}}}


@pytest.mark.parametrize("rule,expected", [("own", 7.0), ("ema", 0.9 * 1.0 + 0.1 * 5.0), ("copied", 5.0)])
def test_running_statistics_of_the_teacher(rule, expected):
  """Before the step the teacher's are 1; after it the student's are 5, and the teacher's own are 7."""
  _, method = small("tinyvit_5m", "method.teacher_momentum=0.9", f"method.behavior.statistics={rule}")
  filled = lambda value: {"bn": {"mean": jnp.full(3, value)}}
  method_state = {
    "center": jnp.zeros(2),
    "teacher": {"w": jnp.zeros(2)},
    "statistics": {"student": filled(0.0), "teacher": filled(1.0)},
  }
  for_update = {"center": jnp.ones(2), "statistics": {"student": filled(5.0), "teacher": filled(7.0)}}
  after = method.after_update(method_state, {"w": jnp.ones(2)}, for_update, 0)["statistics"]
  np.testing.assert_allclose(after["student"]["bn"]["mean"], 5.0)
  np.testing.assert_allclose(after["teacher"]["bn"]["mean"], expected, rtol=1e-6)
  exported = method.export_params({"backbone": {"w": 0}}, method_state | {"teacher": {"backbone": {"w": 0}}}, "teacher")
  np.testing.assert_allclose(exported["bn"]["mean"], 1.0)


def test_objectives_that_a_backbone_cannot_have_are_refused():
  with pytest.raises(ValueError, match="csr.weight=0"):
    tiny("model.backbone=hrnet_w18", "method.csm.attention_weight=0.0", **SMALL["hrnet_w18"])
  with pytest.raises(ValueError, match="attention_weight=0"):
    tiny("model.backbone=swin_tiny", "method.csr.weight=0.0", **SMALL["swin_tiny"])
  with pytest.raises(ValueError, match="csr.weight=0"):
    tiny("model.backbone=tinyvit_5m", "method.csm.attention_weight=0.0", **SMALL["tinyvit_5m"])
