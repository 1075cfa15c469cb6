"""Probes of body parts that meet another modality than the one they were fitted on."""

import numpy as np
import pytest

from saip_jax.evaluation import cross_modality
from saip_jax.evaluation.cross_modality import RgbdPeople, chance, place_maps, read_people, transfer_scores
from saip_jax.evaluation.metrics.segmentation import IGNORED
from saip_jax.training.checkpoint import write_config
from saip_jax.typed import to_dict
from tiny_methods import tiny_method

CELL = 4  # pixels


def people(seed, count=12):
  """Blocks of 5 parts, one for each cell, the upper row beside the person."""
  cells = np.random.default_rng(seed).integers(0, 5, (count, 6, 4)).astype(np.uint8)
  cells[:, 0] = IGNORED
  parts = cells.repeat(CELL, 1).repeat(CELL, 2)
  return cells, RgbdPeople(np.zeros((*parts.shape, 3), np.uint8), np.zeros(parts.shape, np.uint16), parts)


def maps_of(cells, agree, seed):
  """Maps that tell the part; those of depth in the same directions, or in others."""
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
    assert scores[name] > 0.4, name  # enlarging mixes neighbours
  by_chance = chance(train, test)
  assert 0.02 < by_chance < 0.06  # a fifth of one class of five
  for name in ("rgb -> depth", "depth -> rgb"):
    assert (scores[name] == scores["rgb -> rgb"]) if agree else (scores[name] < 0.1), name


def test_the_place_alone_tells_what_stands_where_it_always_does():
  _, train = people(0)
  always = np.broadcast_to(train.parts[:1], train.parts.shape)
  same = RgbdPeople(train.images_u8, train.depth_mm, always)
  known = transfer_scores(place_maps(same, (6, 4)), same, place_maps(same, (6, 4)), same)
  (_, other) = people(1)
  guessed = transfer_scores(place_maps(train, (6, 4)), train, place_maps(other, (6, 4)), other)
  assert min(known.values()) > 0.4 > 0.2 > max(guessed.values())
  assert len(set(known.values())) == 1  # whatever the modality


def test_people_are_read_with_their_own_depth_and_parts():
  found = read_people("test", 24, (64, 32))
  assert found.images_u8.shape == (*found.parts.shape, 3) and found.parts.shape[1:] == (64, 32)
  person = found.parts != IGNORED
  assert 0.05 < person.mean() < 0.7 and not found.depth_mm[~person].any()
  assert (found.depth_mm[person] > 500).mean() > 0.99 and found.parts[person].max() < 19


def test_only_runs_of_hcmoco_are_compared(tmp_path):
  config, _ = tiny_method("mae_demo")
  write_config(tmp_path, to_dict(config))
  with pytest.raises(ValueError, match="is a run of mae, 0 checkpoints: expected one of hcmoco"):
    cross_modality.open_run(tmp_path)
