"""The comparison of methods: what it plans, records and concludes. Nothing is trained."""

import argparse
import json
import pathlib
import sys

import numpy as np
import pytest
from scipy.stats import ttest_ind

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

import bench_methods
import methods_page
from methods_page import Scores, gain

from input_pipeline.schema import flattened, to_dict
from saip_jax.methods.saip.behavior import FIDELITIES
from saip_jax.recipes import apply_overrides, load_recipe, parse_config


def test_every_recipe_is_of_one_size():
  configs = {name: parse_config(load_recipe(recipe)) for name, recipe in bench_methods.METHODS.items()}
  assert {c.method.name for c in configs.values()} == {"saip", "mae", "dino", "hap", "croco_human", "hcmoco"}
  assert len({(c.model.backbone, c.model.image_hw, c.batch_size, c.optimizer) for c in configs.values()}) == 1


def _options(tmp_path, **changed):
  settings = {
    "work": tmp_path / "work",
    "out": tmp_path / "records",
    "methods": "SAIP,MAE",
    "seeds": 2,
    "updates": 1500,
    "train": 64,
  }
  settings |= {"points": 5, "equal_time": True} | changed
  return argparse.Namespace(**settings)


def test_equal_time_follows_the_measured_speeds(tmp_path):
  (tmp_path / "records").mkdir()
  record = {"seconds_per_update": {"SAIP": [0.3, 0.2, 9.0], "MAE": [0.03, 0.02]}, "commit": "c"}
  (tmp_path / "records" / "speeds.json").write_text(json.dumps(record))
  runs = bench_methods.plan(_options(tmp_path), [])
  assert [(name, view, seed, run.config.total_steps) for run, name, view, seed in runs] == [
    ("SAIP", "images", 0, 1500),
    ("MAE", "images", 0, 1500),
    ("MAE", "time", 0, 15000),
    ("SAIP", "images", 1, 1500),
    ("MAE", "images", 1, 1500),
    ("MAE", "time", 1, 15000),
  ]
  assert {run.config.data.people_count for run, *_ in runs} == {64} and len({run.workdir for run, *_ in runs}) == 6
  alone = bench_methods.plan(_options(tmp_path, equal_time=False, seeds=1), [])
  assert {view for _, _, view, _ in alone} == {"images"}


def test_every_method_sees_as_many_people(tmp_path):
  methods = ",".join(bench_methods.METHODS)
  for run, name, *_ in bench_methods.plan(_options(tmp_path, methods=methods, seeds=1, equal_time=False), []):
    parts = run.config.data.mixture or {"": run.config.data}
    assert sum(part.people_count for part in parts.values()) == 64, name


def _changes(tmp_path, names, view):
  """Returns name -> the settings of its run that differ from its recipe: path -> (before, after)."""
  runs = bench_methods.plan(_options(tmp_path, methods=",".join(names), seeds=1), [])  # needs no speeds
  assert {found for _, _, found, _ in runs} == {view}
  changes = {}
  for run, name, *_ in runs:
    recipe = parse_config(apply_overrides(load_recipe(run.recipe), bench_methods.people_settings(run.recipe, 64)))
    before, after = flattened(to_dict(recipe)), flattened(to_dict(run.config))
    of_the_bench = ("total_steps", "monitor_every", "seed")
    differ = {path: (before[path], after[path]) for path in before if before[path] != after[path]}
    changes[name] = {path: pair for path, pair in differ.items() if path not in of_the_bench}
  return changes


def test_variants_are_all_subsets_of_the_objectives_and_the_published_behavior(tmp_path):
  changes = _changes(tmp_path, bench_methods.VARIANTS, "variant")
  behavior = {name: changes.pop(name) for name in list(changes) if name.startswith("official")}
  kept = {name: {"csm", "csr", "css"} - {path.split(".")[1] for path in of} for name, of in changes.items()}
  assert kept == {name: set(name.lower().split("+")) for name in changes}  # "CSM+CSR" has css.weight at 0
  assert len(changes) == 6 and {after for of in changes.values() for _, after in of.values()} == {0}
  assert behavior.pop("official") == {"method.fidelity": ("improved", "official")}
  published = dict(FIDELITIES["official"].__dict__, scene_persons=[2, 2])
  for name, of in behavior.items():
    field = name.removeprefix("official-")
    assert of == {f"method.behavior.{field}": (None, published[field])}
  same = {"balance", "statistics"}  # the same in both fidelities; of batch norm
  assert {name.removeprefix("official-") for name in behavior} == published.keys() - same


def test_the_search_gives_every_method_the_same_learning_rates(tmp_path):
  changes = _changes(tmp_path, bench_methods.SEARCH, "search")
  assert all(len({path.rpartition(".")[2] for path in of}) <= 2 and of for of in changes.values())
  for method in bench_methods.METHODS:
    assert changes[f"{method}-rate2x"] == {"optimizer.learning_rate": (1.5e-3, 3e-3)}
    assert changes[f"{method}-rate0.5x"] == {"optimizer.learning_rate": (1.5e-3, 7.5e-4)}
    assert method == "SAIP" or f"{method}-crops" in changes


@pytest.mark.parametrize(
  "changed, words",
  [({"methods": "SAIP,MOCO"}, "'MOCO' is unknown; choose from: SAIP"), ({"methods": "SAIP,HAP"}, "lacks HAP")],
)
def test_mistakes_are_named(tmp_path, changed, words):
  (tmp_path / "records").mkdir()
  (tmp_path / "records" / "speeds.json").write_text(json.dumps({"seconds_per_update": {"SAIP": [0.3]}}))
  with pytest.raises(ValueError, match=words.replace("(", r"\(")):
    bench_methods.plan(_options(tmp_path, **changed), [])


def test_a_gain_is_as_certain_as_a_t_test_where_images_tell_nothing():
  a, b = np.array([0.52, 0.55, 0.53]), np.array([0.50, 0.49, 0.51])
  difference, half = gain(Scores("mAP", a, None), Scores("mAP", b, None))
  limits = ttest_ind(a, b).confidence_interval(0.95)  # equal variances: 4 degrees of freedom
  assert (difference - half, difference + half) == pytest.approx((limits.low, limits.high))


def test_a_gain_is_less_certain_by_what_the_images_leave_open():
  a, b = np.array([0.52, 0.55, 0.53]), np.array([0.50, 0.49, 0.51])
  noise = np.random.default_rng(0).normal(0, 0.05, (3, 500))
  alone = gain(Scores("mAP", a, None), Scores("mAP", b, None))[1]
  shared = gain(Scores("mAP", a, a[:, None] + noise), Scores("mAP", b, b[:, None] + noise))[1]
  other = gain(Scores("mAP", a, a[:, None] + noise), Scores("mAP", b, b[:, None] - noise))[1]
  assert shared == pytest.approx(alone) and other > 1.5 * alone
  assert gain(Scores("MPJPE_mm", a, None), Scores("MPJPE_mm", b, None))[0] < 0  # a larger error is worse
  assert gain(Scores("mAP", a[:1], None), Scores("mAP", b[:1], None))[1] == np.inf  # one seed decides nothing


def test_the_seeds_of_one_stand_for_those_of_a_single_run():
  a, b = np.array([0.52, 0.55, 0.53]), np.array([0.50])
  fixed = gain(Scores("mAP", a, None), Scores("mAP", b, None))[1]
  assert fixed == pytest.approx(4.302653 * a.std(ddof=1) / 3**0.5)  # b has no seeds
  single = gain(Scores("mAP", a, None), Scores("mAP", b, None), single_runs=True)[1]
  assert single == pytest.approx(4.302653 * a.std(ddof=1) * (1 / 3 + 1) ** 0.5)


def _record(method, view, seed, task, protocol, value, name="mAP"):
  draws = (value + np.random.default_rng(1).normal(0, 0.001, 500)).tolist()
  facts = {"method": method, "view": view, "seed": seed, "step": 1500, "images": 48000, "commit": "c"}
  scores = {"scores": {name: value, "other": 0.1}, "uncertainty": {"score": name, "draws": draws}}
  return facts | {"task": task, "protocol": protocol} | scores


def test_the_page_says_what_the_records_do(tmp_path):
  folder = tmp_path / "methods"
  (folder / "curves").mkdir(parents=True)
  values = {"SAIP": 0.30, "MAE": 0.20}
  for method, value in values.items():
    for seed in range(3):
      for task, protocol, sign, name in (("reid", "nearest", 1, "mAP"), ("joints3d", "linear", 1000, "MPJPE_mm")):
        record = _record(method, "images", seed, task, protocol, sign * (value + 0.004 * seed), name)
        (folder / f"{method}_images_seed{seed}_{task}_{protocol}.json").write_text(json.dumps(record))
  for seed in range(3):
    record = _record("MAE", "time", seed, "reid", "nearest", 0.302 + 0.004 * seed)
    (folder / f"MAE_time_seed{seed}_reid_nearest.json").write_text(json.dumps(record))
  record = _record("CSM", "variant", 0, "reid", "nearest", 0.1)
  (folder / "CSM_variant_seed0_reid_nearest.json").write_text(json.dumps(record))
  for name, value in (("official-tokens", 0.5), ("MAE-rate2x", 0.4), ("SAIP-rate2x", 0.31)):
    view = "variant" if name == "official-tokens" else "search"
    record = _record(name, view, 0, "reid", "nearest", value)
    (folder / f"{name}_{view}_seed0_reid_nearest.json").write_text(json.dumps(record))
  (folder / "constant_reid_nearest.json").write_text(
    json.dumps(_record("constant", "baseline", 0, "reid", "nearest", 0.05))
  )
  (folder / "speeds.json").write_text(json.dumps({"seconds_per_update": {"SAIP": [0.32], "MAE": [0.032]}}))
  points = [{"step": s, **{f"monitor/{m}": 0.1 for m in methods_page.MONITORS}} for s in (0, 750, 1500)]
  curve = {"method": "SAIP", "view": "images", "seed": 0, "step": 1500, "images": 48000, "curve": points}
  (folder / "curves" / "SAIP_images_seed0.json").write_text(json.dumps(curve))
  page = methods_page.page(folder)
  assert "| reid, nearest: mAP | **30.40 % +- 0.40 %** | 20.40 % +- 0.40 % | 5.00 % |" in page
  assert "| joints3d, linear: MPJPE | 304.0 mm +- 4.0 mm | **204.0 mm +- 4.0 mm** | - |" in page  # smaller is better
  assert "| MAE | 1: reid nearest | 1: joints3d linear | 0 |" in page
  assert "| constant | 1: reid nearest | 0 | 0 |" in page
  assert "| MAE, 1,500 updates | 0 | 0 | 1: reid nearest |" in page  # at equal time
  assert "| | SAIP | CSM |" in page and "| CSM | 1: reid nearest | 0 | 0 |" in page
  assert "| official-tokens | 0 | 1: reid nearest | 0 |" in page and "| | SAIP | official-tokens |" in page
  assert "### MAE\n\n| | MAE | MAE-rate2x |" in page and "### SAIP\n\n| | SAIP | SAIP-rate2x |" in page
  of_mae, of_saip = page.split("### SAIP beside them")
  assert "| MAE-rate2x | 0 | 1: reid nearest | 0 |" in of_mae  # better than the recipe,
  assert "| MAE-rate2x | 0 | 1: reid nearest | 0 |" in of_saip and "| SAIP-rate2x |" not in of_saip  # and than SAIP
  assert "| MAE | 1000 | 10.0 |" in page
  assert (folder / "curves.png").stat().st_size > 1000
  for file in folder.glob("*_seed[12]_*.json"):
    file.unlink()
  page = methods_page.page(folder)
  assert "One seed decides nothing" in page and "undecided" not in page


def test_records_of_nothing_are_refused(tmp_path):
  with pytest.raises(ValueError, match="holds no records of SAIP"):
    methods_page.page(tmp_path)
