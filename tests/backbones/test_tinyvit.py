"""TinyViT: timm's numbers from timm's weights, and images of any size, alone or on a canvas."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saip_jax.backbones.features import PaddedSizes, Views
from saip_jax.backbones.tinyvit import AttentionStage, ConvBlock, TinyViT
from saip_jax.interop.tables import flatten, from_torch, to_torch, unflatten
from saip_jax.interop.tinyvit import TINYVIT_NAMES
from tests.support import pyramid_laws

NECK = 320 * 256 + 9 * 256 * 256 + 4 * 256  # two convolutions, two norms
TINY = functools.partial(
  TinyViT, dims=(8, 12, 16, 24), depths=(1, 1, 1, 1), heads=(2, 2, 3), windows=(3, 4, 3), neck_width=20
)


def values_of_training(rng, name: str, shape) -> np.ndarray:
  """Returns values of the sizes that training leaves, for the leaves of both libraries."""
  leaf = name.split("/")[-1].split(".")[-1]
  noise = rng.standard_normal(shape, np.float32)
  if leaf in ("var", "running_var"):
    return np.exp(0.3 * noise)
  if len(shape) == 1:
    return (leaf in ("weight", "scale")) + 0.2 * noise
  if leaf == "attention_biases":
    return noise
  fan_in = np.prod(shape[1:]) if leaf == "weight" else np.prod(shape[:-1])
  return noise / np.sqrt(fan_in, dtype=np.float32)


def variables_of(tree) -> dict:
  """Returns one tree of parameters and running statistics as Linen's two collections."""
  flat = flatten(tree)
  is_statistic = lambda path: path.endswith(("/mean", "/var"))
  return {
    "params": unflatten({path: a for path, a in flat.items() if not is_statistic(path)}),
    "batch_stats": unflatten({path: a for path, a in flat.items() if is_statistic(path)}),
  }


@functools.cache
def shapes_of(backbone: TinyViT) -> dict:
  """Returns path -> shape of parameters and running statistics together."""
  images = jax.ShapeDtypeStruct((1, 64, 32, 3), jnp.float32)
  variables = jax.eval_shape(lambda key, x: backbone.init(key, x, ("cls", "hidden")), jax.random.key(0), images)
  flat = lambda tree: flatten(jax.tree.map(lambda a: np.broadcast_to(np.float32(0), a.shape), tree))
  return {path: a.shape for collection in variables.values() for path, a in flat(collection).items()}


@functools.cache
def tiny_variables() -> dict:
  rng = np.random.default_rng(5)
  return variables_of(unflatten({path: values_of_training(rng, path, s) for path, s in shapes_of(TINY()).items()}))


@functools.partial(jax.jit, static_argnums=0)
def evaluate(backbone: TinyViT, variables, images, padded=None):
  return backbone.apply(variables, images, ("cls", "tokens", "hidden"), padded=padded)


def images(seed: int, *shape) -> np.ndarray:
  return np.random.default_rng(seed).standard_normal((*shape, 3), np.float32)


def assert_close(ours, theirs, limit):
  np.testing.assert_allclose(np.asarray(ours, np.float32), np.asarray(theirs, np.float32), rtol=0, atol=limit)


@pytest.fixture(scope="module")
def timms():
  """timm's net with the published change of stride, with random weights, and our tree of the same."""
  timm = pytest.importorskip("timm")
  torch = pytest.importorskip("torch")
  model = timm.create_model("tiny_vit_5m_224", num_classes=0).eval()
  model.stages[3].downsample.conv2.conv.stride = (1, 1)
  rng = np.random.default_rng(2)
  state = {n: t.numpy() for n, t in model.state_dict().items()}
  state |= {n: values_of_training(rng, n, a.shape) for n, a in state.items() if a.dtype == np.float32}
  model.load_state_dict({n: torch.tensor(a) for n, a in state.items()})
  shapes = shapes_of(TinyViT())
  extra = to_torch(
    unflatten({row.path: np.zeros(shapes[row.path], np.float32) for row in TINYVIT_NAMES.extra}),
    TINYVIT_NAMES.extra,
    16,
  )
  extra = {n: values_of_training(rng, n, a.shape) for n, a in extra.items()}
  return types.SimpleNamespace(
    torch=torch,
    model=model,
    state=state,
    extra=extra,
    tree=from_torch(state | extra, TINYVIT_NAMES.timm + TINYVIT_NAMES.extra, TINYVIT_NAMES.ignored, shapes),
  )


def torch_features(timms, stages_out):
  """Returns (cls, tokens, hidden) as PyTorch computes them from the last stage's output."""
  import torch.nn.functional as F

  own = {n: timms.torch.tensor(a) for n, a in timms.extra.items()}
  norm = lambda x, name: F.layer_norm(x, x.shape[-1:], own[f"{name}.weight"], own[f"{name}.bias"], 1e-6)
  cells = norm(stages_out.permute(0, 2, 3, 1), "inter_norm").flatten(1, 2)
  x = norm(F.conv2d(stages_out, own["neck.0.weight"]).permute(0, 2, 3, 1), "neck.1").permute(0, 3, 1, 2)
  x = norm(F.conv2d(x, own["neck.2.weight"], padding=1).permute(0, 2, 3, 1), "neck.3").flatten(1, 2)
  return x.mean(1), x, timms.torch.cat([cells.mean(1, keepdim=True), cells], dim=1)


@pytest.mark.torch
@pytest.mark.parametrize("image_hw", [(256, 128), (75, 50)])
def test_the_features_are_timms(timms, image_hw):
  x = images(0, 2, *image_hw)
  with timms.torch.inference_mode():
    y, theirs = timms.model.patch_embed(timms.torch.tensor(x.transpose(0, 3, 1, 2))), []
    for stage in timms.model.stages:
      y = stage(y)
      theirs.append(y)
    cls, tokens, hidden = torch_features(timms, y)
  is_stage = lambda module, _: module.name is not None and module.name.startswith("stages_")
  run = jax.jit(
    lambda v, x: TinyViT().apply(
      v, x, ("cls", "tokens", "hidden"), capture_intermediates=is_stage, mutable=["intermediates"]
    )
  )
  ours, captured = run(variables_of(timms.tree), x)
  for i, stage in enumerate(theirs):
    ((mine, _),) = captured["intermediates"][f"stages_{i}"]["__call__"]
    assert_close(mine, stage.permute(0, 2, 3, 1), 1e-4)
  assert float(theirs[-1].std()) > 0.3  # not all washed out
  assert_close(ours.cls, cls, 1e-4)
  assert_close(ours.tokens, tokens, 1e-4)
  assert_close(ours.hidden, hidden, 1e-4)
  assert ours.hidden_mask is None
  assert ours.grid == ours.hidden_grid == TinyViT().hidden_grid(image_hw) == tuple(theirs[-1].shape[2:])


@pytest.mark.torch
def test_parameters_are_timms_and_a_neck(timms):
  count = lambda tree: sum(a.size for a in jax.tree.leaves(tree))
  parameters = variables_of(timms.tree)["params"]
  assert count(parameters["neck"]) == NECK == 672_768 and count(parameters["inter_norm"]) == 640
  timm_count = sum(p.numel() for n, p in timms.model.named_parameters() if not n.startswith("head."))
  assert count(parameters) - NECK - 640 == timm_count == 5_071_124


@pytest.mark.torch
def test_timms_state_returns_unchanged(timms):
  back = to_torch(timms.tree, TINYVIT_NAMES.timm + TINYVIT_NAMES.extra, 16)
  expected = {n: a for n, a in timms.state.items() if a.dtype == np.float32 and not n.startswith("head.")}
  expected |= timms.extra
  assert back.keys() == expected.keys()
  for name, array in expected.items():
    np.testing.assert_array_equal(back[name], array, err_msg=name)
  assert {row.path for row in TINYVIT_NAMES.timm + TINYVIT_NAMES.extra} == shapes_of(TinyViT()).keys()


@pytest.mark.torch
def test_training_is_timms(timms):
  """The batch's statistics are used, and the running ones move as with PyTorch's momentum of 0.1."""
  model = timms.model.train()
  x = images(1, 6, 64, 48)
  try:
    with timms.torch.inference_mode():
      cls, _, _ = torch_features(timms, model.forward_features(timms.torch.tensor(x.transpose(0, 3, 1, 2))))
      moved = {n: t.numpy().copy() for n, t in model.state_dict().items() if "running" in n}
  finally:
    model.load_state_dict({n: timms.torch.tensor(a) for n, a in timms.state.items()})
    model.eval()
  variables = variables_of(timms.tree)
  ours, updates = jax.jit(lambda v, x: TinyViT().apply(v, x, ("cls",), mutable=["batch_stats"]))(variables, x)
  assert_close(ours.cls, cls, 1e-4)
  statistics = flatten(updates["batch_stats"])
  for row in TINYVIT_NAMES.timm:
    if not row.torch.endswith(("running_mean", "running_var")):
      continue
    old, new = timms.state[row.torch], moved[row.torch]
    assert np.abs(new - old).max() > 0.01
    # PyTorch stores n / (n - 1) times the variance that it divides by; the fewest cells are 6 * 4 * 3
    limit = 1e-4 if row.path.endswith("mean") else 1e-4 + 0.1 * np.abs(new - 0.9 * old).max() / 0.1 / 71
    np.testing.assert_allclose(statistics[row.path], new, rtol=0, atol=limit, err_msg=row.path)


def test_every_kind_of_views_has_statistics_of_its_own():
  dark, bright = images(2, 2, 2, 48, 32), 2 + images(3, 2, 2, 48, 32)
  variables = tiny_variables()
  encode = jax.jit(
    lambda v, *images: TINY().apply(
      v, [Views(x, ("cls",)) for x in images], method=TinyViT.encode, mutable=["batch_stats"]
    )
  )
  (first, second), together = encode(variables, dark, bright)
  (alone,), after_first = encode(variables, dark)
  (later,), after_both = encode(variables | after_first, bright)
  assert first.cls.shape == second.cls.shape == (4, 20)
  assert_close(first.cls, alone.cls, 1e-5)
  assert_close(second.cls, later.cls, 1e-5)
  jax.tree.map(lambda a, b: assert_close(a, b, 1e-5), together, after_both)


CHOICES = ((50, 70), (80, 33))


@pytest.mark.parametrize("filling", [0.0, 1e3, np.nan])
def test_padding_has_no_influence(filling):
  backbone, variables = TINY(), tiny_variables()
  canvas = np.full((2, 80, 70, 3), filling, np.float32)
  alone = [images(4 + i, 1, *hw) for i, hw in enumerate(CHOICES)]
  for i, (h, w) in enumerate(CHOICES):
    canvas[i, :h, :w] = alone[i]
  padded = evaluate(backbone, variables, canvas, PaddedSizes(CHOICES, jnp.arange(2)))
  assert padded.hidden_grid == (5, 5)
  for i, hw in enumerate(CHOICES):
    expected = evaluate(backbone, variables, alone[i])
    h, w = backbone.hidden_grid(hw)
    mask = np.zeros((5, 5), bool)
    mask[:h, :w] = True
    np.testing.assert_array_equal(padded.hidden_mask[i], [True, *mask.ravel()])
    assert_close(padded.cls[i], expected.cls[0], 1e-5)
    assert_close(padded.tokens[i][mask.ravel()], expected.tokens[0], 1e-5)
    assert_close(padded.hidden[i][padded.hidden_mask[i]], expected.hidden[0], 1e-5)


def test_padding_has_no_part_in_the_statistics_of_a_batch():
  backbone, variables = TINY(), tiny_variables()
  alone = images(7, 3, 50, 40)
  canvas = np.full((3, 64, 80, 3), 1e3, np.float32)
  canvas[:, :50, :40] = alone
  train = jax.jit(lambda x, padded: backbone.apply(variables, x, ("cls",), padded=padded, mutable=["batch_stats"]))
  expected, statistics = train(alone, None)
  features, padded_statistics = train(canvas, PaddedSizes(((50, 40),), jnp.zeros(3, jnp.int32)))
  assert_close(features.cls, expected.cls, 1e-4)
  jax.tree.map(lambda a, b: assert_close(a, b, 1e-5), padded_statistics, statistics)


def test_the_tapped_layer_alone_needs_no_neck():
  variables = tiny_variables()
  headless = variables | {"params": {n: p for n, p in variables["params"].items() if n != "neck"}}
  tapped = jax.eval_shape(lambda v, x: TINY().apply(v, x, ("hidden",)), headless, images(8, 2, 48, 32))
  assert tapped.cls is None and tapped.tokens is None and tapped.hidden.shape == (2, 1 + 6, 24)


def test_maps_are_those_of_the_stages_and_the_neck():
  maps = pyramid_laws.check_maps(TINY())
  pyramid_laws.check_stages_are_standardized(maps)
  assert [cells.shape[1] for cells in maps] == [24, 12, 6, 6]


def test_bfloat16_computes_the_same_roughly():
  x, variables = images(4, 1, *CHOICES[0]), tiny_variables()
  exact, rough = evaluate(TINY(), variables, x), evaluate(TINY(dtype=jnp.bfloat16), variables, x)
  for name in ("cls", "tokens", "hidden"):
    a, b = getattr(exact, name), getattr(rough, name)
    assert b.dtype == jnp.bfloat16
    assert np.abs(a - b.astype(jnp.float32)).mean() < 0.05 * np.abs(a).mean()
  train = lambda v, x: TINY(dtype=jnp.bfloat16).apply(v, x, mutable=["batch_stats"])[1]
  assert {a.dtype for a in jax.tree.leaves(jax.eval_shape(train, variables, x))} == {jnp.dtype("float32")}


def test_recomputing_changes_no_gradient():
  x = jnp.asarray(np.random.default_rng(10).standard_normal((2, 9, 7, 8), np.float32))
  parameters = tiny_variables()["params"]["stages_1"]
  statistics = tiny_variables()["batch_stats"]["stages_1"]

  def gradients(remat):
    def loss(p):
      stage = AttentionStage(width=12, depth=1, heads=2, window=3, stride=2, remat=remat)
      (y, _), updates = stage.apply({"params": p, "batch_stats": statistics}, x, None, mutable=["batch_stats"])
      return jnp.sum(y**3), updates

    return jax.jit(jax.grad(loss, has_aux=True))(parameters)

  expected = gradients("none")
  assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(expected))
  for remat in ("light", "full"):
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-5 * max(1, np.abs(b).max())), gradients(remat), expected)


@pytest.mark.parametrize("remat, recomputed", [("none", 0), ("light", 4), ("full", 4)])
def test_every_block_is_recomputed_if_asked(remat, recomputed):
  apply = lambda v, x: TINY(remat=remat).apply(v, x, mutable=["batch_stats"])
  names = [e.primitive.name for e in jax.make_jaxpr(apply)(tiny_variables(), images(12, 1, 32, 16)).eqns]
  assert names.count("remat2") == recomputed  # what `jax.checkpoint` is called in a trace


def test_initial_convolution_blocks_add_nothing():
  x = jnp.asarray(images(11, 1, 6, 4))
  variables = ConvBlock(3).init(jax.random.key(0), x, None)
  assert_close(ConvBlock(3).apply(variables, x, None), jax.nn.gelu(x, approximate=False), 1e-6)
  kernel = variables["params"]["conv2"]["conv"]["kernel"]  # uniform within 1 / sqrt(fan in)
  assert 0.9 < np.abs(kernel).max() * 3 <= 1
