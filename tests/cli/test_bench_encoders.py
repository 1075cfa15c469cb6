"""The comparison of encoders: what it reads, records and concludes. Nothing is measured here."""

import argparse
import json
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

import bench_encoders
from bench_encoders import Pictures
from methods_page import Scores, gain_of_encoders


def test_pictures_are_a_title_a_place_and_tasks():
  pictures = Pictures.parse("Market-1501=market1501:/data/a=b@c@reid:nearest,attributes:stripes")
  assert (pictures.title, pictures.place) == ("Market-1501", "market1501:/data/a=b@c")
  assert pictures.columns == ["reid:nearest", "attributes:stripes"]


@pytest.mark.parametrize(
  "text, words",
  [
    ("people@reid:nearest", "expected .TITLE=DATA@TASK:PROTOCOL"),
    ("People=people", "expected .TITLE=DATA@TASK:PROTOCOL"),
    ("People=people@reed:nearest", "reed"),
    ("People=people@reid:furthest", "furthest"),
  ],
)
def test_mistakes_are_named(text, words):
  with pytest.raises(ValueError, match=words):
    Pictures.parse(text)


def test_a_gain_of_encoders_is_that_of_the_paired_bootstrap():
  rng = np.random.default_rng(0)
  shared, own = rng.normal(0, 0.05, 500), rng.normal(0, 0.01, 500)
  a = Scores("mAP", np.array([0.5]), (0.5 + shared + own)[None])
  b = Scores("mAP", np.array([0.4]), (0.4 + shared)[None])
  difference, half = gain_of_encoders(a, b)
  assert difference == pytest.approx(0.1) and half == pytest.approx(1.96 * own.std())
  assert gain_of_encoders(Scores("mAP", a.values, None), b)[1] == np.inf


def test_the_page_is_made_of_the_records(tmp_path):
  args = argparse.Namespace(
    out=tmp_path / "model",
    title="A model",
    encoder=["m=M"],
    on=["People=people@reid:nearest"],
    untrained="saip_nano",
    hold_out=False,
    seeds=2,
  )
  values = {
    "m_seed0": 0.4,
    "untrained_seed0": 0.1,
    "untrained_seed1": 0.12,
    "histogram_seed0": 0.405,
    "constant_seed0": 0,
  }
  args.out.mkdir()
  for name, value in values.items():
    draws = (value + np.random.default_rng(len(name)).normal(0, 0.01, 500)).tolist()
    method, _, seed = name.partition("_seed")
    facts = {"method": method, "view": "encoder", "seed": int(seed), "data": "People", "hold_out": False}
    record = facts | {"scores": {"mAP": value}, "uncertainty": {"score": "mAP", "draws": draws}}
    (args.out / f"People_{name}_reid_nearest.json").write_text(json.dumps(record))
  page = bench_encoders.page(args)
  assert "| reid, nearest: mAP | 40.00 % | 11.00 % +- 1.41 % | **40.50 %** | 0.00 % |" in page
  assert "| untrained | 1: reid nearest | 0 | 0 |" in page and "| histogram | 0 | 0 | 1: reid nearest |" in page
  args.hold_out = True
  with pytest.raises(ValueError, match="is of other settings or data"):
    bench_encoders.page(args)
