"""Probes of body parts that meet another modality than the one they were fitted on."""

import numpy as np
import pytest

from input_pipeline.records import IGNORE_LABEL
from input_pipeline.schema import to_dict
from saip_jax import cli
from saip_jax.evaluation.splits import Data
from saip_jax.evaluation.tasks import cross_modality
from saip_jax.evaluation.tasks.cross_modality import (
  ModalityEncoders,
  RgbdPeople,
  chance_score,
  place_score,
  read_people,
  transfer_scores,
)
from saip_jax.run_folder.folder import write_config
from tests.support.tiny_methods import tiny_method

CELL = 4  # pixels
NAMES = ("a", "b", "c", "d", "e")


def people(seed, count=12):
  """Blocks of 5 parts, one for each cell, the upper row beside the person."""
  cells = np.random.default_rng(seed).integers(0, 5, (count, 6, 4)).astype(np.uint8)
  cells[:, 0] = IGNORE_LABEL
  parts = cells.repeat(CELL, 1).repeat(CELL, 2)
  return cells, RgbdPeople(np.zeros((*parts.shape, 3), np.uint8), np.zeros(parts.shape, np.uint16), parts, NAMES)


def maps_of(cells, agree, seed):
  """Returns maps that encode the part; those of depth in the same directions, or in other ones."""
  rng = np.random.default_rng(seed)
  shown = np.eye(8)[np.minimum(cells, 5)] + 0.05 * rng.normal(size=(*cells.shape, 8))
  depth = shown if agree else np.roll(shown, 1, axis=-1)
  return {"rgb": shown, "depth": depth, "both": np.maximum(shown, depth)}


@pytest.mark.parametrize("agree", [True, False])
def test_a_probe_transfers_where_the_maps_agree(agree):
  (train_cells, train), (test_cells, test) = people(0), people(1)
  scores = transfer_scores(maps_of(train_cells, agree, 2), train, maps_of(test_cells, agree, 3), test)
  alone = ["rgb -> rgb", "rgb -> depth", "depth -> rgb", "depth -> depth"]
  assert list(scores) == [*alone, "both -> rgb", "both -> depth", "both -> both"]
  for name in ("rgb -> rgb", "depth -> depth", "both -> both"):
    assert scores[name] > 0.4, name  # enlarging mixes neighbors
  by_chance = chance_score(train, test)
  assert 0.02 < by_chance < 0.06  # a fifth of one class of five
  for name in ("rgb -> depth", "depth -> rgb"):
    assert (scores[name] == scores["rgb -> rgb"]) if agree else (scores[name] < 0.1), name


def test_the_place_alone_tells_what_stands_where_it_always_does():
  _, train = people(0)
  always = np.broadcast_to(train.parts[:1], train.parts.shape)
  same = RgbdPeople(train.images_u8, train.depth_mm, always, NAMES)
  assert place_score(same, same, (6, 4)) > 0.4
  assert place_score(train, people(1)[1], (6, 4)) < 0.2


def data():
  return Data.parse("people", cache_dir="", people_count=24)


def test_people_are_read_with_their_own_depth_and_parts():
  found = read_people(data().open("test"), (64, 32), [])
  assert found.images_u8.shape == (*found.parts.shape, 3) and found.parts.shape[1:] == (64, 32)
  person = found.parts != IGNORE_LABEL
  assert 0.05 < person.mean() < 0.7 and not found.depth_mm[~person].any()
  assert (found.depth_mm[person] > 500).mean() > 0.99 and found.parts[person].max() < len(found.names) == 19


def test_encoders_that_know_the_parts_transfer_and_others_do_not():
  splits = [read_people(part, (64, 32), []) for part in data().train_and_test()]
  known = {image.tobytes(): parts for people in splits for image, parts in zip(people.images_u8, people.parts)}

  def knowing(images_u8, depth_mm):
    maps = np.eye(20)[np.minimum([known[image.tobytes()] for image in images_u8], 19)]  # (B, 64, 32, 20)
    maps = maps.reshape(-1, 16, 4, 8, 4, 20).mean((2, 4))
    return {"rgb": maps, "depth": maps, "both": maps}

  def ignorant(images_u8, depth_mm):
    return dict.fromkeys(("rgb", "depth", "both"), np.ones((len(images_u8), 16, 8, 4)))

  measure = lambda apply: cross_modality.probe_across_modalities(ModalityEncoders({}, (64, 32), apply), data())
  informed, guessed = measure(knowing), measure(ignorant)
  assert min(informed.scores.values()) > 0.4 and next(iter(informed.scores)) == "rgb -> depth"
  by_chance = guessed.facts["commonest_part_everywhere"]
  assert all(score == pytest.approx(by_chance, abs=1e-3) for score in guessed.scores.values())
  assert guessed.facts["place_in_the_picture"] > 2 * by_chance


def test_only_runs_of_hcmoco_are_compared(tmp_path):
  config, _ = tiny_method("mae_demo")
  write_config(tmp_path, to_dict(config))
  with pytest.raises(ValueError, match="is a run of mae .*hcmoco"):
    cross_modality.open_hcmoco_run(tmp_path)


@pytest.mark.parametrize("checkpoint", ["random:vit_tiny", "/nowhere"])
def test_what_has_no_encoder_of_depth_is_refused(checkpoint, capsys):
  assert cli.main(["evaluate", f"--checkpoint={checkpoint}", "--task=cross_modality", "--data=people"]) == 2
  assert "expected a run of hcmoco" in capsys.readouterr().err
