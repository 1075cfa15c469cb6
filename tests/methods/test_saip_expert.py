"""SAIP with a frozen expert: what the alignment compares, and that the expert never changes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.interop import saip as saip_names
from saip_jax.interop.tensor_files import sha256
from saip_jax.methods.saip.alignment import alignment_terms, current_moments, move_moments, new_moments
from saip_jax.training.mesh import lower_step, make_mesh, place_state, shard_batch, shardings_of
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.step import init_state, make_train_step, state_shapes
from saip_jax.views.photometric import IMAGENET_MEAN, IMAGENET_STD
from tests.support.tiny_saip import made_up_batch, tiny
from tests.support.toy_weights import add_toy_backbone, random_weights, timm_file

KEY = jax.random.key(3)
TOY = {"width": 24, "depth": 8, "heads": 3}
ALONE = ("method.csm.weight=0.0", "method.csr.weight=0.0", "method.css.weight=0.0")


@pytest.fixture
def file(tmp_path, monkeypatch):
  """The weights of an expert of the student's architecture."""
  add_toy_backbone(monkeypatch)
  return timm_file(tmp_path / "expert.safetensors")


def aligned(file, *settings, **backbone_options):
  options = backbone_options or TOY
  named = ["model.backbone=vit_toy", *expert_of(file), "method.align.weight=1.0"]
  return tiny(*named, *settings, **options)


def expert_of(file):
  return f"method.expert={file}", f"method.expert_mean={IMAGENET_MEAN}", f"method.expert_std={IMAGENET_STD}"


def start(config, method):
  """Returns (state with the expert, step)."""
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  state = jax.jit(lambda: init_state(method, tx, 0))().replace(frozen=jax.tree.map(jnp.asarray, method.frozen))
  return state, make_train_step(method, tx, schedule, 1, 0)


def outputs_of(method, params, method_state):
  views = method.views(made_up_batch(4), KEY)
  return method.networks.forward(params, method_state | method.frozen, views)


def test_weight_zero_is_the_program_without_an_expert():
  """Views, parameters, operations and their order: the same."""
  plain, other = tiny()[1], tiny("method.align.weight=0.0", "method.align.adapter=block", "method.align.pairs=all")[1]
  texts = []
  for method in (plain, other):
    params, state = jax.eval_shape(method.init, KEY)
    key, step = jax.eval_shape(lambda: KEY), jax.ShapeDtypeStruct((), jnp.int32)
    texts.append(str(jax.make_jaxpr(jax.grad(method.loss, has_aux=True))(params, state, made_up_batch(), key, step)))
  assert texts[0] == texts[1] and "adapter" not in params


def test_a_student_that_is_the_expert_has_no_loss_on_the_same_view(file):
  config, method = aligned(
    file, *ALONE, "method.align.adapter=linear", "method.align.pairs=all", "method.align.patch_weight=1.0"
  )
  params, state = method.init(KEY)
  assert params.keys() == {"backbone", "adapter"}
  params["backbone"] = jax.tree.map(jnp.asarray, method.expert.variables["params"])
  params["adapter"]["fc4"] = {"kernel": jnp.eye(24), "bias": jnp.zeros(24)}
  out = jax.jit(lambda p: outputs_of(method, p, state))(params).aligned
  assert out.cls.shape == (4, 2 + 2, 24)  # two global views, a local crop and the RoI; the instance is CSM's
  scale = float(np.abs(out.expert_cls).max())
  np.testing.assert_allclose(out.cls[:, :2], out.expert_cls, atol=1e-4 * scale)
  np.testing.assert_allclose(out.tokens, out.expert_tokens, atol=1e-3 * scale)
  terms = {name: float(value) for name, (_, value) in alignment_terms(config.method.align, out, None).items()}
  assert terms.keys() == {"align_image", "align_patch", "align_relation"}
  assert terms["align_patch"] < 1e-6 * scale**2 and abs(terms["align_relation"]) < 1e-6
  crossed = dataclasses.replace(config.method.align, pairs="cross")
  assert float(alignment_terms(crossed, out, None)["align_image"][1]) > terms["align_image"] > 1e-4
  tokens = dataclasses.replace(config.method.align, relation="tokens")
  assert abs(float(alignment_terms(tokens, out, None)["align_relation"][1])) < 1e-5


@pytest.mark.parametrize(
  "settings",
  [
    ("method.align.relation=tokens", "method.align.distance=cosine", "method.align.targets=standardized"),
    ("method.align.adapter=block", "method.align.distance=huber"),
    ("method.teacher=expert", "method.align.adapter=linear"),
  ],
  ids=["tokens", "block", "teacher"],
)
def test_the_student_learns_and_the_expert_stays(file, settings):
  config, method = aligned(file, *settings, "optimizer.learning_rate=2e-3")
  state, step = start(config, method)
  before, losses, step = jax.device_get(state.frozen), [], jax.jit(step)
  names = {"align_image", "align_patch", "align_relation"}
  for _ in range(6):
    state, metrics = step(state, made_up_batch())
    losses.append({name: float(value) for name, value in metrics.items()})
  assert {f"loss/{name}" for name in names} <= losses[0].keys()
  assert losses[-1]["loss/align_image"] < losses[0]["loss/align_image"]
  jax.tree.map(np.testing.assert_array_equal, before, state.frozen)
  jax.tree.map(np.testing.assert_array_equal, before["expert"], method.expert.variables)
  assert "expert" not in state.stored()["extra"] and state.readable.keys() == state.method_state.keys() | {"expert"}
  of_expert = jax.grad(lambda f: method.loss(state.params, state.method_state | f, made_up_batch(), KEY, 0)[0])
  assert not any(map(np.any, jax.tree.leaves(jax.jit(of_expert)(state.frozen))))
  assert "adapter" not in method.export_params(state.params, state.method_state, "student")
  published = saip_names.write(jax.device_get({name: state.params[name] for name in ("backbone", "adapter")}), 16)
  assert all(name.startswith("backbone.") for name in published)
  if "method.teacher=expert" in settings:
    assert "teacher" not in state.method_state and "expert_head" in state.method_state
    with pytest.raises(ValueError, match="which=.teacher."):
      method.export_params(state.params, state.method_state, "teacher")


def test_moments_start_with_the_first_batch_and_then_move():
  batch = {
    "cls": {"mean": jnp.ones(2), "variance": 2 * jnp.ones(2)},
    "tokens": {"mean": jnp.zeros(2)} | {"variance": jnp.ones(2)},
  }
  start = new_moments(2)
  assert float(current_moments(start, batch)["cls"]["variance"][0]) == 2
  first = move_moments(start, batch)
  assert float(first["cls"]["mean"][0]) == 1 and bool(first["seen"])
  later = move_moments(first, jax.tree.map(lambda a: a + 1, batch))
  assert float(later["cls"]["mean"][0]) == pytest.approx(1.01)
  assert float(current_moments(later, batch)["cls"]["mean"][0]) == pytest.approx(1.01)


def test_the_expert_has_its_own_normalization_and_size(file):
  mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
  _, method = aligned(file, "method.expert_mean=(0.1,0.2,0.3)", "method.expert_std=(0.5,0.6,0.7)")
  pixels = jax.random.uniform(KEY, (1, 2, 128, 64, 3))
  seen = method.expert._prepare((pixels - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD))
  np.testing.assert_allclose(seen, (pixels - jnp.array(mean)) / jnp.array(std), atol=1e-5)
  smaller = dataclasses.replace(aligned(file)[1].expert, expert_hw=(96, 48))
  assert smaller.size_of((112, 112)) == (84, 84)
  flat = smaller._prepare(jnp.full((1, 1, 128, 64, 3), 0.7))
  assert flat.shape == (1, 1, 96, 48, 3)
  np.testing.assert_allclose(flat, 0.7, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("relation", ["attention", "tokens"])
def test_an_expert_in_bfloat16_moves_no_term_by_a_hundredth(file, relation):
  config, method = aligned(file, *ALONE, f"method.align.relation={relation}", "method.align.targets=raw")
  params, state = method.init(KEY)
  params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)
  terms = []
  for dtype in (jnp.float32, jnp.bfloat16):
    expert = dataclasses.replace(method.expert, module=method.expert.module.clone(dtype=dtype))
    networks = dataclasses.replace(method.networks, expert=expert)
    views = method.views(made_up_batch(4), KEY)
    out = jax.jit(lambda p: networks.forward(p, state | method.frozen, views))(params).aligned
    terms.append({name: float(value) for name, (_, value) in alignment_terms(config.method.align, out, None).items()})
  assert terms[0].keys() == {"align_image", "align_patch", "align_relation"} and terms[0] != terms[1]
  for name, value in terms[0].items():
    assert terms[1][name] == pytest.approx(value, rel=0.01), name


def test_sharded_equals_single_device(file):
  config, method = aligned(
    file, *ALONE, "method.align.targets=standardized", "method.align.adapter=linear", "method.align.relation=tokens"
  )
  tx, schedule = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  step = make_train_step(method, tx, schedule, 1, 0)
  batch = {name: array for name, array in made_up_batch().items() if name in method.batch_spec(8)}
  results = []
  for devices, fsdp in ((1, 1), (8, 1), (8, 2)):
    mesh = make_mesh(jax.devices()[:devices], fsdp)
    shapes = place_state(mesh, state_shapes(method, tx, 0))
    places = shardings_of(shapes)
    state = jax.jit(lambda: init_state(method, tx, 0), out_shardings=places.replace(frozen={}))()
    state = state.replace(frozen=jax.device_put(method.frozen, places.frozen))
    compiled = lower_step(mesh, step, shapes, method.batch_spec(8)).compile()
    for _ in range(2):
      state, metrics = compiled(state, shard_batch(mesh, batch))
    results.append((jax.device_get(metrics), jax.device_get(state.method_state["expert_moments"])))
  for metrics, moments in results[1:]:
    for name, value in results[0][0].items():
      np.testing.assert_allclose(metrics[name], value, rtol=2e-3, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), moments, results[0][1])


def test_a_run_is_bound_to_the_weights_of_its_expert(file, tmp_path):
  settings = aligned(file)[1].fixed_settings()
  assert settings["expert"] == sha256(file) and "expert_sha256" not in settings
  moved = tmp_path / "elsewhere.safetensors"
  moved.write_bytes(file.read_bytes())
  assert aligned(moved)[1].fixed_settings() == settings
  other = timm_file(tmp_path / "other.safetensors", random_weights(image_hw=(64, 32)))
  assert aligned(other)[1].fixed_settings() != settings
  plain = tiny()[1].fixed_settings()
  assert plain["expert"] is None and not plain.keys() & {"align", "teacher", "near_area", "expert_hw"}


def test_wrong_experts_and_settings_say_what_to_change(file, tmp_path):
  def refused(match, *settings, **options):
    with pytest.raises(ValueError, match=match):
      tiny(*settings, **options)

  expert, align = f"method.expert={file}", "method.align.weight=1.0"
  refused("does not state how its images were normalized: set config.method.expert_mean", expert, align)
  refused("config.method.expert is not set", align)
  refused("nothing uses it", expert)
  refused("expert_sha256 is set, but config.method.expert is not", f"method.expert_sha256=a{'0' * 63}")
  refused("has the SHA-256 .* this is another file", expert, align, f"method.expert_sha256=a{'0' * 63}")
  refused("config.method.expert=nowhere.pth: .*no such file", "method.expert=nowhere.pth", align)
  refused("expected multiples of its patches of 16", *expert_of(file), align, "method.expert_hw=(100,50)")
  refused("the student's have 33 tokens and the expert's 19", *expert_of(file), align, "method.expert_hw=(96,48)")
  refused("belong together", expert, align, "method.expert_mean=(0.5,0.5,0.5)")
  refused("has a weight but no term", align, *(f"method.align.{n}_weight=0.0" for n in ("image", "patch", "relation")))
  refused("nothing to teach", "method.teacher=expert", expert, align, *ALONE)
  with pytest.raises(ValueError, match="attention_weight=0|relation='tokens'"):
    aligned(file, "model.backbone=convnext_femto", "model.image_hw=(128,64)")
