"""SAIP as a method: its invariants, its updates, and determinism of its draws."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.training.mesh import make_mesh, shard_batch
from saip_jax.training.optimizer import make_optimizer, parameter_names
from saip_jax.training.step import init_state, make_train_step
from tests.support.tiny_saip import made_up_batch, tiny


@pytest.fixture(scope="module")
def setup():
  config, method = tiny()
  params, method_state = jax.jit(method.init)(jax.random.key(0))
  return config, method, params, method_state


@pytest.fixture(scope="module")
def first_step(setup):
  """((loss, aux), gradients of parameters and method state) of the first batch; compiled once."""
  _, method, params, method_state = setup
  loss = lambda p, e: method.loss(p, e, made_up_batch(), jax.random.key(0), 0)
  return jax.device_get(jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, method_state))


def test_views_have_the_published_shapes_and_relations(setup):
  _, method, _, _ = setup
  views = jax.jit(method.views)(made_up_batch(), jax.random.key(3))
  assert views.globals.shape == (8, 2, 128, 64, 3) and views.crops.shape == (8, 3, 64, 32, 3)
  np.testing.assert_array_equal(views.crops[:, -1], views.globals[:, 0, ::2, ::2])  # instance: decimated anchor
  assert views.scene.shape == (8, 112, 112, 3)
  inst, roi = np.asarray(views.inst_mask), np.asarray(views.roi_mask)
  assert (inst.sum((1, 2)) == 8).all() and (roi.sum((1, 2)) == 8).all() and not (inst * roi).any()
  for i in range(8):  # the RoI is always left of the instance
    assert np.argwhere(roi[i])[:, 1].max() < np.argwhere(inst[i])[:, 1].min()
  assert (views.draws.rescale == views.draws.rescale[0]).all()  # one pair of scales per micro-step


def test_draws_depend_on_seed_step_and_index_alone(setup):
  _, method, _, _ = setup
  make = jax.jit(method.views)
  batch = made_up_batch()
  views = make(batch, jax.random.key(3))
  order = np.random.default_rng(0).permutation(8)
  shuffled = make({k: v[order] for k, v in batch.items()}, jax.random.key(3))
  for a, b in zip(jax.tree.leaves(views), jax.tree.leaves(shuffled)):
    np.testing.assert_array_equal(np.asarray(a)[order], b)
  other = make(batch, jax.random.key(4))
  assert not np.allclose(views.globals, other.globals)


def test_draws_are_bit_equal_on_1_and_8_devices(setup):
  _, method, _, _ = setup
  batch, results = made_up_batch(), []
  for count in (1, 8):
    mesh = make_mesh(jax.devices()[:count])
    results.append(jax.device_get(jax.jit(method.views)(shard_batch(mesh, batch), jax.random.key(3))))
  for result in results[1:]:
    for a, b in zip(jax.tree.leaves(results[0].draws), jax.tree.leaves(result.draws), strict=True):
      np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(results[0].inst_mask, result.inst_mask)
    np.testing.assert_allclose(results[0].globals, result.globals, atol=1e-5)


def test_start_of_training(first_step):
  """Teacher and student are equal at first: no attention loss, matching near log K, search near log 2."""
  (loss, aux), _ = first_step
  assert float(aux.metrics["loss/csm_att"]) == pytest.approx(0, abs=1e-5)
  assert 2.5 < float(aux.metrics["loss/csm_rep"]) < 5.5
  assert 0.4 < float(aux.metrics["loss/css_inst"]) < 3 and 0.8 < float(aux.metrics["loss/csr"]) < 4
  assert float(loss) == pytest.approx(
    sum(float(v) for k, v in aux.metrics.items() if k.startswith("loss/") and k != "loss/total"), rel=1e-5
  )


def test_bfloat16_computes_the_same_losses(setup, first_step):
  _, _, params, method_state = setup
  _, half = tiny("precision=bfloat16")
  batch, key = made_up_batch(), jax.random.key(0)
  exact = first_step[0][1].metrics
  rounded = jax.jit(half.loss)(params, method_state, batch, key, 0)[1].metrics
  for name in exact:
    assert rounded[name].dtype == jnp.float32
    assert float(rounded[name]) == pytest.approx(float(exact[name]), rel=3e-2, abs=3e-2), name


def test_every_parameter_learns_and_the_teacher_gets_no_gradient(first_step):
  _, (grads, method_state) = first_step
  still = [n for n, g in parameter_names(grads).items() if not np.any(g)]
  assert still == []
  assert not any(np.any(g) for g in jax.tree.leaves(method_state["teacher"]))


def test_decay_follows_the_published_rule(setup):
  """No decay on biases and norms; tokens, positions and prototypes are decayed."""
  config, method, params, _ = setup
  config = dataclasses.replace(
    config.optimizer, learning_rate=1.0, min_learning_rate=1.0, weight_decay=0.5, grad_clip_norm=None
  )
  tx, _ = make_optimizer(config, 10, method.param_groups())
  zero, ones = (jax.tree.map(lambda a: np.full(a.shape, value, a.dtype), params) for value in (0, 1))
  updates, _ = jax.jit(lambda: tx.update(zero, tx.init(ones), ones))()
  for name, update in parameter_names(updates).items():
    expected = 0.0 if name.endswith(("bias", "scale")) else -0.5
    np.testing.assert_allclose(update, expected, err_msg=name)


def test_uncovered_parameter_is_named(setup):
  config, method, params, _ = setup
  tx, _ = make_optimizer(config.optimizer, 10, method.param_groups()[:1])
  with pytest.raises(ValueError, match="backbone/cls_token"):
    tx.init(params)


@pytest.mark.slow
def test_teacher_moves_at_every_micro_step():
  """Over four micro-steps T' = m^4 T + m (1 - m^3) S_old + (1 - m) S_new, as published."""
  config, method = tiny("accumulate=4", "method.teacher_momentum=0.9")
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  state = jax.jit(lambda: init_state(method, tx, 0))()
  teacher = jax.device_get(state.method_state["teacher"])
  state = state.replace(
    method_state=state.method_state | {"teacher": jax.tree.map(lambda t: t + np.float32(1), teacher)}
  )
  after, metrics = jax.jit(make_train_step(method, tx, schedule, 4, 0))(state, made_up_batch())
  m = 0.9
  expected = jax.tree.map(
    lambda t, old, new: m**4 * t + m * (1 - m**3) * old + (1 - m) * new,
    state.method_state["teacher"],
    *jax.device_get((state.params, after.params)),
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after.method_state["teacher"], expected)
  assert int(after.step) == 1 and np.isfinite(float(metrics["loss/total"]))
  assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(after.params), jax.tree.leaves(state.params)))


@pytest.mark.slow
def test_same_loss_on_1_2_and_8_devices():
  config, method = tiny()
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  step = make_train_step(method, tx, schedule, 1, 0)
  start = jax.device_get(jax.jit(lambda: init_state(method, tx, 0))())
  losses = []
  for count in (1, 2, 8):
    mesh = make_mesh(jax.devices()[:count])
    state = jax.device_put(start, jax.NamedSharding(mesh, jax.P()))
    jitted, run = jax.jit(step), []
    for i in range(2):
      state, metrics = jitted(state, shard_batch(mesh, made_up_batch(seed=i)))
      run.append({k: float(v) for k, v in metrics.items()})
    losses.append(run)
  for other in losses[1:]:
    for a, b in zip(losses[0], other):
      for name in a:
        assert b[name] == pytest.approx(a[name], rel=2e-3, abs=2e-4), name


def test_panels_show_every_sample(setup):
  _, method, params, method_state = setup
  panels = method.panels(params, method_state, made_up_batch(2), jax.random.key(0))
  assert set(panels) == {"views", "reconstruction", "search"}
  for panel in panels.values():
    assert len(panel.rows) == 2
    for row in panel.rows:
      for _, image in row:
        assert image.ndim == 3 and np.isfinite(image).all()


def test_bad_settings_say_what_is_possible():
  with pytest.raises(ValueError, match="official"):
    tiny("method.fidelity=exact")
  with pytest.raises(ValueError, match="method.local_crops"):
    tiny("method.local_crops=1")
  with pytest.raises(ValueError, match="method.rescale_factors"):
    tiny("model.image_hw=(64, 32)")
  with pytest.raises(ValueError, match="method.css.scene_size"):
    tiny("method.css.scene_size=64")
  with pytest.raises(ValueError, match="student or teacher"):
    tiny()[1].export_params(None, None, "both")
