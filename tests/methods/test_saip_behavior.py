"""SAIP's deviations from the released code, one by one, and its objectives, alone and together."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones.initial_values import TOKEN_INITS
from saip_jax.losses.matching import sinkhorn_probabilities
from saip_jax.methods.saip.behavior import FIDELITIES, Behavior
from saip_jax.methods.saip.views import make_draws
from saip_jax.training.optimizer import make_optimizer, parameter_names
from saip_jax.training.step import init_state, make_train_step
from saip_jax.views.photometric import denormalize
from saip_jax.views.rescaling import rescale_antialiased
from tests.support.tiny_saip import REPO, made_up_batch, tiny

KEY = jax.random.key(3)


def behave(**options):
  return [f"method.behavior.{name}={value}" for name, value in options.items()]


@pytest.fixture(scope="module")
def improved():
  """The improved method, persons pasted with full opacity, and its views of 32 samples."""
  _, method = tiny("method.fidelity=improved", "method.css.paste_opacity=1.0")
  return method, jax.device_get(jax.jit(method.views)(made_up_batch(32), KEY))


def draws_of(method, size=64):
  networks = method.networks
  make = jax.jit(lambda keys: make_draws(keys, KEY, method.config, networks.grid, networks.csr_grid))
  return jax.device_get(make(jax.random.split(KEY, size)))


def test_single_behaviors_override_the_fidelity():
  config, _ = tiny("method.fidelity=improved", *behave(ema="constant"))
  behavior = config.method.resolved
  assert behavior.ema == "constant" and behavior.positions == "grid2d"
  for fidelity in FIDELITIES.values():
    assert None not in vars(fidelity).values()
  assert tiny()[0].method.resolved == FIDELITIES["official"]


def test_every_behavior_is_documented():
  page = (REPO / "docs" / "methods" / "saip.md").read_text("utf-8")
  for name in vars(Behavior()):
    assert f"    {name}: " in Behavior.__doc__ and f"| `{name}` |" in page


def test_exact_mask_scores_what_is_hidden(improved):
  seen = lambda draws: np.take_along_axis(draws.scored, draws.keep_ids, 1)
  draws = improved[1].draws
  length, kept = draws.scored.shape[1], draws.keep_ids.shape[1]
  assert not seen(draws).any() and (draws.scored.sum(1) == length - kept).all()
  carried = draws_of(tiny()[1])
  assert seen(carried).any()  # published: some seen patches are scored
  assert len(np.unique(carried.rescale, axis=0)) == 1  # and one pair of scales for all


def test_whole_sizes_lose_no_pixels(improved):
  assert any(side % 16 for hw in tiny()[1].networks.rescaled_sizes for side in hw)
  assert not any(side % 16 for hw in improved[0].networks.rescaled_sizes for side in hw)


def test_scales_per_sample(improved):
  rescale = improved[1].draws.rescale
  assert len(np.unique(rescale[:, 0])) == 4 and (rescale[:, 0] != rescale[:, 1]).any()


def test_scene_order_is_random(improved):
  views = improved[1]
  left = [
    np.argwhere(roi)[:, 1].mean() < np.argwhere(inst)[:, 1].mean()
    for roi, inst in zip(views.roi_mask, views.inst_mask)
    if roi.any()
  ]
  assert len(left) > 10 and 0.2 < np.mean(left) < 0.8


def is_pasted(crop, scene, mask):
  """Returns True if the crop equals the scene at one of the places that the mask allows."""
  rows, columns = np.nonzero(mask)
  top, left = rows.min() * 16, columns.min() * 16
  pixels = scene[top : top + 48, left : left + 16]  # these cells lie wholly inside the box
  return any(
    np.abs(crop[y : y + 48, x : x + 16] - pixels).max() < 1e-5 for y, x in itertools.product(range(17), range(17))
  )


def test_crops_in_the_scene(improved):
  """The instance is the sample's own; the RoI is the one of the next sample."""
  views = improved[1]
  for i in range(32):
    assert is_pasted(views.crops[i, -1], views.scene[i], views.inst_mask[i])
    if views.roi_mask[i].any():
      assert is_pasted(views.crops[(i + 1) % 32, -2], views.scene[i], views.roi_mask[i])
      assert not is_pasted(views.crops[i, -2], views.scene[i], views.roi_mask[i])


def test_one_to_three_persons(improved):
  views = improved[1]
  assert views.inst_mask.any((1, 2)).all()  # the instance is always there
  alone = 32 - views.roi_mask.any((1, 2)).sum()
  assert 4 < alone < 18  # in a third of the scenes: then the RoI is searched for in vain
  with pytest.raises(ValueError, match="within 1 to 3"):
    tiny(*behave(scene_persons=(0, 2)))


def test_instance_is_the_filtered_anchor(improved):
  views = improved[1]
  instance = rescale_antialiased(jnp.asarray(views.globals[:, 0]), views.crops.shape[2:4])
  np.testing.assert_allclose(views.crops[:, -1], instance, atol=1e-5)


def test_normal_tokens_start_small_and_are_not_decayed():
  _, method = tiny(*behave(tokens="normal"))
  assert method.backbone.tokens == method.networks.csr.tokens == "normal"
  table = TOKEN_INITS["normal"](KEY, (1, 129, 64))
  assert float(table.std()) == pytest.approx(0.02, rel=0.05) and abs(float(table.mean())) < 1e-3
  decays = lambda name: next(group.decay for pattern, group in method.param_groups() if re.search(pattern, name))
  assert not any(map(decays, ("backbone/cls_token", "csr/mask_token", "backbone/pos_embed")))
  assert decays("csm/fc1/kernel")


def test_cosine_teacher_moves_once_per_update_and_less_and_less():
  _, method = tiny("accumulate=2", "total_steps=10", "method.teacher_momentum=0.9", *behave(ema="cosine"))
  kept = [float(method._teacher_momentum(jnp.int32(step))) for step in range(20)]
  assert kept[::2] == [1.0] * 10  # the first micro-step of each update leaves it
  moved = kept[1::2]
  assert moved[0] == pytest.approx(0.9) and all(a < b for a, b in zip(moved, moved[1:])) and moved[-1] < 1


def test_sinkhorn_gives_every_prototype_its_share():
  logits = np.random.default_rng(0).normal(size=(16, 2, 8))
  expected = np.exp(logits / 0.5).reshape(32, 8)
  for _ in range(3):
    expected /= expected.sum(0, keepdims=True)
    expected /= expected.sum(1, keepdims=True)
  ours = np.asarray(sinkhorn_probabilities(jnp.asarray(logits), 0.5)).reshape(32, 8)
  np.testing.assert_allclose(ours, expected, rtol=1e-5)
  many = np.asarray(sinkhorn_probabilities(jnp.asarray(logits), 0.5, iterations=100)).reshape(32, 8)
  np.testing.assert_allclose(many.sum(0), 4, rtol=1e-4)


SUBSETS = [set(s) for n in (1, 2, 3) for s in itertools.combinations(("csm", "csr", "css"), n)]


@pytest.fixture(scope="module")
def costs():
  """Objectives -> (parameters' top level names, FLOPs of the gradient as XLA counts them, metrics)."""
  table = {}
  for subset in SUBSETS:
    off = [f"method.{name}.weight=0.0" for name in ("csm", "csr", "css") if name not in subset]
    _, method = tiny(*off)
    params, method_state = jax.eval_shape(method.init, KEY)
    batch = method.batch_spec(8)
    assert ("scene" in batch) == ("css" in subset)  # fields without a use are not decoded
    gradient = jax.jit(jax.grad(lambda p, e, b: method.loss(p, e, b, KEY, 0), has_aux=True))
    lowered = gradient.lower(params, method_state, batch)
    metrics = lowered.out_info[1].metrics
    table[frozenset(subset)] = set(params), set(method_state), lowered.cost_analysis()["flops"], set(metrics)
  return table


@pytest.mark.slow
@pytest.mark.parametrize("subset", SUBSETS, ids=lambda s: "+".join(sorted(s)))
def test_objectives_alone_and_together(costs, subset):
  modules, method_state, flops, metrics = costs[frozenset(subset)]
  assert modules == {"backbone"} | subset
  losses = {name.removeprefix("loss/").split("_")[0] for name in metrics if name.startswith("loss/")} - {"total"}
  assert losses == subset
  assert ("teacher" in method_state) == bool(subset & {"csm", "css"}) and ("center" in method_state) == (
    "csm" in subset
  )
  for more in SUBSETS:
    if subset < more:
      assert flops < costs[frozenset(more)][2], f"{more} is no more work than {subset}"


@pytest.mark.slow
def test_improved_trains():
  config, method = tiny("method.fidelity=improved", *behave(balance="sinkhorn"))
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  state = jax.jit(lambda: init_state(method, tx, 0))()
  step, losses = jax.jit(make_train_step(method, tx, schedule, 1, 0)), []
  before = state.params
  for _ in range(6):
    state, metrics = step(state, made_up_batch())
    losses.append(float(metrics["loss/total"]))
  assert losses[-1] < losses[0] and np.isfinite(losses).all()
  still = [
    name
    for (name, a), b in zip(parameter_names(before).items(), jax.tree.leaves(state.params))
    if not np.any(np.asarray(a) != np.asarray(b))
  ]
  assert still == []


def test_impossible_settings_say_what_to_change():
  with pytest.raises(ValueError, match="one must be positive"):
    tiny("method.csm.weight=0.0", "method.csr.weight=0.0", "method.css.weight=0.0")
  with pytest.raises(ValueError, match="none may be negative"):
    tiny("method.csr.weight=-1.0")
  with pytest.raises(ValueError, match="behavior.ema is 'cosin', did you mean 'cosine'"):
    tiny(*behave(ema="cosin"))
  with pytest.raises(ValueError, match="3 persons of 64x32"):
    tiny("method.css.scene_size=96", *behave(scene_persons=(1, 3)))


def test_color_scale_0_keeps_colors():
  """Pictures of one color stay that color in every view, pasted persons included; blur does not change them."""
  color, scene = np.array([200, 90, 30]), np.array([20, 120, 60])
  batch = made_up_batch(4)
  batch["image"] = np.broadcast_to(color, batch["image"].shape).astype(np.uint8)
  batch["scene"] = np.broadcast_to(scene, batch["scene"].shape).astype(np.uint8)
  colors = lambda views: np.concatenate(
    [255 * np.asarray(denormalize(x)).reshape(-1, 3) for x in (views.globals, views.crops, views.scene)]
  )
  make = lambda *settings: colors(jax.jit(tiny("method.css.paste_opacity=1.0", *settings)[1].views)(batch, KEY))
  kept = make("method.color_scale=0.0")
  assert np.minimum(abs(kept - color).max(1), abs(kept - scene).max(1)).max() < 0.5
  assert np.minimum(abs(make() - color).max(1), abs(make() - scene).max(1)).max() > 20


def test_an_impossible_color_scale_is_refused():
  with pytest.raises(ValueError, match="config.method.color_scale is 1.5: expected a number within 0 to 1"):
    tiny("method.color_scale=1.5")


def test_a_run_is_bound_to_its_color_scale_and_older_runs_have_all_colors():
  assert "color_scale" not in tiny()[1].fixed_settings()
  assert tiny("method.color_scale=0.5")[1].fixed_settings()["color_scale"] == 0.5
