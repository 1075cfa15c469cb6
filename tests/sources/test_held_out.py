"""What an evaluation holds out, and shares of the rest: by identity, and the same on every machine."""

import cv2
import numpy as np
import pytest

from input_pipeline.pipeline import build_train_data
from input_pipeline.settings import DataConfig
from input_pipeline.sources.held_out import held_out, share_of
from input_pipeline.sources.table import open_source
from saip_jax.evaluation.splits import Data, LabeledImages, groups
from tests.support.coded_people import CodedPictures


def _by_fours(rows) -> CodedPictures:
  return CodedPictures(rows, lambda n: {"people": [{"identity": n // 4}]})


def _names(source) -> set[str]:
  return {source.name(i) for i in range(len(source))}


def _persons(source) -> set[int]:
  return {source.annotations(i)[0]["people"][0]["identity"] for i in range(len(source))}


def test_what_is_held_out_is_disjoint_and_always_the_same():
  train, test = held_out(_by_fours(range(400)))
  assert not _persons(train) & _persons(test) and len(train) + len(test) == 400 and 0.2 < len(test) / 400 < 0.4
  shuffled = np.random.default_rng(0).permutation(400)
  assert _names(held_out(_by_fours(shuffled))[1]) == _names(test)
  with pytest.raises(ValueError, match="1 identities"):
    held_out(CodedPictures(range(9), lambda n: {"people": [{"identity": 1}]}))
  assert groups(LabeledImages(_by_fours(range(8)))).tolist() == [0] * 4 + [1] * 4


def test_a_share_has_whole_persons_and_is_part_of_every_larger_share():
  whole = _by_fours(range(400))
  small, large = share_of(whole, 0.1), share_of(whole, 0.5)
  assert len(small) == 40 and len(large) == 200 and _names(small) < _names(large) and len(_persons(small)) == 10
  assert _names(share_of(_by_fours(np.random.default_rng(0).permutation(400)), 0.1)) == _names(small)
  assert len(share_of(whole, 0.001)) == 4  # one person at least


def test_training_leaves_out_what_an_evaluation_holds_out(tmp_path):
  rng = np.random.default_rng(0)
  for n in range(40):
    cv2.imwrite(str(tmp_path / f"{n}.png"), rng.integers(0, 255, (8, 4, 3), np.uint8))
  trained = open_source("folder", tmp_path, hold_out=True, cache_dir=tmp_path / "cache")
  measured = Data.parse(f"folder:{tmp_path}", cache_dir=str(tmp_path / "cache"), people_count=0, hold_out=True)
  train, test = (part.source for part in measured.train_and_test())
  assert trained.identity == train.identity and not _names(trained) & _names(test)
  settings = DataConfig(source="folder", path=str(tmp_path), hold_out=True)
  data = build_train_data(settings, fields=("image",), batch_size=1, seed=0, cache_dir=tmp_path / "cache")
  assert data.identity["digest"] == train.identity["digest"]
