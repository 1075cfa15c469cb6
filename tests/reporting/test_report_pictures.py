"""Curves and pictures of the report: made-up records and encoders that know the answer."""

import base64
import collections
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from saip_jax.reporting import encoder_pictures
from saip_jax.reporting.curves import POINTS, condense, curves_html
from saip_jax.reporting.runs import Run, Series
from tests.support.coded_people import GRID, CodedData, CodedPictures, knowing_encoder
from tests.support.report_page import WITHOUT_ATTENTION, Page, toy_vit, two_cameras


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=700), st.integers(1, 120))
def test_points_stand_for_all_records(values, points):
  values = np.array(values)
  line = condense(Series(np.arange(1, len(values) + 1) * 10, values, 0), points)
  assert len(line.mean) == len(line.steps) <= points
  assert line.steps[0, 0] == 10 and line.steps[-1, 1] == 10 * len(values)
  assert (line.steps[1:, 0] - line.steps[:-1, 1] == 10).all()  # none twice, none left out
  slack = 1e-9 * np.abs(values).max()
  assert (line.low - slack <= line.mean).all() and (line.mean <= line.high + slack).all()
  counts = (line.steps[:, 1] - line.steps[:, 0]) / 10 + 1
  np.testing.assert_allclose((line.mean * (counts / len(values))).sum(), (values / len(values)).sum(), atol=slack)


def test_a_long_run_makes_no_long_page():
  steps, rng = np.arange(1, 100_001), np.random.default_rng(0)
  runs = []
  for i in range(4):
    series = {f"loss/{k}": Series(steps, rng.standard_normal(len(steps)), 0) for k in range(15)}
    runs.append(Run(f"run {i}", None, {}, series, [], {}, [], []))
  text = curves_html(runs)
  page = Page(text)
  assert len(text) < 1_500_000 and page.count("svg") == 15 and page.count("polyline") == 60
  lines = json.loads(next(a["data-lines"] for t, a in page.tags if "data-lines" in a))
  assert lines.keys() == {"0", "1", "2", "3"} and len(lines["0"][0]) == POINTS and lines["0"][0][-1][1] == 100_000


@pytest.mark.parametrize("values", [[3.0], [0.0] * 5, [1e-30, 2e-30], [-1e300, 1e300], [5.0] * 300])
def test_curves_of_any_values_stay_in_their_picture(values):
  series = Series(np.arange(len(values)), np.array(values), 0)
  page = Page(curves_html([Run("run", None, {}, {"odd": series}, [], {}, [], [])]))
  for tag, attributes in page.tags:
    if tag in ("polyline", "polygon"):
      points = np.array([pair.split(",") for pair in attributes["points"].split()], float)
      assert (points >= 0).all() and (points <= [400, 190]).all()


def test_neighbors_are_right_and_wrong_by_identity(monkeypatch):
  def counts(image):
    monkeypatch.setattr(encoder_pictures, "encoder_of", lambda backbone, facts: knowing_encoder(image))
    text = encoder_pictures.encoder_html(WITHOUT_ATTENTION, encoder_pictures.choose_images(two_cameras()))
    return collections.Counter(re.findall(r'class="(right|wrong)"', text)), Page(text).text

  found, text = counts(lambda n: np.eye(10)[n // 4])
  assert found == {"right": 16, "wrong": 32}  # two pictures of each person by the other camera, six are shown
  assert "first is right for 8 of 8 queries" in text and "20 images of 10 persons" in text
  found, text = counts(lambda n: [1.0, 0.0] if n % 2 == 0 or n // 4 == 9 else [0.0, 1.0])
  assert found["wrong"] >= 40 and "ConvNeXt has no class token" in text


def test_pictures_by_the_same_camera_are_put_aside(monkeypatch):
  facts = lambda n: {"people": [{"identity": n // 4}], "camera": n % 4 // 2}
  data = CodedData(CodedPictures(range(0, 40, 4), facts), CodedPictures([n for n in range(40) if n % 4], facts))
  monkeypatch.setattr(encoder_pictures, "encoder_of", lambda backbone, f: knowing_encoder(lambda n: np.eye(10)[n // 4]))
  text = encoder_pictures.encoder_html(WITHOUT_ATTENTION, encoder_pictures.choose_images(data))
  right = [int(number) for number in re.findall(r'class="right" title="picture (\d+)"', text)]
  assert len(right) == 16 and {number % 4 for number in right} == {2, 3}


def test_images_without_identities_have_attention_but_no_neighbors():
  pictures = CodedPictures(range(30), lambda n: {})
  images = encoder_pictures.choose_images(CodedData(pictures, pictures))
  page = Page(encoder_pictures.encoder_html(toy_vit(), images))
  assert "Nothing to search" in page.text and "identity" in page.text and page.text.count("head 2") == 6


def test_like_features_have_like_colors(monkeypatch):
  left = np.zeros((*GRID, 5))
  left[:, :2, 3] = 1
  monkeypatch.setattr(encoder_pictures, "encoder_of", lambda b, f: knowing_encoder(cells=lambda n: left))
  text = encoder_pictures.encoder_html(WITHOUT_ATTENTION, encoder_pictures.choose_images(two_cameras()))
  uris = [uri for uri in re.findall(r'src="data:image/png;base64,([^"]+)"', text)]
  colors = np.asarray(Image.open(io.BytesIO(base64.b64decode(uris[0]))))
  assert colors.shape == (*GRID, 3) and len(set(uris)) == 1
  assert len({tuple(c) for c in colors.reshape(-1, 3)}) == 2 and (colors[:, :2] == colors[0, 0]).all()


def test_heat_lies_where_attention_is():
  values = np.zeros((4, 2))
  values[3, 0] = 0.2
  heat = encoder_pictures._heated(np.full((64, 32, 3), 128, np.uint8), values).mean(-1)
  y, x = np.unravel_index(heat.argmax(), heat.shape)
  assert y >= 48 and x < 16 and heat[:24].max() < 70
