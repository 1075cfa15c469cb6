"""The kernels of attention and of blocks compile for TPUs, devices compute their own rows, and their cost is read."""

import importlib.util
import os
import pathlib
import re
import runpy
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

from saip_jax.aot.compile import compile_lowered
from saip_jax.aot.topologies import describe_devices, find_topology
from saip_jax.backbones import build_backbone
from saip_jax.backbones.features import Views
from saip_jax.backbones.pallas_attention import attend_rows
from saip_jax.training.mesh import make_mesh

REPO = pathlib.Path(__file__).resolve().parents[2]
aot_only = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")


@pytest.fixture(scope="module")
def cost():
  return types.SimpleNamespace(**runpy.run_path(str(REPO / "scripts" / "kernel_cost.py")))


def compiled(topology, f, rows, *whole, fsdp=1):
  """The text of a function compiled for arrays split over the devices, and of others that every device has."""
  topology = find_topology(topology)
  mesh = make_mesh(describe_devices(topology), fsdp)
  place = lambda tree, spec: jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=NamedSharding(mesh, spec)), tree
  )

  def on_mesh(*arguments):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return f(*arguments)

  arguments = *place(rows, P(mesh.axis_names)), *place(whole, P())
  return compile_lowered(jax.jit(on_mesh).lower(*arguments), topology).as_text()


def collectives(text):
  return set(re.findall(r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", text))


@pytest.mark.aot
@pytest.mark.slow
@aot_only
@pytest.mark.parametrize("topology, fsdp", [("v5e-8", 1), ("v5e-8", 2), ("v6e-1", 1)])
def test_attention_of_every_device_is_its_own(topology, fsdp):
  x = jax.ShapeDtypeStruct((32, 129, 192), jnp.bfloat16)
  segments = tuple(i // 50 for i in range(129))

  def gradients(q, k, v):
    return jax.grad(lambda *qkv: jnp.sum(attend_rows(*qkv, 3, segments, segments).astype(jnp.float32)), (0, 1, 2))(
      q, k, v
    )

  text = compiled(topology, gradients, (x, x, x), fsdp=fsdp)
  assert text.count('custom_call_target="tpu_custom_call"') == 2 and not collectives(text)


@pytest.mark.aot
@pytest.mark.slow
@aot_only
@pytest.mark.parametrize("topology", ["v5e-8", "v6e-8"])
def test_an_encoder_of_kernels_compiles(topology):
  vit = build_backbone(
    "vit_tiny", image_hw=(128, 64), dtype=jnp.bfloat16, depth=3, tapped_block=1, attention="pallas", remat="light"
  )
  images = jax.ShapeDtypeStruct((16, 2, 128, 64, 3), jnp.float32)
  crops = jax.ShapeDtypeStruct((16, 7, 64, 32, 3), jnp.float32)
  params = jax.eval_shape(lambda x: vit.init(jax.random.key(0), x[:1, 0], ("cls", "hidden")), images)

  def loss(images, crops, params):
    views = [Views(images, frozenset({"cls", "hidden"})), Views(crops, frozenset({"cls"}))]
    features = vit.apply(params, views, method="encode")
    return sum(jnp.sum(a.astype(jnp.float32)) for a in (features[0].cls, features[0].hidden, features[1].cls))

  text = compiled(topology, jax.grad(loss, argnums=2), (images, crops), params)
  assert collectives(text) == {"all-reduce"}  # of the gradients
  kernels = text.count('custom_call_target="tpu_custom_call"')
  assert kernels == 2 * 2  # rows of 33 and of 7 x 9 tokens, forward and backward: no forward kernel runs twice


SCHEDULE = """\
     0   :  { %s1 = smov 0  ;;  %s2 = smov 1 }
   0x1 LB: > { %s2 = sadd.s32 1, %s3 }
   0x2   : > { %p1 = scmp.lt.s32.totalorder %s3, 17 }
   0x3 LB: >> { %v1 = vld [vmem:[%s4] sm:$0xff] }
   0x4   : >> { %v2 = vadd.f32 %v1, %v1  ;;  %v3 = vmul.f32 %v1, %v1 }
   0x5   : >> {}
   0x6   :  { %s9 = smov 0 }
"""


def test_bundles_are_counted_as_often_as_they_run(cost, tmp_path):
  (tmp_path / "17-jvp_attention_forward_.1-03-final_bundles.txt").write_text(SCHEDULE)
  (tmp_path / "17-jvp_attention_forward_.1-02-schedule-analysis_final_bundles.txt").write_text("Schedule analysis:\n")
  bundles = cost.bundles_of(tmp_path, "attention_forward")
  assert bundles == [2, 2, 3]
  assert cost.cycles_of(bundles, [16, 4]) == 2 + 16 * (2 + 4 * 3)
  with pytest.raises(FileNotFoundError, match="attention_backward"):
    cost.bundles_of(tmp_path, "attention_backward")
  with pytest.raises(ValueError, match="loops"):
    cost.cycles_of(bundles, [16])


def test_loops_are_those_of_the_traced_kernel(cost):
  x = jnp.zeros((64, 12, 32))
  traced = jax.make_jaxpr(jax.grad(lambda x: jnp.sum(attend_rows(x, x, x, 4))))(x)
  loops = cost.loops_of(traced.jaxpr)
  assert set(loops) == {"attention_forward", "attention_backward"}
  assert all(steps * (rest or [1])[0] * 2 == 64 for steps, *rest in loops.values())


@pytest.mark.aot
@pytest.mark.slow
@aot_only
def test_the_script_finds_the_schedules():
  environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPO), *filter(None, sys.path)])}
  command = [sys.executable, str(REPO / "scripts" / "kernel_cost.py"), "--chip=v6e", "--only=51 + 33", "--kernels"]
  lines = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()
  (numbers,) = (line.split()[-4:] for line in lines if "51 + 33" in line)
  forward, both = (int(numbers[i].replace(",", "")) for i in (1, 3))
  assert 100 < forward < both < 100_000
