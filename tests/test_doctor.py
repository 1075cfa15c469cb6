"""The doctor: what it finds in a folder of every fault, known sets by count, copies, subsets, text, files."""

import io
import json
import os
import pathlib
import shutil
import struct
import zlib

import cv2
import fsspec
import numpy as np
import pytest
from damaged_files import make_files, write_folder, write_lmdb, write_tars, write_zip
from hypothesis import given, settings, strategies as st
from PIL import Image

from input_pipeline.doctor.checkup import doctor
from input_pipeline.doctor.duplicates import NEAR_BITS, exact_groups, near_groups
from input_pipeline.doctor.examine import examine
from input_pipeline.doctor.formats import format_of
from input_pipeline.doctor.known_sets import known_sets
from input_pipeline.doctor.picture import draw_sizes
from input_pipeline.doctor.report import duration, report_text
from input_pipeline.sources.folder import FolderSource
from input_pipeline.sources.base import ImageSource
from input_pipeline.sources.subset import choose_subset, read_subset, write_subset

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"


def _photo(seed, hw=(256, 128)):
  """Something with the contrast and colours of a photo, and unlike that of any other seed."""
  cells = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8)
  return cv2.resize(cells, hw[::-1], interpolation=cv2.INTER_CUBIC)


def _encoded(image, kind="JPEG", **options):
  buffer = io.BytesIO()
  (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
  return buffer.getvalue()


def _bomb():
  """A PNG of 60 bytes that declares 60,000 x 60,000 pixels."""
  def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
  return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
          + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b""))


def _faulty_set(root):
  """Twenty good photos and one or more of every fault; name -> content."""
  exif = Image.Exif()
  exif[0x0112] = 6
  good = _encoded(_photo(0))
  files = {f"good_{i:02d}.jpg": _encoded(_photo(i)) for i in range(20)}
  files |= {
      "copy_of_00.jpg": good, "copies/of_00.jpg": good, "near_01.jpg": _encoded(_photo(1), quality=60),
      "grey.jpg": _encoded(Image.fromarray(_photo(40)).convert("L")),
      "blank_a.png": _encoded(np.full((200, 100, 3), 7, np.uint8), "PNG"),
      "blank_b.png": _encoded(np.full((90, 70, 3), 250, np.uint8), "PNG"),
      "tiny.jpg": _encoded(_photo(41, (40, 20))), "large.jpg": _encoded(_photo(42, (2000, 1500))),
      "really_png.jpg": _encoded(_photo(43), "PNG"), "turned.jpg": _encoded(_photo(44, (100, 300)), exif=exif),
      "cmyk.jpg": _encoded(Image.fromarray(_photo(45)).convert("CMYK")),
      "deep.png": _encoded(Image.fromarray(_photo(46)[..., 0].astype(np.uint16) * 257), "PNG"),
      "clear.png": _encoded(Image.fromarray(np.dstack([_photo(47), _photo(48)[..., 0]])), "PNG"),
      "moving.webp": _encoded(Image.fromarray(_photo(49)), "WEBP", save_all=True,
                              append_images=[Image.fromarray(_photo(50))]),
      "mask.png": _encoded(np.kron(np.arange(8, dtype=np.uint8).reshape(4, 2), np.full((64, 64), 30, np.uint8)), "PNG"),
      "empty.jpg": b"", "cut.jpg": good[:len(good) // 2], "page.jpg": b"<!DOCTYPE html><html>not found</html>",
      "drawing.png": _encoded(_photo(51), "GIF"), "phone.jpg": b"\0\0\0\x18ftypheic" + bytes(100),
      "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\n", "bomb.png": _bomb(),
      "noise.jpg": np.random.default_rng(0).bytes(500),
  }
  for name, content in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  (root / "folder.jpg").mkdir()
  (root / "dangling.jpg").symlink_to(root / "gone")
  with open(os.path.join(os.fsencode(root), b"caf\xe9.jpg"), "wb") as file:
    file.write(_encoded(_photo(60)))
  (root / "two\nlines.jpg").write_bytes(_encoded(_photo(61)))
  return root


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
  """(facts, folder of outputs) of the set with every fault."""
  folder = tmp_path_factory.mktemp("doctor")
  facts = doctor(str(_faulty_set(folder / "set")), out=str(folder / "out"), subset=10, progress=False)
  return facts, folder / "out"


_UNREADABLE = {"empty.jpg": "zero bytes", "cut.jpg": "truncated", "page.jpg": "a web page (HTML), not the JPEG",
               "drawing.png": "a GIF, not the PNG", "phone.jpg": "HEIC", "pointer.jpg": "git lfs pull",
               "bomb.png": "too large", "noise.jpg": "not an image"}


def test_every_damaged_file_is_named_with_its_reason(checked):
  facts, _ = checked
  found = {item["name"]: item["reason"] for item in facts["unreadable"]["images"]}
  assert set(found) == set(_UNREADABLE) and facts["unreadable"]["count"] == len(_UNREADABLE)
  assert all(part in found[name] for name, part in _UNREADABLE.items()), found
  assert {item["name"] for item in facts["left_out"]["images"]} == {"folder.jpg", "dangling.jpg"}
  assert set(facts["not_photos"]["names"]) == {"page.jpg", "drawing.png", "phone.jpg", "pointer.jpg"}
  assert facts["not_photos"]["formats"]["a HEIC photo"] == 1


@pytest.mark.parametrize("trait, names", [
    ("wrong_extension", {"really_png.jpg"}),
    ("tiny", {"tiny.jpg"}),
    ("large", {"large.jpg"}),
    ("blank", {"blank_a.png", "blank_b.png"}),
    ("grey", {"grey.jpg", "blank_a.png", "blank_b.png", "deep.png", "mask.png"}),
    ("drawn", {"mask.png", "blank_a.png", "blank_b.png"}),
    ("rotated", {"turned.jpg"}),
    ("cmyk", {"cmyk.jpg"}),
    ("sixteen_bit", {"deep.png"}),
    ("transparent", {"clear.png"}),
    ("animated", {"moving.webp"}),
    ("name_not_utf8", {r"caf\xe9.jpg"}),
])
def test_what_stands_out_is_noted(checked, trait, names):
  found = checked[0]["traits"][trait]
  assert set(found["names"]) == names and found["count"] == len(names)


def test_sizes_are_upright(checked):
  sizes = checked[0]["sizes"]
  assert sizes["height"]["max"] == 2000 and sizes["width"]["min"] == 20 and sizes["height"]["median"] == 256
  assert sizes["aspect"]["max"] == 3  # of the turned one, which is stored 100 high and 300 wide


def test_copies_are_grouped_and_blank_pictures_are_no_copies_of_each_other(checked):
  exact, near = checked[0]["duplicates"]["exact"], checked[0]["duplicates"]["near"]
  assert [group["names"] for group in exact["biggest"]] == [["copies/of_00.jpg", "copy_of_00.jpg", "good_00.jpg"]]
  assert (exact["count"], exact["groups"], near["count"]) == (2, 1, 1)
  assert [set(group["names"]) for group in near["biggest"]] == [{"good_01.jpg", "near_01.jpg"}]


def test_text_tells_the_worst_first_and_json_holds_everything(checked):
  facts, out = checked
  text = report_text(facts)
  order = [text.index(title) for title in ("Damage", "Doubtful", "Copies", "Sizes", "Worth knowing", "Speed", "Advice",
                                               "Written")]
  assert order == sorted(order)
  assert "1  a web page (HTML), not the JPEG that its name says (e.g. page.jpg)" in text
  assert "max_damaged_fraction" in text and "--scenes" in text and "nan" not in text.lower()
  assert all(line.isprintable() for line in text.splitlines())
  assert json.loads((out / "doctor.json").read_text()) == facts == json.loads(json.dumps(facts, allow_nan=False))


def test_files_beside_the_report(checked):
  facts, out = checked
  assert sorted(path.name for path in out.iterdir()) == [
      "doctor.json", "duplicates.txt", "sizes.png", "subset.txt", "unreadable.txt"]
  lines = (out / "unreadable.txt").read_text().splitlines()
  assert len(lines) == facts["unreadable"]["count"] + facts["left_out"]["count"]
  assert "copies/of_00.jpg\ncopy_of_00.jpg\ngood_00.jpg\n\n" in (out / "duplicates.txt").read_text()
  with Image.open(out / "sizes.png") as picture:
    assert picture.width > 800


def test_without_out_nothing_is_written(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  root = tmp_path / "set"
  root.mkdir()
  (root / "a.jpg").write_bytes(_encoded(_photo(0)))
  facts = doctor(str(root), progress=False)
  assert [path.name for path in tmp_path.rglob("*")] == ["set", "a.jpg"] and facts["images"] == 1
  assert "none found" in report_text(facts)


def test_buckets_are_examined_and_written_to():
  files = fsspec.filesystem("memory")
  files.pipe({f"/doctor/set/{i}.jpg": _encoded(_photo(i)) for i in range(3)})
  facts = doctor("memory://doctor/set", out="memory://doctor/out", subset=2, progress=False)
  assert facts["kind"] == "folder" and facts["unreadable"]["count"] == 0
  assert json.loads(files.cat_file("/doctor/out/doctor.json")) == facts
  assert len(files.cat_file("/doctor/out/subset.txt").splitlines()) == 4 and files.exists("/doctor/out/sizes.png")


def test_a_set_of_nothing_but_damage_is_survived(tmp_path):
  (tmp_path / "set").mkdir()
  for i in range(3):
    (tmp_path / "set" / f"{i}.jpg").write_bytes(b"no photo at all")
  facts = doctor(str(tmp_path / "set"), out=str(tmp_path / "out"), progress=False)
  assert facts["unreadable"]["share"] == 1 and facts["speed"]["epoch_seconds"] is None
  assert "refuse" in report_text(facts) and (tmp_path / "out" / "sizes.png").exists()


def test_mistakes_are_one_line(tmp_path):
  root = tmp_path / "set"
  root.mkdir()
  (root / "a.jpg").write_bytes(_encoded(_photo(0)))
  (tmp_path / "file").write_text("x")
  for options, part in [
      ({"out": str(root / "report")}, "lies in the data set"), ({"out": str(tmp_path / "file" / "x")}, "--out="),
      ({"subset": 1}, "--out"), ({"subset": 2, "out": str(tmp_path / "out")}, "1 images"), ({"limit": 0}, "--all"),
      ({"source": "nonsense"}, "nonsense"), ({"split": "train"}, "split")]:
    with pytest.raises(ValueError) as error:
      doctor(str(root), progress=False, **options)
    assert part in str(error.value) and "\n" not in str(error.value)
  with pytest.raises(ValueError, match="does not exist"):
    doctor(str(tmp_path / "none"), progress=False)


@pytest.mark.parametrize("kind", ["folder", "webdataset", "zip", "lmdb"])
def test_damage_in_every_kind_of_container_is_survived_and_counted(tmp_path, kind):
  if kind == "lmdb":
    pytest.importorskip("lmdb")
  files = make_files()
  path = {"folder": lambda: write_folder(tmp_path / "set", files), "webdataset": lambda: write_tars(tmp_path / "set",
          files), "zip": lambda: write_zip(tmp_path / "set.zip", files),
          "lmdb": lambda: write_lmdb(tmp_path / "set", files)}[kind]()
  facts = doctor(str(path), out=str(tmp_path / "out"), progress=False)
  assert facts["kind"] == kind
  assert facts["unreadable"]["count"] + facts["left_out"]["count"] >= len(files.damaged)
  assert facts["examined"] - facts["unreadable"]["count"] >= len(files.good)
  named = (tmp_path / "out" / "unreadable.txt").read_text()
  assert all(f"{name}: " in named for name in files.damaged if name.isascii())


class _Named(ImageSource):
  """Photos by name; whatever `failing` names raises something odd."""

  identity = {"source": "folder", "name": "named", "length": 0, "digest": "0"}

  def __init__(self, names, failing=()):
    self._names, self._failing = names, failing

  def __len__(self):
    return len(self._names)

  def read(self, i):
    if self._names[i] in self._failing:
      raise RuntimeError("the reader broke")
    return _encoded(_photo(i, (64, 32)))

  def name(self, i):
    return self._names[i]


def test_a_sample_is_the_same_again_and_no_error_of_a_reader_ends_it():
  source = _Named([f"{i}.jpg" for i in range(50)], {"7.jpg"})
  first, again = (examine(source, limit=20, seed=3, threads=4, progress=False) for _ in range(2))
  other = examine(source, limit=20, seed=4, threads=1, progress=False)
  assert len(first) == 20 and (first.positions == again.positions).all() and (first.digests == again.digests).all()
  assert (first.positions != other.positions).any() and (np.diff(first.positions) > 0).all()
  everything = examine(source, limit=None, seed=0, threads=4, progress=False)
  assert everything.unreadable == {7: "damaged image: RuntimeError: the reader broke"}
  assert len(everything.readable) == 49 and everything.timed_images == 49


@pytest.mark.parametrize("kind, length, parts", [
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
])
def test_known_sets_by_count(tmp_path, kind, length, parts):
  [sentence] = known_sets(kind, str(tmp_path), length)
  assert all(part in sentence for part in parts), sentence


@pytest.mark.parametrize("kind, length", [("folder", 1), ("folder", 3_400), ("lmdb", 4_000_000), ("folder", 12_935),
                                          ("folder", 10_000)])
def test_other_counts_are_no_known_set(tmp_path, kind, length):
  assert known_sets(kind, str(tmp_path), length) == []


@pytest.mark.parametrize("version, folders", [("V1", ("train", "test")), ("V2", ("mask_train_v2", "mask_test_v2"))])
def test_msmt17_versions_by_layout(tmp_path, version, folders):
  for folder in folders:
    (tmp_path / folder).mkdir()
  (tmp_path / "list_train.txt").write_text("")
  assert any(f"MSMT17 {version}" in sentence and "cannot be compared" in sentence
             for sentence in known_sets("msmt17", str(tmp_path), 30_248))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_near_copies_are_found_however_the_bits_differ(seed):
  rng = np.random.default_rng(seed)
  outlines = rng.integers(0, 1 << 63, 300).astype(np.uint64)
  thumbnails = rng.integers(0, 256, (300, 64)).astype(np.uint8)
  bits = rng.choice(64, rng.integers(0, NEAR_BITS + 1), replace=False)
  copy, original = sorted(rng.choice(300, 2, replace=False))
  outlines[copy] = outlines[original] ^ np.uint64(sum(1 << int(bit) for bit in bits))
  thumbnails[copy] = thumbnails[original]
  assert [group.tolist() for group in near_groups(outlines, thumbnails)] == [[copy, original]]


def test_copies_of_many_alike_end_in_time_and_empty_sets_have_none():
  walls = np.zeros(5000, np.uint64)
  assert [len(group) for group in near_groups(walls, np.zeros((5000, 64), np.uint8))] == [5000]
  assert near_groups(walls, np.random.default_rng(0).integers(0, 256, (5000, 64)).astype(np.uint8)) == []
  assert near_groups(walls[:0], np.zeros((0, 64), np.uint8)) == [] == exact_groups(np.zeros((0, 2), np.uint64))


_NAMES = st.lists(st.binary(max_size=12), min_size=1, max_size=60, unique=True)


@given(_NAMES, st.data(), st.integers(0, 5))
@settings(deadline=None)
def test_subsets_are_nested_exact_and_know_no_order(names, data, seed):
  count = data.draw(st.integers(1, len(names)))
  smaller = data.draw(st.integers(1, count))
  shuffled = data.draw(st.permutations(names))
  chosen = choose_subset(names, count, seed)
  assert len(chosen) == count and (np.diff(chosen) > 0).all()
  assert {names[i] for i in chosen} == {shuffled[i] for i in choose_subset(shuffled, count, seed)}
  assert set(choose_subset(names, smaller, seed)) <= set(chosen)


def test_a_subset_is_the_same_for_ever_and_another_with_another_seed():
  names = [b"%d.jpg" % i for i in range(1000)]
  assert choose_subset(names, 5, 0).tolist() == [191, 563, 852, 928, 973]
  assert set(choose_subset(names, 500, 0)) != set(choose_subset(names, 500, 1))


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1, unique=True),
       st.data())
@settings(deadline=None, max_examples=50)
def test_a_written_subset_is_read_back_whatever_the_names(tmp_path_factory, names, data):
  path = str(tmp_path_factory.mktemp("subset") / "subset.txt")
  names = names + ["caf\udce9.jpg", "#header.jpg", "# header\n\\n.jpg"]
  source = _Named(list(dict.fromkeys(names)))
  count = data.draw(st.integers(1, len(source)))
  chosen = write_subset(path, source, count, 0)
  assert (read_subset(path, source) == chosen).all()
  again = _Named(data.draw(st.permutations(source._names)) + ["one more"])
  assert {again.name(i) for i in read_subset(path, again)} == {source.name(i) for i in chosen}


def test_a_subset_of_other_data_or_too_large_is_refused(tmp_path):
  path = str(tmp_path / "subset.txt")
  write_subset(path, _Named(["a", "b", "c"]), 3, 0)
  assert pathlib.Path(path).read_text().startswith("# 3 of the 3 images of folder 'named'")
  for call, part in [(lambda: read_subset(path, _Named(["a", "x"])), "2 of the 3 names"),
                     (lambda: write_subset(path, _Named(["a"]), 2, 0), "only 1"),
                     (lambda: choose_subset([b"a"], 0, 0), "1 or more"),
                     (lambda: read_subset(str(tmp_path / "none"), _Named(["a"])), "cannot be read"),
                     (lambda: write_subset(str(tmp_path / "no" / "x"), _Named(["a"]), 1, 0), "cannot be written")]:
    with pytest.raises(ValueError) as error:
      call()
    assert part in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("data, words", [
    (b"\xff\xd8\xff\xe0", "JPEG"), (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"), (b"II*\0", "a TIFF"), (b"%PDF-1.4", "a PDF"),
    (b"\0\0\0\x1cftypavif", "an AVIF photo"), (b"\0\0\0\x1cftypisom", "a video"), (b"\x80\x04\x95", "a Python pickle"),
    (b"PK\x03\x04", "a zip archive"), (b'{"a": 1}', "JSON"), ("é".encode() * 300, "text"),
    (bytes(20), "nothing but zeros"), (b"\xff\xfe\xfd", ""), (b"", "an empty file"),
])
def test_formats_in_words(data, words):
  assert format_of(data) == words


@given(st.binary(max_size=600))
@settings(deadline=None)
def test_no_bytes_confuse_the_doctor(data):
  format_of(data)
  class Source(_Named):
    def read(self, i):
      return data
  findings = examine(Source(["x.jpg"]), limit=None, seed=0, threads=1, progress=False)
  assert len(findings.unreadable) + len(findings.readable) == 1


def test_the_picture_of_sizes_takes_any_sizes():
  for hw in ([[1, 1]], [[1, 20_000], [20_000, 1]], np.zeros((0, 2), int)):
    assert draw_sizes(np.array(hw), r"odd $\name").startswith(b"\x89PNG")


def test_durations_are_in_a_unit_that_a_person_would_use():
  assert [duration(s) for s in (0.2, 30, 600, 20_000, 400_000)] == [
      "less than two seconds", "about 30 seconds", "about 10.0 minutes", "about 5.6 hours", "about 4.6 days"]


def test_a_real_set_and_copies_planted_in_it(tmp_path):
  if not SHARED.is_dir():
    pytest.skip(f"{SHARED} is not here")
  names = sorted(os.listdir(SHARED / "market1501_sample" / "train"))[:600]
  for name in names:
    shutil.copyfile(SHARED / "market1501_sample" / "train" / name, tmp_path / name)
  for k in range(20):  # saved again by somebody else, larger
    with Image.open(tmp_path / names[k * 25]) as image:
      image.resize((96, 192)).save(tmp_path / f"again_{k}.jpg", quality=80)
  groups = FolderSource(tmp_path, tmp_path / ".index")
  facts = doctor(str(tmp_path), source="folder", progress=False)
  near = facts["duplicates"]["near"]
  found = [group["names"] for group in near["biggest"]]
  assert len(groups) == facts["images"] == 620 and facts["unreadable"]["count"] == 0
  assert sum(f"again_{k}.jpg" in group and names[k * 25] in group for k in range(20) for group in found) >= 18
  identities = [{name[:4] for name in group if not name.startswith("again")} for group in found]
  assert all(len(group) == 1 for group in identities)  # nobody is taken for somebody else
