"""The functions of scripts/bench_scaling.py that fit, show and resume what was measured."""

import json
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

import bench_scaling
from bench_scaling import CURVES, INTRODUCTION, STEP, complete, measure, points
from scaling_page import Point, basis, fit, fit_line, fit_power, growth, read_points, shown, write_page


def _record(settings, load=0.1, **quantities):
  return {
    "settings": settings,
    "load_average": load,
    "cores": 2,
    "machine": "x86_64",
    "python": "3.12.1",
    "versions": {"jax": "0.10.2"},
    "compiler_flags": "",
    "quantities": quantities,
  }


def _step(load=0.1, seconds=(0.5,), **settings):
  repetitions = [{"s": s, "cpu_s": 2 * s} for s in seconds]
  return _record({"kind": "step"} | STEP | settings, load, step=repetitions)


def _save(folder, records):
  folder.mkdir()
  for number, record in enumerate(records):
    (folder / f"{number}.json").write_text(json.dumps(record))


@pytest.mark.parametrize("exponent", [-0.5, 0.0, 0.5, 1.0, 2.0])
def test_a_power_law_is_found_also_through_noise(exponent):
  x = np.array([10, 1e2, 1e3, 1e4])
  assert fit_power(x, 3 * x**exponent) == pytest.approx((exponent, 3))
  noise = np.exp(np.random.default_rng(0).normal(0, 0.02, 40))
  x = np.geomspace(1, 1e4, 40)
  assert fit_power(x, 3 * x**exponent * noise) == pytest.approx((exponent, 3), abs=0.05)


def test_a_line_is_found_and_a_small_value_counts_as_much_as_a_large_one():
  x = np.array([4, 8, 16, 1e6])
  assert fit_line(x, 0.25 + 0.01 * x) == pytest.approx((0.25, 0.01, 0), abs=1e-9)
  *_, deviation = fit_line([1, 2, 3], [1.0, 1.2, 1.0])
  # min over a, b of sum((a + b x) / y - 1)**2, in closed form by normal equations of the scaled columns
  columns = np.array([[1, 1], [1 / 1.2, 2 / 1.2], [1, 3]])
  solution = np.linalg.solve(columns.T @ columns, columns.T @ np.ones(3))
  assert deviation == pytest.approx(np.abs(columns @ solution - 1).max())


def test_the_exponent_is_of_the_larger_half_and_of_three_points_at_least():
  x = [1, 2, 4, 8, 16, 32, 64, 128]
  y = [1.0, 1.0, 1.0, 1.0, *(1e-3 * value**2 for value in x[4:])]
  found = fit(x, y)
  assert (found.exponent, found.factor, found.first) == (pytest.approx(2), pytest.approx(1e-3), 16)
  assert fit(x[:4], y[:4]).first == 2
  assert fit(x[:2], y[:2]) is None


def test_the_least_repetition_counts_and_processor_time_where_other_work_ran():
  quiet, busy = (Point(4, (0.3, 0.2), (0.25, 0.4), load, cores=2) for load in (2.9, 3.1))
  assert basis([quiet, quiet]) == ("wall time", [0.2, 0.2])
  assert basis([quiet, busy]) == ("processor time", [0.25, 0.25])
  assert basis([Point(4, (200.0,), (), 9.0)]) == ("wall time", [200.0])  # memory has no other


@pytest.mark.parametrize(
  "exponent, words",
  [
    (0.05, "less than linearly, hardly at all"),
    (0.5, "less than linearly"),
    (0.95, "linearly"),
    (1.09, "linearly"),
    (1.2, "more than linearly"),
  ],
)
def test_words_follow_the_exponent(exponent, words):
  assert growth(exponent) == words


def test_values_have_units_of_their_size():
  assert [shown(v, "s") for v in (2.5, 0.25, 2.5e-4, 2.5e-7)] == ["2.5 s", "250 ms", "250 us", "250 ns"]
  assert [shown(v, "mb") for v in (1234.4, 28e-6)] == ["1,234 MB", "28 bytes"]


def test_a_curve_has_the_points_that_differ_in_its_setting_alone():
  records = [_step(batch=16), _step(batch=4), _step(batch=32, prototypes=4096), _step(), _step(height=128)]
  by_batch, by_pixels = (next(c for c in CURVES if c.setting == name) for name in ("batch", "height"))
  assert [p.x for p in read_points(by_batch, records, STEP)] == [4, 8, 16]
  assert [p.x for p in read_points(by_pixels, records, STEP)] == [64 * 32, 128 * 64]


def test_the_page_says_what_the_records_say(tmp_path):
  records = [_step(batch=b, seconds=(1e-2 * b, 1.0 * b)) for b in (4, 8, 16, 32)]
  records += [_step(height=h, seconds=(0.08 * (h / 64) ** 3,)) for h in (128, 256)]
  images = (10_000, 100_000, 1_000_000)
  records += [
    _record({"kind": "index", "images": n}, 4.0, batches=[{"s": n, "cpu_s": 0.2}], read_memory=[{"mb": 200.0}])
    for n in images
  ]
  _save(tmp_path / "curves", records)
  write_page(tmp_path / "curves", CURVES, STEP, INTRODUCTION)
  page = (tmp_path / "curves.md").read_text()
  assert "From 8 to 32 images per update, the time of a step grows linearly: exponent 1.00 of wall time" in page
  assert "From 2,048 to 32,768 pixels per image, the time of a step grows more than linearly: exponent 1.50" in page
  assert "grows less than linearly, hardly at all: exponent 0.00 of processor time" in page
  assert "| 32 | 320 ms | 16.2 s | 640 ms | 0.1 |" in page
  assert "Too few points for a fit: 1." in page  # of prototypes there is only the point of all curves
  assert "0.1 to 4.0. Other work ran beside 3 of 9 points" in page and "upper bounds" in page
  assert "| the time of a batch of 64 shuffled images | images in the data set | 1.00 | 0.00 |" in page
  pictures = {path.stem for path in (tmp_path / "curves").glob("*.png")}
  assert {"step_by_batch", "step_by_height", "batches_by_images", "read_memory_by_images"} <= pictures
  assert all(f"(curves/{name}.png)" in page for name in pictures)
  with pytest.raises(ValueError, match="--out=.*no records"):
    write_page(tmp_path, CURVES, STEP, INTRODUCTION)


def test_a_point_that_exists_is_not_measured_again_and_a_failed_one_leaves_nothing(tmp_path):
  named = {name: {"kind": "index", "images": n} for n, name in enumerate(("a", "b", "c"))}
  measured = []

  def measure_point(settings):
    measured.append(settings["images"])
    if measured == [0, 1]:
      raise OSError("no room")
    return {"open": [{"s": 1.0, "cpu_s": 1.0}]}

  with pytest.raises(OSError):
    complete(named, tmp_path, measure_point)
  assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
  complete(named, tmp_path, measure_point, seconds=-1)  # no time: nothing is started
  assert measured == [0, 1]
  complete(named, tmp_path, measure_point)
  assert measured == [0, 1, 1, 2]
  record = json.loads((tmp_path / "c.json").read_text())
  assert record["settings"] == named["c"] and record["cores"] >= 1 and record["load_average"] >= 0
  assert {"jax", "grain"} <= set(record["versions"])


def test_names_tell_points_apart_and_curves_share_one():
  named = points()
  steps = [s for s in named.values() if s["kind"] == "step"]
  assert len(steps) == sum(len(values) - 1 for values in bench_scaling.STEPS.values()) + 1
  assert {"kind": "step"} | STEP in steps


def test_a_small_index_is_measured_in_processes_of_its_own():
  found = measure({"kind": "index", "images": 2000}, 2)
  assert set(found) == {curve.quantity for curve in CURVES if curve.kind == "index"}
  assert len(found["batches"]) == 2 and all(r["s"] > 0 for r in found["batches"])
