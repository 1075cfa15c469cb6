"""The breakdown of a step: products against XLA's own counts; parts, kinds and loops of a program of known costs."""

import jax
import jax.numpy as jnp
import pytest

from saip_jax.aot.breakdown import breakdown, parse_place
from saip_jax.aot.breakdown_table import breakdown_table
from saip_jax.aot.chips import CHIPS
from saip_jax.aot.hlo import Program
from saip_jax.aot.products import product_flops
from saip_jax.aot.traffic import measure_traffic

# A scan of three that loads a kernel, multiplies by it, normalizes and saves; an update; a copy without a name.
PROGRAM = """\
HloModule step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%products (x: f32[4,8], w: f32[8,8]) -> f32[4,8] {
  %x = f32[4,8] parameter(0)
  %w = f32[8,8] parameter(1)
  %y = f32[4,8] convolution(%x, %w), dim_labels=bf_io->bf, metadata={op_name="jit(step)/jvp(student)/ViT.encode/while/body/closed_call/block/fc1/dot_general"}
  ROOT %z = f32[4,8] negate(%y), metadata={op_name="jit(step)/jvp(student)/ViT.encode/while/body/closed_call/block/norm1/neg"}
}

%attention (q: f32[2,4,8], k: f32[2,4,8]) -> f32[2,4,4] {
  %q = f32[2,4,8] parameter(0)
  %k = f32[2,4,8] parameter(1)
  ROOT %s = f32[2,4,4] convolution(%q, %k), window={size=2 stride=1 lhs_dilate=2}, dim_labels=0bf_0oi->0bf, metadata={op_name="jit(step)/transpose(jvp(student))/ViT.encode/block/attention/bqd,bkd->bqk/dot_general"}
}

%normalize (x: f32[4,8]) -> f32[4,8] {
  %x = f32[4,8] parameter(0)
  ROOT %n = f32[4,8] multiply(%x, %x), metadata={op_name="jit(step)/jvp(student)/ViT.encode/while/body/closed_call/block/block._finish/norm2/mul"}
}

%save (all: f32[3,4,8], x: f32[4,8], i: s32[]) -> f32[3,4,8] {
  %all = f32[3,4,8] parameter(0)
  %x = f32[4,8] parameter(1)
  %i = s32[] parameter(2)
  %zero = s32[] constant(0)
  %row = f32[1,4,8] bitcast(%x)
  ROOT %saved = f32[3,4,8] dynamic-update-slice(%all, %row, %i, %zero, %zero)
}

%bias (g: f32[4,8]) -> f32[8] {
  %g = f32[4,8] parameter(0)
  %zero = f32[] constant(0)
  ROOT %r = f32[8] reduce(%g, %zero), dimensions={0}, to_apply=%sum, metadata={op_name="jit(step)/transpose(jvp(head))/Head/fc/reduce_sum"}
}

%body (p: (s32[], f32[4,8], f32[3,8,8], f32[3,4,8])) -> (s32[], f32[4,8], f32[3,8,8], f32[3,4,8]) {
  %p = (s32[], f32[4,8], f32[3,8,8], f32[3,4,8]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[4,8] get-tuple-element(%p), index=1
  %stack = f32[3,8,8] get-tuple-element(%p), index=2
  %all = f32[3,4,8] get-tuple-element(%p), index=3
  %zero = s32[] constant(0)
  %w = f32[1,8,8] dynamic-slice(%stack, %i, %zero, %zero), dynamic_slice_sizes={1,8,8}, backend_config={"estimated_cycles":"7"}
  %w2 = f32[8,8] bitcast(%w)
  %y = f32[4,8] fusion(%x, %w2), kind=kOutput, calls=%products, backend_config={"estimated_cycles":"100"}
  %n = f32[4,8] fusion(%y), kind=kLoop, calls=%normalize, backend_config={"estimated_cycles":"20"}
  %saved = f32[3,4,8] fusion(%all, %n, %i), kind=kLoop, calls=%save, backend_config={"estimated_cycles":"5"}
  ROOT %next = (s32[], f32[4,8], f32[3,8,8], f32[3,4,8]) tuple(%i, %n, %stack, %saved)
}

%condition (p: (s32[], f32[4,8], f32[3,8,8], f32[3,4,8])) -> pred[] {
  %p = (s32[], f32[4,8], f32[3,8,8], f32[3,4,8]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %bound = s32[] constant(3)
  ROOT %less = pred[] compare(%i, %bound), direction=LT
}

ENTRY %main (x: f32[4,8], stack: f32[3,8,8], all: f32[3,4,8], q: f32[2,4,8], m: f32[8]) -> (f32[8], f32[2,4,4]) {
  %x = f32[4,8] parameter(0)
  %stack = f32[3,8,8] parameter(1)
  %all = f32[3,4,8] parameter(2)
  %q = f32[2,4,8] parameter(3)
  %m = f32[8] parameter(4)
  %start = s32[] constant(0)
  %seen = f32[4,8] copy(%x), metadata={op_name="jit(step)/jvp(views)/vmap()/crop/transpose"}, backend_config={"estimated_cycles":"40"}
  %moved = f32[3,8,8] copy(%stack), backend_config={"estimated_cycles":"9"}
  %tuple = (s32[], f32[4,8], f32[3,8,8], f32[3,4,8]) tuple(%start, %seen, %moved, %all)
  %loop = (s32[], f32[4,8], f32[3,8,8], f32[3,4,8]) while(%tuple), condition=%condition, body=%body, metadata={op_name="jit(step)/jvp(student)/ViT.encode/while"}
  %y = f32[4,8] get-tuple-element(%loop), index=1
  %s = f32[2,4,4] fusion(%q, %q), kind=kOutput, calls=%attention, backend_config={"estimated_cycles":"60"}
  %g = f32[8] fusion(%y), kind=kInput, calls=%bias, backend_config={"estimated_cycles":"30"}
  %whole = f32[8] all-reduce(%g), replica_groups={{0,1}}, to_apply=%sum, metadata={op_name="jit(step)/transpose(jvp(head))/Head/fc/reduce_sum"}, backend_config={"estimated_cycles":"3"}
  %kernel = f32[2,4,8] custom-call(%q), custom_call_target="tpu_custom_call", metadata={op_name="jit(step)/jvp(student)/attention/pallas_call"}
  %loss = f32[8] exponential(%whole), metadata={op_name="jit(step)/jvp()/exp"}, backend_config={"estimated_cycles":"2"}
  %new = f32[8] add(%m, %loss), metadata={op_name="jit(step)/update/add"}, backend_config={"estimated_cycles":"11"}
  ROOT %out = (f32[8], f32[2,4,4]) tuple(%new, %s)
}
"""  # noqa: E501


def test_costs_are_those_of_the_parts_and_kinds_as_often_as_they_run():
  rows = {(row.part, row.kind): row for row in breakdown(PROGRAM, CHIPS["v5e"])}
  assert {key: row.cycles for key, row in rows.items()} == {
    ("student, forward", "products"): 300,
    ("student, forward", "norm"): 60,
    ("student, forward", "saves"): 15,
    ("student, forward", "loads"): 21,
    ("student, forward", "layout"): 9,  # without a name: what it feeds is the student's loop
    ("student, backward", "attention products"): 60,
    ("student, forward", "kernels"): 0,  # no estimate
    ("views", "views"): 40,
    ("head, backward", "bias gradients"): 30,
    ("head, backward", "collectives"): 3,
    ("losses, forward", "softmax"): 2,
    ("update", "update"): 11,
  }
  per_cycle = 197e12 / 1.5e9
  assert rows["student, forward", "products"].ideal_cycles == pytest.approx(3 * 2 * 4 * 8 * 8 / per_cycle)
  assert rows["student, backward", "attention products"].ideal_cycles == pytest.approx(2 * 2 * 4 * 4 * 8 / per_cycle)
  assert rows["student, forward", "loads"].hbm_bytes == 3 * 2 * 8 * 8 * 4  # one kernel out of three, read and written
  assert rows["student, forward", "saves"].hbm_bytes == 3 * (2 * 4 * 8 * 4 + 4)
  assert rows["student, forward", "kernels"].hbm_bytes == 2 * 2 * 4 * 8 * 4
  assert rows["update", "update"].hbm_bytes == 3 * 8 * 4
  assert measure_traffic(Program(PROGRAM)).kernels == 1


def test_parts_are_as_deep_as_asked():
  parts = {row.part for row in breakdown(PROGRAM, CHIPS["v5e"], depth=4)}
  assert {"student/ViT/block/fc1, forward", "student/ViT/block/attention, backward", "head/Head/fc, backward"} <= parts


def test_the_table_has_a_line_for_each_part_and_adds_up():
  lines = breakdown_table(breakdown(PROGRAM.replace('cycles":"', 'cycles":"10000'), CHIPS["v5e"])).splitlines()
  assert len({len(line) for line in lines}) == 1  # aligned
  assert "attention products" in lines[0]
  assert lines[1].startswith("student, forward") and lines[-1].startswith("total")
  cycles = [float(line[len("student, backward") :].split()[0]) for line in lines[1:]]
  assert cycles[-1] == pytest.approx(sum(cycles[:-1]), abs=0.05) and cycles[:-1] == sorted(cycles[:-1], reverse=True)


@pytest.mark.parametrize(
  "op_name, scopes, direction",
  [
    ("jvp(student)/ViT.encode/ViT._run/while/body/closed_call/block/norm1/mul", "student ViT block norm1", "forward"),
    ("transpose(jvp(csr))/D/while/body/checkpoint/rematted_computation/block/add", "csr D block", "backward"),
    ("while/body/closed_call/jvp(views)/vmap(jit(_uniform))/xor", "views", "forward"),
    ("jvp(vmap(jit(_threefry_split)))/Saip.views/add", "", "forward"),
    ("jvp(csm)/btk,bvk->btv/dot_general;jit(train_step)/update/add", "csm", "forward"),
    ("update/mul", "update", ""),
  ],
)
def test_scopes_are_read_from_names(op_name, scopes, direction):
  place = parse_place(f"jit(train_step)/{op_name}")
  assert (list(place.scopes), place.direction) == (scopes.split(), direction)


def test_a_name_of_a_parameter_is_no_place():
  assert parse_place("state.params['backbone']") is None and parse_place("reduce_sum") is None


_CONVOLUTION = dict(window_strides=(1, 1), padding="VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize(
  "image, kernel, options",
  [
    ((2, 8, 8, 3), (3, 3, 3, 5), dict(padding="SAME")),
    ((2, 9, 9, 4), (3, 3, 4, 6), dict(window_strides=(2, 2))),
    ((2, 8, 8, 4), (3, 3, 1, 4), dict(feature_group_count=4)),
    ((2, 4, 4, 3), (3, 3, 3, 5), dict(padding=[(2, 2), (2, 2)], lhs_dilation=(2, 2))),
    ((2, 9, 9, 4), (3, 3, 4, 6), dict(rhs_dilation=(2, 2))),
    ((4, 9, 9, 4), (3, 3, 4, 6), dict(batch_group_count=2)),
  ],
)
def test_operations_of_a_convolution_are_those_that_xla_counts(image, kernel, options):
  convolve = lambda x, w: jax.lax.conv_general_dilated(x, w, **_CONVOLUTION | options)
  compiled = _compile(convolve, image, kernel)
  assert _flops(compiled) == compiled.cost_analysis()["flops"] > 0


def test_operations_of_products_are_counted_with_shared_dimensions_and_in_loops():
  assert _flops(_compile(lambda a, b: jnp.einsum("bqhd,bkhd->bhqk", a, b), (2, 5, 3, 4), (2, 7, 3, 4))) == (
    2 * 2 * 3 * 5 * 7 * 4
  )
  layers = lambda x, ws: jax.lax.scan(lambda x, w: (x @ w, None), x, ws)[0]
  assert _flops(_compile(layers, (8, 16), (7, 16, 16))) == 7 * 2 * 8 * 16 * 16


def _compile(function, *shapes):
  return jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).compile()


def _flops(compiled) -> int:
  program = Program(compiled.as_text())
  return sum(
    visit.times * product_flops(instruction, computation)
    for visit in program.walk()
    for instruction, computation in program.inside(visit.instruction, visit.computation)
  )
