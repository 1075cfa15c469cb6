"""Compiling for TPUs without one: counts of a program, its roofline, and the messages of failures."""

import importlib.util
import json

import jax
import pytest

from saip_jax import cli
from saip_jax.aot import compile as aot
from saip_jax.aot.chips import CHIPS
from saip_jax.aot.hlo import Program, shape_bytes
from saip_jax.aot.roofline import roofline
from saip_jax.aot.topologies import find_topology
from saip_jax.aot.traffic import measure_traffic
from saip_jax.methods import METHODS
from saip_jax.recipes import apply_overrides, parse_config
from tests.support.toy_method import toy_recipe

has_libtpu = importlib.util.find_spec("libtpu") is not None
aot_only = pytest.mark.skipif(not has_libtpu, reason="needs libtpu")

# A loop of seven that slices stacked weights, multiplies and reduces over devices; then one gather, one on-chip copy.
PROGRAM = """\
HloModule step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %add = f32[]{:T(128)} add(%a, %b)
}

%fused (stack: f32[7,10,10], i: s32[], x: f32[4,10]) -> f32[4,10] {
  %stack = f32[7,10,10]{2,1,0:T(8,128)} parameter(0)
  %i = s32[]{:T(128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %slice = f32[1,10,10]{2,1,0:T(8,128)} dynamic-slice(%stack, %i, %zero, %zero), dynamic_slice_sizes={1,10,10}
  %w = f32[10,10]{1,0:T(8,128)} bitcast(%slice)
  %x = f32[4,10]{1,0:T(8,128)} parameter(2)
  ROOT %y = f32[4,10]{1,0:T(8,128)} convolution(%x, %w), dim_labels=bf_io->bf
}

%keep (stack: f32[7,4,10], y: f32[4,10], i: s32[]) -> f32[7,4,10] {
  %stack = f32[7,4,10]{2,1,0:T(8,128)} parameter(0)
  %y = f32[4,10]{1,0:T(8,128)} parameter(1)
  %i = s32[]{:T(128)} parameter(2)
  %zero = s32[]{:T(128)} constant(0)
  %row = f32[1,4,10]{2,1,0:T(8,128)} bitcast(%y)
  ROOT %all = f32[7,4,10]{2,1,0:T(8,128)} dynamic-update-slice(%stack, %row, %i, %zero, %zero)
}

%body (p: (s32[], f32[4,10], f32[7,10,10], f32[7,4,10])) -> (s32[], f32[4,10], f32[7,10,10], f32[7,4,10]) {
  %p = (s32[]{:T(128)}, f32[4,10]{1,0}, f32[7,10,10]{2,1,0}, /*index=3*/f32[7,4,10]{2,1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[4,10]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %stack = f32[7,10,10]{2,1,0:T(8,128)} get-tuple-element(%p), index=2
  %kept = f32[7,4,10]{2,1,0:T(8,128)} get-tuple-element(%p), index=3
  %y = f32[4,10]{1,0:T(8,128)} fusion(%stack, %i, %x), calls=%fused, backend_config={"estimated_cycles":"5"}
  %saved = f32[7,4,10]{2,1,0:T(8,128)} fusion(%kept, %y, %i), kind=kLoop, calls=%keep
  %reduced = f32[4,10]{1,0:T(8,128)} all-reduce(%y), replica_groups={{0,1}}, to_apply=%sum, metadata={op_name="here"}
  %one = s32[]{:T(128)} constant(1)
  ROOT %next = (s32[], f32[4,10], f32[7,10,10], f32[7,4,10]) tuple(%i, %reduced, %stack, %saved)
}

%condition (p: (s32[], f32[4,10], f32[7,10,10], f32[7,4,10])) -> pred[] {
  %p = (s32[]{:T(128)}, f32[4,10]{1,0}, f32[7,10,10]{2,1,0}, f32[7,4,10]{2,1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %bound = s32[]{:T(128)} constant(7)
  ROOT %less = pred[]{:T(512)} compare(%i, %bound), direction=LT
}

ENTRY %main (x: f32[4,10], stack: f32[7,10,10], kept: f32[7,4,10]) -> f32[8,10] {
  %x = f32[4,10]{1,0:T(8,128)} parameter(0)
  %stack = f32[7,10,10]{2,1,0:T(8,128)} parameter(1)
  %kept = f32[7,4,10]{2,1,0:T(8,128)} parameter(2)
  %start = s32[]{:T(128)} constant(0)
  %tuple = (s32[], f32[4,10], f32[7,10,10], f32[7,4,10]) tuple(%start, %x, %stack, %kept)
  %loop = (s32[], f32[4,10], f32[7,10,10], f32[7,4,10]) while(%tuple), condition=%condition, body=%body
  %y = f32[4,10]{1,0:T(8,128)} get-tuple-element(%loop), index=1
  %fast = f32[4,10]{1,0:T(8,128)S(1)} copy(%y), backend_config={"estimated_cycles":"11"}
  ROOT %whole = f32[8,10]{1,0:T(8,128)} all-gather(%fast), dimensions={0}, replica_groups={{0,1}}
}
"""


def test_shapes_are_measured_in_bytes():
  assert shape_bytes("f32[4,10]{1,0:T(8,128)}") == 160
  assert shape_bytes("(bf16[8]{0}, /*index=1*/s32[], pred[3], s4[4])") == 16 + 4 + 3 + 2
  assert shape_bytes("f32[4]{0:T(128)S(1)}") == 16
  assert shape_bytes("f32[4]{0:T(128)S(1)}", hbm_only=True) == 0


def test_a_loop_counts_as_often_as_it_runs_and_a_slice_as_a_slice():
  traffic = measure_traffic(Program(PROGRAM))
  product = 400 + 4 + 160 + 160  # one layer's weights, the counter, input, output
  saved = 160 + 160 + 4  # the new row in and out, and not the seven
  reduced = 160 + 160
  assert traffic.hbm_bytes == 7 * (product + saved + reduced) + 160 + 320  # then: read by the copy, written by gather
  assert traffic.collectives == {"all-reduce": (7, 7 * 160), "all-gather": (1, 320)}
  assert traffic.largest["all-reduce"][::2] == (160, "here")
  assert traffic.cycles == 7 * 5 + 11


def test_text_without_a_program_is_refused():
  with pytest.raises(ValueError, match="no ENTRY"):
    Program("HloModule nothing")


def test_what_takes_longest_binds():
  chip = CHIPS["v5e"]
  times = roofline(chip, 197e12, 819e6, {"all-reduce": (3, 10**9), "all-gather": (1, 10**9)})
  assert times.compute_s == pytest.approx(1.0) and times.memory_s == pytest.approx(1e-3)
  assert times.network_s == pytest.approx((2 + 1) / 200)
  assert times.bound == "compute" and times.step_s == times.compute_s
  assert roofline(chip, 1e9, 819e9, {}).bound == "memory"
  assert roofline(chip, 1e9, 1e6, {"all-reduce": (1, 10**9)}).bound == "network"


@pytest.mark.parametrize("name, shape, chips", [("v5e-8", "2x4", 8), ("v5e-256", "16x16", 256), ("v4-64", "2x4x4", 32)])
def test_names_are_those_of_the_cloud(name, shape, chips):
  topology = find_topology(name)
  assert (topology.shape, topology.chips) == (shape, chips)


@pytest.mark.parametrize(
  "message, needed, limit",
  [
    (
      "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 21.50G of 15.75G hbm. Exceeded by 5.75G.",
      21.5,
      15.75,
    ),
    (
      "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (512.00G) exceeds"
      " available HBM (15.75G).",
      512,
      15.75,
    ),
  ],
)
def test_the_compilers_words_about_memory_are_understood(message, needed, limit):
  error = aot.read_out_of_memory(message, find_topology("v5e-8"))
  assert str(error) == f"out of memory: needs {needed:.2f} of {limit:.2f} GiB per chip"
  assert aot.read_out_of_memory("INTERNAL: something else", find_topology("v5e-8")) is None


@pytest.mark.parametrize("first", [64, 512, 4096])
@pytest.mark.parametrize("bend", [0, 1e-4])
def test_the_largest_batch_is_found_in_few_compiles(first, bend):
  needs = lambda batch: int(1000 + 10 * batch + bend * batch**2)
  best = max(b for b in range(64, 8192, 64) if needs(b) <= 16_000)
  found, tried = aot.largest_batch(needs, (first, needs(first)), 1000, 16_000, 64)
  assert found == best or (bend and best - found <= 64)
  assert len(tried) <= 6 and tried[found] <= 16_000


def test_no_batch_fits_a_state_too_large():
  found, _ = aot.largest_batch(lambda b: 17_000 + b, (64, 17_064), 17_000, 16_000, 64)
  assert found is None


def test_errors_are_one_line(toy_config, capsys):
  assert cli.main(["compile", toy_config, "--topology=v9-8"]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "v9-8" in error and "v5e-256" in error
  assert cli.main(["compile", toy_config, "--topology=v5e-8", "--nonsense=1"]) == 2
  assert "--nonsense=1" in capsys.readouterr().err


@pytest.mark.skipif(has_libtpu, reason="libtpu is installed")
def test_without_libtpu_the_error_names_that_of_the_installed_jax(toy_config, capsys):
  assert cli.main(["compile", toy_config, "--topology=v5e-8"]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and f'pip install "jax[tpu]=={jax.__version__}"' in error


@pytest.mark.aot
@aot_only
def test_the_step_is_compiled_for_a_pod_that_is_not_there(toy_config, capsys):
  assert cli.main(["compile", toy_config, "--topology=v5e-8", "--batch=64", "--json"]) == 0
  facts = json.loads(capsys.readouterr().out)
  assert facts["fits"] and facts["images_per_chip"] == 8 and facts["chips"] == 8
  assert set(facts["collectives"]) == {"all-reduce"}
  assert 0 < facts["hbm"]["state"] <= facts["hbm"]["arguments"] <= facts["hbm"]["total"] < facts["hbm"]["limit"]
  assert facts["flops_per_chip"] > 0 and 0 < facts["mfu"] < 1
  assert cli.main(["compile", toy_config, "--topology=v5e-8", "--batch=65"]) == 2
  assert "multiple of 8" in capsys.readouterr().err


@pytest.mark.aot
@aot_only
def test_the_breakdown_adds_up_to_the_step(toy_config, capsys):
  command = ["compile", toy_config, "--topology=v5e-1", "--batch=64", "--breakdown"]
  assert cli.main([*command, "--json"]) == 0
  facts = json.loads(capsys.readouterr().out)
  rows, chip = facts["breakdown"], CHIPS["v5e"]
  total = lambda key: sum(row[key] for row in rows)
  assert total("cycles") / (chip.ghz * 1e9) == pytest.approx(facts["compiler_step_s"])
  assert total("hbm_bytes") == facts["hbm_bytes_per_chip"]
  assert {"views", "update", "losses, forward"} <= {row["part"] for row in rows}
  products = sum(row["ideal_cycles"] for row in rows if row["kind"] == "products")
  assert products > 0 and total("ideal_cycles") <= facts["flops_executed_per_chip"] / (
    chip.bf16_tflops * 1e3 / chip.ghz
  )
  assert cli.main(command) == 0
  assert "million cycles" in capsys.readouterr().out


@pytest.mark.aot
@aot_only
def test_a_batch_too_large_is_a_result(toy_config, capsys):
  assert cli.main(["compile", toy_config, "--topology=v5e-1", f"--batch={2**30}"]) == 1
  captured = capsys.readouterr()
  assert "out of memory: needs" in captured.out and "of 15.75 GiB" in captured.out
  assert "largest batch" in captured.out and captured.err.count("Traceback") == 0


def test_operations_are_counted_per_update(toy_config):
  config = lambda settings: parse_config(apply_overrides(toy_recipe(), settings))
  count = lambda *settings: aot.count_flops(config(settings), METHODS["toy"].build)
  once, twice = count("--config.batch_size=16"), count("--config.batch_size=16", "--config.accumulate=2")
  assert twice == pytest.approx(once, rel=0.2)
