"""Pairs: which images go together, which partner is drawn, and what happens to those without one."""

import itertools
import json
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from input_pipeline.decode import decode_image
from input_pipeline.pairs import open_pairs
from input_pipeline.prepare.prepare import prepare_dataset
from input_pipeline.prepare.shard import PrepareRequest
from input_pipeline.prepare.side_files import SideFiles
from input_pipeline.settings import PAIR_KINDS, PairsConfig
from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import MixtureSource, WeightedSource
from tests.support.batches import assert_same, data_of_source, open_data, take

CANVAS_HW, BATCH = (16, 8), 6
OPTIONS = dict(canvas_hw=CANVAS_HW, threads=2, max_damaged_fraction=0.5, fields=("partner",), batch_size=BATCH, seed=3)


class Toy(ImageSource):
  """Images whose color is their number, with the facts given; `damaged` ones are no images."""

  def __init__(self, facts, name="toy", damaged=()):
    self._facts, self._damaged = facts, damaged
    digest = str(zlib.crc32(json.dumps(facts).encode()))
    self.identity = {"source": "toy", "name": name, "length": len(facts), "digest": digest}

  def __len__(self):
    return len(self._facts)

  def read(self, i):
    if i in self._damaged:
      return b"no image"
    return cv2.imencode(".png", np.full((*CANVAS_HW, 3), i, np.uint8))[1].tobytes()

  def name(self, i):
    return str(i)

  def annotations(self, i):
    return dict(self._facts[i]), {}


def facts(group, camera, time, identity=0):
  return {"group": group, "camera": camera, "time": time, "people": [{"identity": identity}]}


# Two recordings of two moments by three cameras: who goes with whom can be read off.
RIG = [facts(group, camera, time) for group in "ab" for time in (0.0, 0.5) for camera in ("left", "front", "right")]


def _kind(a, b, rules):
  """The kind of a pair by its definition; None: they do not go together."""
  if a["group"] != b["group"] or a["people"] != b["people"]:
    return None
  apart = abs(a["time"] - b["time"])
  if a["camera"] != b["camera"]:
    return "view" if apart == 0 and "view" in rules.kinds else None
  return "pose" if apart > 0 and rules.gap[0] <= apart <= rules.gap[1] and "pose" in rules.kinds else None


@settings(max_examples=60, deadline=None)
@given(
  rows=st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 6), st.integers(0, 1)), min_size=1, max_size=24
  ),
  kinds=st.sampled_from([("view",), ("pose",), PAIR_KINDS]),
  gap=st.sampled_from([(0.0, 0.5), (0.25, 0.5), (0.5, 10.0)]),
)
def test_partners_are_those_of_the_definition(rows, kinds, gap, tmp_path_factory):
  all_facts = [facts(group, camera, time / 4, identity) for group, camera, time, identity in rows]
  rules = PairsConfig(kinds=kinds, gap=gap)
  wanted = {
    (i, j, kind) for (i, a), (j, b) in itertools.permutations(enumerate(all_facts), 2) if (kind := _kind(a, b, rules))
  }
  try:
    source, pairs = open_pairs(Toy(all_facts), rules, tmp_path_factory.mktemp("pairs"))
  except ValueError:
    assert not wanted
    return
  kept = [int(source.name(i)) for i in range(len(source))]
  assert kept == sorted({i for i, _, _ in wanted})
  found = set()
  for i, draw in itertools.product(range(len(source)), range(48)):
    j, kind = pairs.partner(i, draw)
    found.add((kept[i], kept[j], PAIR_KINDS[kind]))
  assert found <= wanted
  if all(len({j for a, j, _ in wanted if a == i}) <= 4 for i in kept):  # 48 draws then reach every one
    assert found == wanted


def test_both_kinds_are_as_likely_and_so_is_every_partner(tmp_path):
  _, pairs = open_pairs(Toy(RIG), PairsConfig(), tmp_path)
  drawn = [pairs.partner(1, int(draw)) for draw in np.random.default_rng(0).integers(2**62, size=4000)]
  counts = {pair: drawn.count(pair) / 4000 for pair in set(drawn)}
  assert counts.keys() == {(0, 0), (2, 0), (4, 1)}
  assert counts[4, 1] == pytest.approx(0.5, abs=0.03) and counts[0, 0] == pytest.approx(0.25, abs=0.03)


def data_of(source, cache, rules=PairsConfig(), **changes):
  source, pairs = open_pairs(source, rules, cache)
  return data_of_source(source, pairs=pairs, **(OPTIONS | changes))


def test_batches_hold_the_pairs_whatever_the_hosts_threads_or_start(tmp_path):
  whole = take(data_of(Toy(RIG), tmp_path), 8)
  kinds = set()
  for batch in whole:
    assert batch["partner"].shape == (BATCH, *CANVAS_HW, 3) and batch["pair_type"].dtype == np.int32
    for i, image, partner, kind in zip(batch["index"], batch["image"], batch["partner"], batch["pair_type"]):
      assert image[0, 0, 0] == i and _kind(RIG[i], RIG[partner[0, 0, 0]], PairsConfig()) == PAIR_KINDS[kind]
      kinds.add(int(kind))
    assert (batch["partner_hw"] == CANVAS_HW).all()
  assert kinds == {0, 1}
  assert_same(take(data_of(Toy(RIG), tmp_path, threads=1), 3, start_step=5), whole[5:])
  shares = [take(data_of(Toy(RIG), tmp_path), 8, host=host, hosts=2) for host in range(2)]
  assert_same(
    [{key: np.concatenate([share[step][key] for share in shares]) for key in whole[0]} for step in range(8)], whole
  )
  other = take(data_of(Toy(RIG), tmp_path, seed=4), 8)
  assert any((a["partner"] != b["partner"]).any() for a, b in zip(other, whole))


def test_images_are_in_the_order_that_they_have_without_pairs(tmp_path):
  alone = take(data_of_source(Toy(RIG), **(OPTIONS | {"fields": ()})), 4)
  paired = take(data_of(Toy(RIG), tmp_path), 4)
  for a, b in zip(alone, paired):
    np.testing.assert_array_equal(a["image"], b["image"])
    assert a.keys() == {"image", "image_hw", "index"}


@pytest.mark.compile
@pytest.mark.distributed
def test_a_worker_process_draws_the_same_partners(tmp_path):
  (tmp_path / "video").mkdir()
  for i in range(12):
    cv2.imwrite(str(tmp_path / "video" / f"{i}.png"), np.full((*CANVAS_HW, 3), i, np.uint8))
  options = OPTIONS | dict(source="video", path=str(tmp_path / "video"), pairs={"frame_rate": 5.0})
  alone, with_worker = (open_data(tmp_path / "w", **options, workers=workers) for workers in (0, 1))
  assert_same(take(with_worker, 3), take(alone, 3))


def test_a_damaged_image_takes_its_pair_with_it_and_both_are_replaced(tmp_path):
  data = data_of(Toy(RIG, damaged=(4,)), tmp_path)
  batches = take(data, 20)
  used = np.concatenate([batch["index"] for batch in batches])
  partners = np.concatenate([batch["partner"][:, 0, 0, 0] for batch in batches])
  assert 4 not in used and 4 not in partners
  for i, partner, kind in zip(used, partners, np.concatenate([batch["pair_type"] for batch in batches])):
    assert _kind(RIG[i], RIG[partner], PairsConfig()) == PAIR_KINDS[kind]
  assert data.damage.indices["image"] == [4] and "4: not an image" in data.damage.lines()[0]


def test_one_damaged_image_that_all_others_need_ends_in_no_black_row(tmp_path):
  pair = [facts("a", 0, 0), facts("a", 1, 0)]
  with pytest.raises(ValueError, match="damaged"):
    take(data_of(Toy(pair, damaged=(1,)), tmp_path, max_damaged_fraction=0.0), 1)
  rig = [facts(group, camera, 0) for group in range(8) for camera in range(2)]
  batches = take(data_of(Toy(rig, damaged=(3,)), tmp_path, max_damaged_fraction=0.1), 8)
  assert all((batch["image_hw"] == CANVAS_HW).all() and (batch["partner_hw"] == CANVAS_HW).all() for batch in batches)


def test_images_without_a_partner_are_left_out_with_the_reason(tmp_path):
  lonely = [facts("c", 0, 0), {"camera": 1, "time": 0}, {"group": "a"}, facts("a", "left", 0.1) | {"pair": "stereo"}]
  data = data_of(Toy(RIG + lonely), tmp_path)
  assert len(data) == len(RIG)
  reasons = dict(line.split(": ") for line in data.damage.lines())
  assert "no other camera" in reasons["12"] and "time is unknown" in reasons["13"] == reasons["14"]
  assert "of a kind that is not wanted" in reasons["15"]
  summary = "\n".join(data.summary())
  assert "12 images have a view partner" in summary and "left out 4" in summary


def test_a_set_without_any_pair_is_refused_and_the_setting_named(tmp_path):
  with pytest.raises(ValueError, match="data.source=toy: no image of 'toy'.*pose.*data.pairs.gap, .* 3 to 4 s") as e:
    open_pairs(Toy(RIG), PairsConfig(kinds=("pose",), gap=(3, 4)), tmp_path)
  assert "\n" not in str(e.value)
  mixture = MixtureSource({"a": WeightedSource(Toy(RIG), 1.0), "b": WeightedSource(Toy([facts(0, 0, 0)], "b"), 1.0)})
  with pytest.raises(ValueError, match="no image of 'b' has a partner"):
    open_pairs(mixture, PairsConfig(), tmp_path)


def test_numbered_frames_have_the_time_that_the_frame_rate_gives_them(tmp_path):
  frames = [{"group": "walk", "frame": number} for number in range(10)]
  source, pairs = open_pairs(Toy(frames), PairsConfig(gap=(0.2, 0.4), frame_rate=10.0), tmp_path)
  assert {pairs.partner(5, draw)[0] for draw in range(40)} == {1, 2, 3, 7, 8, 9}
  assert len(source) == 10 and "10 per second" in pairs.summary[-1]


def test_facts_are_read_once_and_other_rules_make_another_run(tmp_path, monkeypatch):
  first = data_of(Toy(RIG), tmp_path)
  monkeypatch.setattr(Toy, "annotations", lambda self, i: pytest.fail("read again"))
  again = data_of(Toy(RIG), tmp_path)
  assert first.identity == again.identity
  monkeypatch.undo()
  assert data_of(Toy(RIG), tmp_path, PairsConfig(gap=(0.1, 2.0))).identity != first.identity


def test_parts_of_a_mixture_keep_their_partners_to_themselves(tmp_path):
  views = [facts(group, camera, 0) for group in range(3) for camera in range(2)]
  clips = [facts(0, 0, time / 2) for time in range(4)] + [facts(1, 0, 0)]
  parts = {"clips": Toy(clips, "clips"), "views": Toy(views, "views")}
  source = MixtureSource({name: WeightedSource(part, 1.0) for name, part in parts.items()})
  data = data_of(source, tmp_path)
  for batch in take(data, 4):
    np.testing.assert_array_equal(batch["pair_type"], batch["index"] < 4)
    for i, image, partner, kind in zip(batch["index"], batch["image"], batch["partner"], batch["pair_type"]):
      part, own = (clips, i) if kind else (views, i - 4)
      assert image[0, 0, 0] == own and _kind(part[own], part[partner[0, 0, 0]], PairsConfig()) == PAIR_KINDS[kind]


def test_pairs_that_lie_in_one_record(tmp_path):
  photos = tmp_path / "photos"
  photos.mkdir()
  for i in range(4):
    cv2.imwrite(str(photos / f"{i}.png"), np.full((20 + i, 10, 3), 50 * i, np.uint8))
  (tmp_path / "pairs.txt").write_text(
    "0.png\t1.png\tview\n3.png\t2.png\tpose\n1.png\t2.png\tstereo\n2.png\t9.png\tview\n"
  )
  request = PrepareRequest("folder", str(photos), side_files=SideFiles(pairs=str(tmp_path / "pairs.txt")))
  prepare_dataset(request, tmp_path / "set", progress=False)
  data = open_data(tmp_path, source="arrayrecord", path=str(tmp_path / "set"), **(OPTIONS | {"batch_size": 2}))
  (batch,) = take(data, 1)
  pairs = sorted(zip(batch["image"][:, 0, 0, 0], batch["partner"][:, 0, 0, 0], batch["pair_type"]))
  assert pairs == [(0, 50, 0), (150, 100, 1)]
  canvas, hw = decode_image((photos / "1.png").read_bytes(), CANVAS_HW)
  row = int(np.argmin(batch["pair_type"]))
  assert (batch["partner"][row] == canvas).all() and tuple(batch["partner_hw"][row]) == hw
  assert len(data) == 2 and "of a kind that is not wanted" in data.damage.lines()[0]
