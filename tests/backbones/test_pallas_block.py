"""Whole blocks as kernels, interpreted on CPU, against the same blocks by XLA; who uses them, and who may not."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

from saip_jax.aot.compile import count_flops, lower_run
from saip_jax.backbones import block as block_module, build_backbone, pallas_attention
from saip_jax.backbones.block import Block
from saip_jax.backbones.features import PaddedSizes, Views
from saip_jax.backbones.pallas_attention import attend_rows
from saip_jax.backbones.pallas_block import block_rows
from saip_jax.heads.cross_block import CrossBlock
from saip_jax.training.mesh import make_mesh
from tests.support.tiny_saip import tiny

interpreted = functools.partial(block_rows, interpret=True)


@pytest.fixture
def interpreter(monkeypatch):
  """Kernels run on CPU."""
  monkeypatch.setattr(block_module, "block_rows", interpreted)
  monkeypatch.setattr(pallas_attention, "attend_rows", functools.partial(attend_rows, interpret=True))


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def trained(init, *arguments):
  """Parameters that look trained: biases and scales are random too."""
  shapes = jax.eval_shape(init, jax.random.key(0), *arguments)
  leaves, structure = jax.tree.flatten(shapes)
  scale = lambda a: 0.2 if a.ndim < 2 else (2 / a.shape[-2]) ** 0.5
  return structure.unflatten([scale(a) * normal(i, *a.shape) + 0.5 * (a.ndim < 2) for i, a in enumerate(leaves)])


def assert_close(ours, theirs, share=1e-5):
  """Every array agrees to a share of its largest value."""
  for path, a in jax.tree_util.tree_leaves_with_path(theirs):
    b = functools.reduce(lambda tree, key: tree[getattr(key, "key", getattr(key, "idx", None))], path, ours)
    np.testing.assert_allclose(b, a, atol=share * np.abs(np.asarray(a)).max(), rtol=0, err_msg=str(path))


def block_and_gradients(f, params, x, gradient):
  out, pull = jax.vjp(jax.jit(f), params, x)
  return [out, *pull(gradient)]


@pytest.mark.parametrize(
  "length, width, heads, sequences", [(129, 96, 3, 1), (35, 64, 2, 5)], ids=["an image", "five in a row"]
)
def test_a_block_and_its_gradients_are_those_of_xla(length, width, heads, sequences):
  x, gradient, block = normal(1, 3, length, width), normal(2, 3, length, width), Block(width, heads)
  params = trained(block.init, x)["params"]
  lengths, segments = (length // sequences,) * sequences, np.repeat(np.arange(sequences), length // sequences)
  theirs = block_and_gradients(lambda p, x: block.apply({"params": p}, x, lengths=lengths), params, x, gradient)
  kernel = lambda p, x: interpreted(p, x, heads, segments if sequences > 1 else None)
  assert_close(block_and_gradients(kernel, params, x, gradient), theirs)


def test_bfloat16_is_as_near_to_float32_as_xla():
  x, gradient, block = normal(1, 2, 17, 64), normal(2, 2, 17, 64), Block(64, 2)
  params = trained(block.init, x)["params"]
  half = lambda a: a.astype(jnp.bfloat16)
  plain = lambda dtype: lambda p, x: block.clone(dtype=dtype).apply({"params": p}, x)
  exact = block_and_gradients(plain(jnp.float32), params, half(x).astype(np.float32), half(gradient).astype(np.float32))
  theirs = block_and_gradients(plain(jnp.bfloat16), params, half(x), half(gradient))
  ours = block_and_gradients(lambda p, x: interpreted(p, x, 2), params, half(x), half(gradient))
  error = lambda a, b: np.linalg.norm(np.asarray(a, np.float32) - b) / np.linalg.norm(b)
  for mine, xla, true in zip(*map(jax.tree.leaves, (ours, theirs, exact))):
    assert error(mine, true) < max(1.2 * error(xla, true), 1e-2)


VIT = build_backbone("vit_nano", image_hw=(64, 32), remat="light")


def loss_of(vit, params, images, crops, sizes=None):
  views = [Views(images, frozenset({"cls", "hidden"}), padded=sizes), Views(crops, frozenset({"cls"}))]
  features = vit.apply(params, views, method="encode")
  seen = [features[0].hidden * (1 if sizes is None else features[0].hidden_mask[..., None])]
  return sum(jnp.sum(jnp.sin(a)) for a in [features[0].cls, features[1].cls, *seen])


@pytest.mark.parametrize("variant", ["plain", "padded", "rope"])
def test_an_encoder_of_kernels_is_the_encoder(interpreter, variant):
  vit = VIT.clone(rope=variant == "rope")
  images, crops = normal(0, 2, 2, 64, 32, 3), normal(1, 2, 3, 32, 32, 3)
  params = trained(lambda key: vit.init(key, images[:, 0], ("cls", "hidden")))
  sizes = PaddedSizes(((64, 32), (40, 24)), jnp.asarray([0, 1, 1, 0])) if variant == "padded" else None
  both = [
    jax.jit(jax.value_and_grad(functools.partial(loss_of, vit.clone(attention=kind))))(params, images, crops, sizes)
    for kind in ("pallas", "xla")
  ]
  assert_close(*both, share=3e-5)


def test_gradients_of_weights_add_up_over_devices(interpreter):
  vit, mesh = VIT.clone(attention="pallas", depth=2, tapped_block=0), make_mesh(jax.devices()[:8])
  images, crops = normal(0, 8, 1, 16, 16, 3), normal(1, 8, 3, 16, 16, 3)
  params = trained(lambda key: vit.init(key, images[:, 0], ("cls", "hidden")))

  def on_mesh(params, images, crops):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return jax.value_and_grad(functools.partial(loss_of, vit))(params, images, crops)

  split = functools.partial(jax.device_put, device=NamedSharding(mesh, P("data")))
  compiled = jax.jit(on_mesh).lower(params, split(images), split(crops)).compile()
  assert "all-gather" not in compiled.as_text()
  alone = jax.jit(jax.value_and_grad(functools.partial(loss_of, vit)))(params, images, crops)
  assert_close(compiled(params, split(images), split(crops)), alone, share=3e-5)


def test_cross_attention(interpreter):
  x, memory = normal(0, 2, 9, 32), normal(1, 2, 6, 32)
  ours, theirs = CrossBlock(32, 4, attention="pallas"), CrossBlock(32, 4)
  params = trained(theirs.init, x, memory)
  assert_close(jax.jit(ours.apply)(params, x, memory), jax.jit(theirs.apply)(params, x, memory))


def kernels_of(jaxpr):
  """Names of the kernels of a traced program."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "pallas_call":
      yield eqn.params["name"]
    else:
      for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
        inside = getattr(value, "jaxpr", value)
        if hasattr(inside, "eqns"):
          yield from kernels_of(inside)


def traced_kernels(*settings):
  config, method = tiny(*settings)
  params, state = jax.eval_shape(method.init, jax.random.key(0))
  batch = method.batch_spec(config.batch_size)
  loss = lambda params: method.loss(params, zeros(state), zeros(batch), jax.random.key(0), jnp.int32(0))[0]
  return list(kernels_of(jax.make_jaxpr(jax.grad(loss))(zeros(params)).jaxpr))


def zeros(tree):
  return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), tree)


def test_the_setting_reaches_encoder_and_decoders():
  assert not traced_kernels()
  names = traced_kernels('model.attention="pallas"')
  assert {"block_forward", "block_backward"} == set(names)
  assert names.count("block_forward") > 4  # student, teacher and two decoders, rows of each length


def test_operations_are_counted_without_a_tpu():
  counted = []
  for kind in ("xla", "pallas"):
    config, method = tiny(f'model.attention="{kind}"')
    build = lambda config, **options: dataclasses.replace(method, backbone=method.backbone.clone(**options))
    counted.append(count_flops(config, build))
  assert counted[0] == counted[1] > 0


def test_other_devices_and_networks_are_refused():
  config, method = tiny('model.attention="pallas"')
  with pytest.raises(ValueError, match="config.model.attention.*'cpu'"):
    lower_run(config, lambda config: method, jax.devices()[:1])
  with pytest.raises(ValueError, match="config.model.attention.*swin_tiny"):
    tiny('model.attention="pallas"', 'model.backbone="swin_tiny"')
