"""Where the state lies: one rule, that changes no result."""

import pathlib
import re

import jax
import numpy as np
import pytest

from saip_jax.backbones import BACKBONES
from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, load_recipe, parse_config
from saip_jax.training.mesh import (
  batch_sharding,
  lower_step,
  make_mesh,
  on_one_device,
  options_of_one_run,
  place_state,
  shardings_of,
)
from saip_jax.training.metrics import read_metrics
from saip_jax.training.optimizer import make_optimizer
from saip_jax.training.step import init_state, make_train_step
from tests.support.kill_and_resume import final_state
from tests.support.toy_method import Toy, toy_config, train_toy

_RECIPE = pathlib.Path(__file__).resolve().parents[2] / "configs" / "saip_vit_tiny.py"
_WIDE = ("method.width=4096", "batch_size=16")  # kernels of 98,304 elements, the smallest that are cut


def _bytes_per_device(placed):
  size = lambda a: np.prod(a.sharding.shard_shape(a.shape), dtype=np.int64) * a.dtype.itemsize
  return sum(size(a) for a in jax.tree.leaves(placed))


def _places(placed):
  leaves = jax.tree_util.tree_leaves_with_path(placed)
  return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name.startswith("vit")])
@pytest.mark.parametrize("fsdp", [2, 8])
def test_every_device_holds_its_share_of_every_vit(backbone, fsdp):
  settings = [f"--config.model.backbone={backbone}", "--config.data.path=anywhere"]
  config = parse_config(apply_overrides(load_recipe(_RECIPE), settings))
  method = METHODS["saip"].build(config)
  tx, _ = make_optimizer(config.optimizer, config.total_steps, method.param_groups())
  shapes = jax.eval_shape(lambda: init_state(method, tx, 0))
  placed = place_state(make_mesh(jax.devices()[:8], fsdp), shapes)
  share = _bytes_per_device(placed) / _bytes_per_device(place_state(make_mesh(jax.devices()[:8]), shapes))
  assert 1 / fsdp <= share < 1.05 / fsdp

  places = _places(placed)
  for name, array in places.items():
    if "/blocks/" in name:  # a scan walks along the first axis
      assert array.sharding.shard_shape(array.shape)[0] == array.shape[0], name
    for other in ("method_state/teacher/", "opt_state/1/mu/", "opt_state/1/nu/"):
      if name.startswith("params/"):
        assert places[name.replace("params/", other)].sharding == array.sharding
  assert places["params/csm/prototypes"].sharding.spec == jax.P(None, "fsdp")


def test_the_devices_must_divide():
  with pytest.raises(ValueError, match="config.fsdp is 3: it must divide the number of devices, which is 8"):
    make_mesh(jax.devices()[:8], 3)
  assert dict(make_mesh(jax.devices()[:8]).shape) == {"data": 8}
  mesh = make_mesh(jax.devices()[:8], 4)
  assert dict(mesh.shape) == {"data": 2, "fsdp": 4}
  assert batch_sharding(mesh).shard_shape((16, 3)) == (2, 3)  # the batch is cut over both


def test_sharing_the_state_changes_no_result(tmp_path):
  """Single process on purpose: gloo's reduce-scatter is known to be wrong for large arrays."""
  for fsdp in (1, 2, 4, 8):
    train_toy(tmp_path / str(fsdp), *_WIDE, f"fsdp={fsdp}", "panel_every=3", devices=8)
  losses = {n: [r["loss/total"] for r in read_metrics(tmp_path / n / "metrics.jsonl")] for n in "1248"}
  whole = final_state(tmp_path / "1")
  for n in "248":
    np.testing.assert_allclose(losses[n], losses["1"], rtol=1e-5)
    for name, array in final_state(tmp_path / n).items():
      np.testing.assert_allclose(array, whole[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert len(list((tmp_path / n / "panels").iterdir())) == 2


@pytest.mark.parametrize("fsdp", [1, 4])
def test_weights_are_gathered_and_activations_are_not(fsdp):
  config = toy_config(*_WIDE)
  method = Toy.build(config)
  tx, schedule = make_optimizer(config.optimizer, 6, method.param_groups())
  mesh = make_mesh(jax.devices()[:8], fsdp)
  state = place_state(mesh, jax.eval_shape(lambda: init_state(method, tx, 0)))
  spec = method.batch_spec(64)  # activations of 64 x 4,096
  compiled = lower_step(mesh, make_train_step(method, tx, schedule, 1, 0), state, spec).compile()
  gathers = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather", compiled.as_text())
  assert sorted(gathers) == ([] if fsdp == 1 else ["24,4096"] * 2)  # student and teacher


def test_a_run_goes_on_with_another_sharing(tmp_path):
  for fsdp, devices, total in ((8, 8, 3), (1, 2, 6), (2, 4, 9)):
    train_toy(tmp_path / "run", *_WIDE, f"fsdp={fsdp}", f"total_steps={total}", devices=devices)
  assert [r["step"] for r in read_metrics(tmp_path / "run" / "metrics.jsonl")] == list(range(1, 10))


def test_initial_weights_are_the_same_bits():
  config = toy_config(*_WIDE)
  tx, _ = make_optimizer(config.optimizer, 6, Toy.build(config).param_groups())
  create = lambda: init_state(Toy.build(config), tx, 0)
  mesh = make_mesh(jax.devices()[:8], 8)
  placed = place_state(mesh, jax.eval_shape(create))
  shared = jax.jit(create, out_shardings=shardings_of(placed))()
  kernel = shared.params["linear"]["kernel"]
  assert {shard.data.shape for shard in kernel.addressable_shards} == {(24, 512)}
  gathered = on_one_device(mesh, shared)
  assert gathered.params["linear"]["kernel"].devices() <= set(jax.devices()[:8])
  whole = jax.jit(create)()
  assert jax.tree.all(jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), gathered, whole))


def test_a_program_compiled_for_one_run_computes_the_same():
  make = lambda key: jax.nn.initializers.xavier_uniform()(key, (64, 32)) @ jax.random.normal(key, (32, 8))
  once = jax.jit(make, compiler_options=options_of_one_run(jax.default_backend()))
  np.testing.assert_allclose(once(jax.random.key(3)), jax.jit(make)(jax.random.key(3)), rtol=1e-5, atol=1e-6)
  assert options_of_one_run("tpu") == {}  # other compilers refuse the names
