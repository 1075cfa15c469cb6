"""Compiling for GPUs without one: memory, operations and traffic of programs of known size, and the command."""

import json

import jax
import jax.numpy as jnp
import pytest

from saip_jax import cli
from saip_jax.aot import topologies
from saip_jax.aot.breakdown import breakdown
from saip_jax.aot.chips import CHIPS
from saip_jax.aot.compile import OutOfMemory, compile_lowered
from saip_jax.aot.hlo import Program
from saip_jax.aot.products import product_flops
from saip_jax.aot.topologies import describe_devices, find_topology
from saip_jax.aot.traffic import measure_traffic
from saip_jax.backbones.block import Block
from saip_jax.backbones.packing import Packing
from saip_jax.backbones.stack import init_stack, run_stack

has_compiler = topologies._has_cuda_plugin() and topologies._has_ptxas()
skipped = pytest.mark.skipif(not has_compiler, reason="needs the CUDA plugin of JAX and ptxas")
needs_compiler = lambda test: pytest.mark.aot(pytest.mark.slow(skipped(test)))
_MIB = 2**20

# A product in bfloat16 by cuBLAS, with its scratch memory, and a convolution with both of its gradients by cuDNN.
CALLS = """\
HloModule step, is_scheduled=true

ENTRY %main (x: bf16[8,16], w: bf16[16,4], image: bf16[2,9,9,4], kernel: bf16[6,3,3,4], g: bf16[2,7,7,6]) -> bf16[8,4] {
  %x = bf16[8,16]{1,0} parameter(0)
  %w = bf16[16,4]{1,0} parameter(1)
  %image = bf16[2,9,9,4]{3,2,1,0} parameter(2)
  %kernel = bf16[6,3,3,4]{3,2,1,0} parameter(3)
  %g = bf16[2,7,7,6]{3,2,1,0} parameter(4)
  %product = (bf16[8,4]{1,0}, s8[4194304]{0}) custom-call(%x, %w), custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"],"lhs_batch_dimensions":[],"rhs_batch_dimensions":[]}}}
  %conv = (bf16[2,7,7,6]{3,2,1,0}, u8[0]{0}) custom-call(%image, %kernel), window={size=3x3}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %to_image = (bf16[2,9,9,4]{3,2,1,0}, u8[0]{0}) custom-call(%g, %kernel), window={size=3x3}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %to_kernel = (bf16[6,3,3,4]{3,2,1,0}, u8[0]{0}) custom-call(%image, %g), window={size=3x3}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
  ROOT %y = bf16[8,4]{1,0} get-tuple-element(%product), index=0
}
"""  # noqa: E501


def test_calls_of_libraries_are_counted_without_their_scratch_memory():
  program = Program(CALLS)
  flops = [product_flops(visit.instruction, visit.computation) for visit in program.walk()]
  assert [count for count in flops if count] == [2 * 8 * 4 * 16] + 3 * [2 * 2 * 7 * 7 * 6 * 3 * 3 * 4]
  convolution = (2 * 9 * 9 * 4 + 6 * 3 * 3 * 4 + 2 * 7 * 7 * 6) * 2
  assert measure_traffic(program).hbm_bytes == (8 * 16 + 16 * 4 + 8 * 4) * 2 + 3 * convolution


def test_without_estimates_the_cycles_are_the_least_possible():
  rows = breakdown(CALLS, CHIPS["h100"])
  moved = sum(row.hbm_bytes for row in rows)
  assert sum(row.cycles for row in rows) == pytest.approx(moved / 3350e9 * 1.83e9)  # all of these wait for memory
  assert {row.kind for row in rows} == {"products"}


def test_gpus_have_the_peaks_of_their_data_sheets():
  tensor_flops_per_clock = {"h100": 4096, "h200": 4096, "a100": 2048, "a100_80gb": 2048, "l4": 1024}
  for name, per_clock in tensor_flops_per_clock.items():
    chip = CHIPS[name]
    assert chip.target.multiprocessors * per_clock * chip.ghz / 1e3 == pytest.approx(chip.bf16_tflops, rel=0.01)


def test_several_gpus_are_those_of_one_machine():
  assert find_topology("h100").chips == 1 and find_topology("a100-8").shape == "1x1x8"
  with pytest.raises(ValueError, match="h100-16.*h100-8"):
    find_topology("h100-16")


def test_without_the_compiler_the_error_names_the_extra(toy_config, capsys, monkeypatch):
  monkeypatch.setattr(topologies, "_has_cuda_plugin", lambda: False)
  assert cli.main(["compile", toy_config, "--topology=h100"]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and 'pip install "saip-jax[cuda-compile]"' in error


@pytest.fixture(scope="module")
def h100():
  topology = find_topology("h100")
  return topology, jax.sharding.SingleDeviceSharding(describe_devices(topology)[0])


def _compile(h100, function, *shapes, dtype=jnp.bfloat16):
  """Returns the compiled function, its program, and its operations."""
  topology, sharding = h100
  arguments = [jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for shape in shapes]
  compiled = compile_lowered(jax.jit(function).lower(*arguments), topology)
  program = Program(compiled.as_text())
  counts = [
    visit.times * product_flops(*member)
    for visit in program.walk()
    for member in program.inside(visit.instruction, visit.computation)
  ]
  return compiled.memory_analysis(), program, sum(counts)


@needs_compiler
@pytest.mark.parametrize(
  "function, shapes, flops, traffic",
  [
    (lambda x: jnp.tanh(x) * 2 + x, [(1024, 1024)], 0, 4),  # MiB: read, written
    (lambda x: x.T + 1, [(1024, 1024)], 0, 4),
    (lambda x, w: x @ w, [(1024, 2048), (2048, 512)], 2 * 1024 * 2048 * 512, 4 + 2 + 1),
    (lambda a, b: jnp.einsum("bqd,bkd->bqk", a, b), [(8, 512, 128), (8, 512, 128)], 2 * 8 * 512**2 * 128, 1 + 1 + 4),
  ],
)
def test_programs_of_known_size(h100, function, shapes, flops, traffic):
  memory, program, counted = _compile(h100, function, *shapes)
  outputs = jax.eval_shape(function, *(jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes))
  assert memory.argument_size_in_bytes == sum(2 * jnp.prod(jnp.array(shape)) for shape in shapes)
  assert memory.output_size_in_bytes == outputs.size * outputs.dtype.itemsize
  assert counted == flops
  assert measure_traffic(program).hbm_bytes == traffic * _MIB


@needs_compiler
def test_a_loop_moves_its_slices_as_often_as_it_runs(h100):
  layers = lambda x, ws: jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), x), x, ws)
  memory, program, flops = _compile(h100, layers, (512, 1024), (7, 1024, 1024))
  assert memory.argument_size_in_bytes == (1 + 14) * _MIB
  assert flops == 7 * 2 * 512 * 1024 * 1024
  layer = (2 + 2) + (1 + 2 + 1) + (1 + 1) + (1 + 1)  # MiB: slice, product, tanh, save
  start = (1 + 1) + 7  # a copy of x, and the zeros that the saved values replace
  assert measure_traffic(program).hbm_bytes == pytest.approx((7 * layer + start) * _MIB, rel=1e-4)


@needs_compiler
def test_a_convolution_has_the_operations_of_its_gradients(h100):
  convolve = lambda x, w: jax.lax.conv_general_dilated(
    x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  loss = lambda x, w: jnp.sum(convolve(x, w).astype(jnp.float32) ** 2)
  _, _, flops = _compile(h100, jax.grad(loss, argnums=(0, 1)), (16, 16, 16, 128), (3, 3, 128, 64))
  assert flops == 3 * 2 * 16 * 14 * 14 * 64 * 3 * 3 * 128


@needs_compiler
def test_blocks_of_any_length_compile_without_a_flag(h100):
  block = Block(96, 3, jnp.bfloat16, parent=None)
  packing = Packing(((2, 33), (1, 13)))
  shapes = jax.eval_shape(lambda key: init_stack(key, block, 2), jax.random.key(0))
  topology, sharding = h100
  placed = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), shapes)
  parts = [
    jax.ShapeDtypeStruct((16 * sequences, tokens, 96), jnp.bfloat16, sharding=sharding)
    for sequences, tokens in packing.groups
  ]

  def loss(params, parts):
    rows = run_stack(block, params, packing.join(parts), packing, remat="light")
    return sum(jnp.sum(row.astype(jnp.float32)) for row in rows)

  step = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(placed, parts)
  assert compile_lowered(step, topology).memory_analysis().temp_size_in_bytes > 0


@needs_compiler
def test_what_does_not_fit_is_out_of_memory(h100):
  with pytest.raises(OutOfMemory, match="of 60.00 GiB"):
    _compile(h100, lambda x: x @ x, (2**18, 2**18))


@needs_compiler
def test_the_step_is_compiled_for_gpus_that_are_not_there(toy_config, capsys):
  command = ["compile", toy_config, "--topology=h100-8", "--batch=64", "--breakdown"]
  assert cli.main([*command, "--json"]) == 0
  facts = json.loads(capsys.readouterr().out)
  assert facts["fits"] and facts["images_per_chip"] == 8 and facts["chips"] == 8
  assert set(facts["collectives"]) == {"all-reduce"}
  assert 0 < facts["hbm"]["state"] <= facts["hbm"]["arguments"] <= facts["hbm"]["total"] < facts["hbm"]["limit"]
  assert facts["roofline"]["network_s"] > 0 and facts["compiler_step_s"] is None
  assert sum(row["hbm_bytes"] for row in facts["breakdown"]) == facts["hbm_bytes_per_chip"]
  assert cli.main(command) == 0
  assert "million cycles" in capsys.readouterr().out
  assert cli.main(["compile", toy_config, "--topology=l4", f"--batch={2**30}"]) == 1
  assert "of 18.00 GiB" in capsys.readouterr().out
