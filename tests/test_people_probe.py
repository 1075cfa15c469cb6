"""What frozen features tell of people, and the table that compares presets by it."""

import io
import pathlib
import runpy
import types

import numpy as np
import pytest
from PIL import Image

from saip_jax.backbones.features import Features
from saip_jax.evaluation.people_probe import backbone_features, colour_features, no_features, probe_people
from saip_jax.interop.weights import Preprocessing

_REPO = pathlib.Path(__file__).resolve().parent.parent


class _Pictures(list):
  """Encoded pictures as an ImageSource gives them."""

  def read(self, i):
    return self[i]


def _people(identities, seed):
  """Labels as `People` has them, of persons with two pictures by each of two cameras, and pictures of noise."""
  rng = np.random.default_rng(seed)
  persons, n = np.repeat(identities, 4), 4 * len(identities)
  xy = rng.uniform(0, 1, (n, 17, 2)) * (64, 128)
  seen = rng.choice([0, 1, 2], (n, 17, 1), p=[0.1, 0.2, 0.7])
  xy[seen[..., 0] == 0] = 30.0  # outside of the picture: any finite place
  files = []
  for _ in range(n):
    files.append(io.BytesIO())
    Image.fromarray(rng.integers(0, 255, (128, 64, 3), np.uint8)).save(files[-1], "PNG")
  source = _Pictures(file.getvalue() for file in files)
  return types.SimpleNamespace(
      source=source, identities=persons, cameras=np.tile([0, 0, 1, 1], len(identities)),
      keypoints=np.concatenate([xy, seen], 2), size=np.array([64, 128]))


def test_perfect_features_score_perfectly_and_none_give_the_mean_pose():
  train, test = _people(range(0, 60), 0), _people(range(60, 70), 1)
  perfect = lambda people: (np.eye(70)[people.identities], people.keypoints[..., :2].reshape(len(people.source), -1))
  found = probe_people(perfect, train, test)
  assert found["mAP"] == 1 and found["CMC@1"] == 1 and found["queries"] == 20
  assert found["keypoint_error"] < 0.02 and found["PCK@0.05"] > 0.98

  found = probe_people(no_features, train, test)
  inside, visible = train.keypoints[..., 2:] > 0, test.keypoints[..., 2] == 2
  mean = (train.keypoints[..., :2] * inside).sum(0) / inside.sum(0)
  away = np.linalg.norm(test.keypoints[..., :2] - mean, axis=2)[visible] / 128
  assert found["keypoint_error"] == pytest.approx(away.mean(), abs=1e-9)
  assert found["PCK@0.1"] == pytest.approx(np.mean(away <= 0.1), abs=1e-9) and found["mAP"] < 0.5


def test_features_of_a_backbone_are_its_cls_and_means_of_its_tokens():
  people, image_hw = _people(range(20), 0), (160, 64)  # more than one batch, and the last one is not full

  def apply(variables, images, reads):  # a network whose tokens are the mean colours of patches
    assert set(reads) == {"cls", "tokens"}
    tokens = images.reshape(len(images), 10, 16, 4, 16, 3).mean((2, 4)).reshape(len(images), 40, 3)
    return Features(cls=variables["scale"] * images.mean((1, 2)), tokens=tokens, grid=(10, 4))

  backbone = types.SimpleNamespace(
      module=types.SimpleNamespace(apply=apply), variables={"scale": 2.0}, preprocessing=Preprocessing(image_hw))
  cls, cells = backbone_features(backbone)(people)
  assert cls.shape == (80, 3) and cells.shape == (80, 8 * 4 * 3)
  for i in (3, 79):
    image = Image.open(io.BytesIO(people.source.read(i))).resize(image_hw[::-1], Image.Resampling.BICUBIC)
    pixels, found = np.asarray(Preprocessing(image_hw)(np.asarray(image))), cells[i].reshape(8, 4, 3)
    np.testing.assert_allclose(cls[i], 2 * pixels.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(found[0, 1], pixels[:32, 16:32].mean((0, 1)), atol=1e-5)  # 10 rows make 8 cells
    np.testing.assert_allclose(found[7, 3], pixels[144:, 48:].mean((0, 1)), atol=1e-5)


def test_colours_are_counted_per_stripe():
  picture = np.zeros((64, 32, 3), np.uint8)
  picture[:16] = (255, 0, 31)
  file = io.BytesIO()
  Image.fromarray(picture).save(file, "PNG")
  found, same = colour_features((64, 32))(types.SimpleNamespace(source=_Pictures([file.getvalue()])))
  assert found is same and found.shape == (1, 4 * 512)
  assert {i: round(float(found[0, i]) ** 2) for i in np.flatnonzero(found)} == {
      7 * 64: 512, 512: 512, 2 * 512: 512, 3 * 512: 512}


def test_the_script_plans_keeps_and_prints(tmp_path):
  script = runpy.run_path(str(_REPO / "scripts" / "compare_presets.py"))
  recipe = _REPO / "configs" / "saip_demo.py"
  runs = script["plan_runs"](f"short={recipe} --config.total_steps=7", ["--config.total_steps=9"], 2, tmp_path)
  assert [(run.preset, run.config.total_steps, run.config.seed) for run in runs] == [("short", 7, 0), ("short", 7, 1)]
  assert len({run.workdir for run in runs}) == 2
  longer = script["plan_runs"](f"short={recipe}", ["--config.total_steps=9"], 1, tmp_path)
  assert longer[0].workdir != runs[0].workdir  # other settings are another run, whatever they are called
  with pytest.raises(ValueError, match="expected .NAME=FILE"):
    script["plan_runs"](str(recipe), [], 1, tmp_path)

  calls = []
  measure = lambda: calls.append(1) or {"mAP": 0.5, "keypoint_error": 0.1, "PCK@0.1": 0.25}
  scores = [script["kept"](tmp_path / "new" / "row.json", measure) for _ in range(2)]
  assert len(calls) == 1 and scores[0] == scores[1]
  lines = script["table"]({"a": [scores[0], {**scores[0], "mAP": 0.6}], "b": scores[:1]}).splitlines()
  assert lines[2:] == ["| a | 55.00 +- 7.07 | 10.00 +- 0.00 | 25.00 +- 0.00 | 2 |", "| b | 50.00 | 10.00 | 25.00 | 1 |"]
