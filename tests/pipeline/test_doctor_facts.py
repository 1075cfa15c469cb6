"""saip doctor: known sets by their counts, near copies, formats by their first bytes."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from input_pipeline.doctor.duplicates import NEAR_BITS, exact_groups, near_groups
from input_pipeline.doctor.examine import examine_images
from input_pipeline.doctor.formats import format_of
from input_pipeline.doctor.known_sets import known_sets
from input_pipeline.doctor.picture import draw_sizes
from input_pipeline.doctor.report import duration
from tests.support.noise_pictures import Named


@pytest.mark.parametrize(
  "kind, length, parts",
  [
    ("folder", 4_180_243, ("exactly", "LUPerson", "not LUPerson-NL (10,683,716)")),
    ("lmdb", 10_683_716, ("exactly", "LUPerson-NL", "not LUPerson (4,180,243)")),
    ("lmdb", 4_170_243, ("about LUPerson,", "10,000 missing")),
    ("webdataset", 10_683_816, ("about LUPerson-NL", "100 more")),
    ("folder", 12_936, ("exactly", "Market-1501 train")),
    ("market1501", 11_499, ("not the number", "Market-1501 train", "1,437 missing")),
    ("market1501", 15_900, ("about Market-1501 gallery", "13 missing")),
    ("market1501", 19_732, ("exactly", "junk")),
    ("msmt17", 32_621, ("exactly", "MSMT17 train")),
    ("msmt17", 82_000, ("about MSMT17 gallery", "161 missing")),
    ("pa100k", 90_000, ("exactly", "PA-100K trainval")),
    ("folder", 30_462, ("exactly", "LIP train")),
  ],
)
def test_known_sets_by_count(tmp_path, kind, length, parts):
  [sentence] = known_sets(kind, str(tmp_path), length)
  assert all(part in sentence for part in parts), sentence


@pytest.mark.parametrize(
  "kind, length", [("folder", 1), ("folder", 3_400), ("lmdb", 4_000_000), ("folder", 12_935), ("folder", 10_000)]
)
def test_other_counts_match_no_known_set(tmp_path, kind, length):
  assert known_sets(kind, str(tmp_path), length) == []


@pytest.mark.parametrize(
  "kind, split, length, parts",
  [
    ("market1501", "train", 12, ("not the number of any part", "Market-1501 train has 12,936 (12,924 missing)")),
    ("market1501", "train", 19_732, ("exactly", "gallery with its junk")),  # a folder of its files alone
    ("pa100k", "train", 9_990, ("PA-100K train has 80,000 (70,010 missing)",)),
    ("rap", "train", 50_000, ("RAPv2 train has 50,957",)),
    ("market1501", "val", 12, None),
  ],
)
def test_counts_are_compared_with_the_opened_split(tmp_path, kind, split, length, parts):
  sentences = known_sets(kind, str(tmp_path), length, split)
  assert len(sentences) == (parts is not None) and all(part in sentences[0] for part in parts or ())


@pytest.mark.parametrize("version, folders", [("V1", ("train", "test")), ("V2", ("mask_train_v2", "mask_test_v2"))])
def test_msmt17_versions_by_layout(tmp_path, version, folders):
  for folder in folders:
    (tmp_path / folder).mkdir()
  (tmp_path / "list_train.txt").write_text("")
  assert any(
    f"MSMT17 {version}" in sentence and "cannot be compared" in sentence
    for sentence in known_sets("msmt17", str(tmp_path), 30_248)
  )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_near_copies_are_found_for_any_differing_bits(seed):
  rng = np.random.default_rng(seed)
  outlines = rng.integers(0, 1 << 63, 300).astype(np.uint64)
  thumbnails = rng.integers(0, 256, (300, 64)).astype(np.uint8)
  bits = rng.choice(64, rng.integers(0, NEAR_BITS + 1), replace=False)
  copy, original = sorted(rng.choice(300, 2, replace=False))
  outlines[copy] = outlines[original] ^ np.uint64(sum(1 << int(bit) for bit in bits))
  thumbnails[copy] = thumbnails[original]
  assert [group.tolist() for group in near_groups(outlines, thumbnails)] == [[copy, original]]


def test_many_equal_images_take_bounded_time_and_empty_sets_have_no_copies():
  walls = np.zeros(5000, np.uint64)
  assert [len(group) for group in near_groups(walls, np.zeros((5000, 64), np.uint8))] == [5000]
  assert near_groups(walls, np.random.default_rng(0).integers(0, 256, (5000, 64)).astype(np.uint8)) == []
  assert near_groups(walls[:0], np.zeros((0, 64), np.uint8)) == [] == exact_groups(np.zeros((0, 2), np.uint64))


@pytest.mark.parametrize(
  "data, words",
  [
    (b"\xff\xd8\xff\xe0", "JPEG"),
    (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
    (b"II*\0", "a TIFF"),
    (b"%PDF-1.4", "a PDF"),
    (b"\0\0\0\x1cftypavif", "an AVIF photo"),
    (b"\0\0\0\x1cftypisom", "a video"),
    (b"\x80\x04\x95", "a Python pickle"),
    (b"PK\x03\x04", "a zip archive"),
    (b'{"a": 1}', "JSON"),
    ("é".encode() * 300, "text"),
    (bytes(20), "nothing but zeros"),
    (b"\xff\xfe\xfd", ""),
    (b"", "an empty file"),
  ],
)
def test_formats_are_described(data, words):
  assert format_of(data) == words


@given(st.binary(max_size=600))
@settings(deadline=None)
def test_any_bytes_are_examined(data):
  format_of(data)

  class Source(Named):
    def read(self, i):
      return data

  findings = examine_images(Source(["x.jpg"]), limit=None, seed=0, threads=1, progress=False)
  assert len(findings.unreadable) + len(findings.readable) == 1


def test_the_picture_of_sizes_takes_any_sizes():
  for hw in ([[1, 1]], [[1, 20_000], [20_000, 1]], np.zeros((0, 2), int)):
    assert draw_sizes(np.array(hw), r"odd $\name").startswith(b"\x89PNG")


def test_durations_are_in_a_suitable_unit():
  assert [duration(s) for s in (0.2, 30, 600, 20_000, 400_000)] == [
    "less than two seconds",
    "about 30 seconds",
    "about 10.0 minutes",
    "about 5.6 hours",
    "about 4.6 days",
  ]
