"""saip doctor: its findings and files for a folder with every fault, and for every container."""

import json
import os
import struct
import warnings
import zlib

import fsspec
import numpy as np
import pytest
from PIL import Image

from input_pipeline.doctor.checkup import doctor
from input_pipeline.doctor.examine import examine_images
from input_pipeline.doctor.report import doctor_report
from tests.support.damaged_files import make_files, write_folder, write_lmdb, write_tars, write_zip
from tests.support.noise_pictures import Named, encoded, noise


def _bomb():
  """A PNG of 60 bytes that declares 60,000 x 60,000 pixels."""

  def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(bytes(10)))
    + chunk(b"IEND", b"")
  )


def _faulty_set(root):
  """Name -> content of twenty good photos and one or more files with every fault."""
  exif = Image.Exif()
  exif[0x0112] = 6
  good = encoded(noise(0))
  files = {f"good_{i:02d}.jpg": encoded(noise(i)) for i in range(20)}
  files |= {
    "copy_of_00.jpg": good,
    "copies/of_00.jpg": good,
    "near_01.jpg": encoded(noise(1), quality=60),
    "gray.jpg": encoded(Image.fromarray(noise(40)).convert("L")),
    "blank_a.png": encoded(np.full((200, 100, 3), 7, np.uint8), "PNG"),
    "blank_b.png": encoded(np.full((90, 70, 3), 250, np.uint8), "PNG"),
    "tiny.jpg": encoded(noise(41, (40, 20))),
    "large.jpg": encoded(noise(42, (2000, 1500))),
    "really_png.jpg": encoded(noise(43), "PNG"),
    "turned.jpg": encoded(noise(44, (100, 300)), exif=exif),
    "cmyk.jpg": encoded(Image.fromarray(noise(45)).convert("CMYK")),
    "deep.png": encoded(Image.fromarray(noise(46)[..., 0].astype(np.uint16) * 257), "PNG"),
    "clear.png": encoded(Image.fromarray(np.dstack([noise(47), noise(48)[..., 0]])), "PNG"),
    "moving.webp": encoded(
      Image.fromarray(noise(49)), "WEBP", save_all=True, append_images=[Image.fromarray(noise(50))]
    ),
    "mask.png": encoded(np.kron(np.arange(8, dtype=np.uint8).reshape(4, 2), np.full((64, 64), 30, np.uint8)), "PNG"),
    "empty.jpg": b"",
    "cut.jpg": good[: len(good) // 2],
    "page.jpg": b"<!DOCTYPE html><html>not found</html>",
    "drawing.png": encoded(noise(51), "GIF"),
    "phone.jpg": b"\0\0\0\x18ftypheic" + bytes(100),
    "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\n",
    "bomb.png": _bomb(),
    "noise.jpg": np.random.default_rng(0).bytes(500),
  }
  for name, content in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  (root / "folder.jpg").mkdir()
  (root / "dangling.jpg").symlink_to(root / "gone")
  with open(os.path.join(os.fsencode(root), b"caf\xe9.jpg"), "wb") as file:
    file.write(encoded(noise(60)))
  (root / "two\nlines.jpg").write_bytes(encoded(noise(61)))
  return root


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
  """(facts, folder of outputs) of the set with every fault."""
  folder = tmp_path_factory.mktemp("doctor")
  facts = doctor(str(_faulty_set(folder / "set")), out=str(folder / "out"), subset=10, progress=False)
  return facts, folder / "out"


_UNREADABLE = {
  "empty.jpg": "zero bytes",
  "cut.jpg": "truncated",
  "page.jpg": "a web page (HTML), not the JPEG",
  "drawing.png": "a GIF, not the PNG",
  "phone.jpg": "HEIC",
  "pointer.jpg": "git lfs pull",
  "bomb.png": "too large",
  "noise.jpg": "not an image",
}


def test_every_damaged_file_is_named_with_its_reason(checked):
  facts, _ = checked
  found = {item["name"]: item["reason"] for item in facts["unreadable"]["images"]}
  assert set(found) == set(_UNREADABLE) and facts["unreadable"]["count"] == len(_UNREADABLE)
  assert all(part in found[name] for name, part in _UNREADABLE.items()), found
  assert {item["name"] for item in facts["left_out"]["images"]} == {"folder.jpg", "dangling.jpg"}
  assert set(facts["not_photos"]["names"]) == {"page.jpg", "drawing.png", "phone.jpg", "pointer.jpg"}
  assert facts["not_photos"]["formats"]["a HEIC photo"] == 1


@pytest.mark.parametrize(
  "trait, names",
  [
    ("wrong_extension", {"really_png.jpg"}),
    ("tiny", {"tiny.jpg"}),
    ("large", {"large.jpg"}),
    ("blank", {"blank_a.png", "blank_b.png"}),
    ("grey", {"gray.jpg", "blank_a.png", "blank_b.png", "deep.png", "mask.png"}),
    ("drawn", {"mask.png", "blank_a.png", "blank_b.png"}),
    ("rotated", {"turned.jpg"}),
    ("cmyk", {"cmyk.jpg"}),
    ("sixteen_bit", {"deep.png"}),
    ("transparent", {"clear.png"}),
    ("animated", {"moving.webp"}),
    ("name_not_utf8", {r"caf\xe9.jpg"}),
  ],
)
def test_traits_are_found(checked, trait, names):
  found = checked[0]["traits"][trait]
  assert set(found["names"]) == names and found["count"] == len(names)


def test_sizes_are_upright(checked):
  sizes = checked[0]["sizes"]
  assert sizes["height"]["max"] == 2000 and sizes["width"]["min"] == 20 and sizes["height"]["median"] == 256
  assert sizes["aspect"]["max"] == 3  # of the turned one, which is stored 100 high and 300 wide


def test_copies_are_grouped_but_not_blank_images(checked):
  exact, near = checked[0]["duplicates"]["exact"], checked[0]["duplicates"]["near"]
  assert [group["names"] for group in exact["biggest"]] == [["copies/of_00.jpg", "copy_of_00.jpg", "good_00.jpg"]]
  assert (exact["count"], exact["groups"], near["count"]) == (2, 1, 1)
  assert [set(group["names"]) for group in near["biggest"]] == [{"good_01.jpg", "near_01.jpg"}]


def test_text_has_the_worst_first_and_json_has_everything(checked):
  facts, out = checked
  text = doctor_report(facts)
  order = [
    text.index(title)
    for title in ("Damage", "Doubtful", "Copies", "Sizes", "Worth knowing", "Speed", "Advice", "Written")
  ]
  assert order == sorted(order)
  assert "1  a web page (HTML), not the JPEG that its extension declares (e.g. page.jpg)" in text
  assert "max_damaged_fraction" in text and "--scenes" in text and "nan" not in text.lower()
  assert all(line.isprintable() for line in text.splitlines())
  assert json.loads((out / "doctor.json").read_text()) == facts == json.loads(json.dumps(facts, allow_nan=False))


def test_files_beside_the_report(checked):
  facts, out = checked
  assert sorted(path.name for path in out.iterdir()) == [
    "doctor.json",
    "duplicates.txt",
    "sizes.png",
    "subset.txt",
    "unreadable.txt",
  ]
  lines = (out / "unreadable.txt").read_text().splitlines()
  assert len(lines) == facts["unreadable"]["count"] + facts["left_out"]["count"]
  assert "copies/of_00.jpg\ncopy_of_00.jpg\ngood_00.jpg\n\n" in (out / "duplicates.txt").read_text()
  with Image.open(out / "sizes.png") as picture:
    assert picture.width > 800


def test_without_out_nothing_is_written(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  root = tmp_path / "set"
  root.mkdir()
  (root / "a.jpg").write_bytes(encoded(noise(0)))
  facts = doctor(str(root), progress=False)
  assert [path.name for path in tmp_path.rglob("*")] == ["set", "a.jpg"] and facts["images"] == 1
  assert "none found" in doctor_report(facts)


def test_without_a_split_counts_are_compared_with_the_default_one(tmp_path):
  for folder in ("bounding_box_train", "query", "bounding_box_test"):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "0002_c1s1_000001_00.jpg").write_bytes(encoded(noise(1)))
  [sentence] = doctor(str(tmp_path), progress=False)["known"]
  assert "Market-1501 train has 12,936 (12,935 missing)" in sentence


def test_warnings_of_the_decoder_are_not_printed(tmp_path, monkeypatch):
  """Damaged EXIF, and a photo so large that Pillow warns."""
  exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 30
  Image.new("CMYK", (64, 128), "teal").save(tmp_path / "a.jpg", exif=exif)
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 128 - 1)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    facts = doctor(str(tmp_path), progress=False)
  assert facts["unreadable"]["count"] == 0 and not [each for each in caught if "PIL" in each.filename]


def test_buckets_are_examined_and_written_to():
  files = fsspec.filesystem("memory")
  files.pipe({f"/doctor/set/{i}.jpg": encoded(noise(i)) for i in range(3)})
  facts = doctor("memory://doctor/set", out="memory://doctor/out", subset=2, progress=False)
  assert facts["kind"] == "folder" and facts["unreadable"]["count"] == 0
  assert json.loads(files.cat_file("/doctor/out/doctor.json")) == facts
  assert len(files.cat_file("/doctor/out/subset.txt").splitlines()) == 4 and files.exists("/doctor/out/sizes.png")


def test_a_set_with_only_damaged_images_is_reported(tmp_path):
  (tmp_path / "set").mkdir()
  for i in range(3):
    (tmp_path / "set" / f"{i}.jpg").write_bytes(b"no photo at all")
  facts = doctor(str(tmp_path / "set"), out=str(tmp_path / "out"), progress=False)
  assert facts["unreadable"]["share"] == 1 and facts["speed"]["epoch_seconds"] is None
  assert "refuse" in doctor_report(facts) and (tmp_path / "out" / "sizes.png").exists()


def test_user_errors_are_one_line(tmp_path):
  root = tmp_path / "set"
  root.mkdir()
  (root / "a.jpg").write_bytes(encoded(noise(0)))
  (tmp_path / "file").write_text("x")
  for options, part in [
    ({"out": str(root / "report")}, "is inside the data set"),
    ({"out": str(tmp_path / "file" / "x")}, "--out="),
    ({"subset": 1}, "--out"),
    ({"subset": 2, "out": str(tmp_path / "out")}, "1 images"),
    ({"limit": 0}, "--all"),
    ({"source": "nonsense"}, "nonsense"),
    ({"split": "train"}, "split"),
  ]:
    with pytest.raises(ValueError) as error:
      doctor(str(root), progress=False, **options)
    assert part in str(error.value) and "\n" not in str(error.value)
  with pytest.raises(ValueError, match="does not exist"):
    doctor(str(tmp_path / "none"), progress=False)


@pytest.mark.parametrize("kind", ["folder", "webdataset", "zip", "lmdb"])
def test_damage_in_every_kind_of_container_is_counted(tmp_path, kind):
  if kind == "lmdb":
    pytest.importorskip("lmdb")
  files = make_files()
  path = {
    "folder": lambda: write_folder(tmp_path / "set", files),
    "webdataset": lambda: write_tars(tmp_path / "set", files),
    "zip": lambda: write_zip(tmp_path / "set.zip", files),
    "lmdb": lambda: write_lmdb(tmp_path / "set", files),
  }[kind]()
  facts = doctor(str(path), out=str(tmp_path / "out"), progress=False)
  assert facts["kind"] == kind
  assert facts["unreadable"]["count"] + facts["left_out"]["count"] >= len(files.damaged)
  assert facts["examined"] - facts["unreadable"]["count"] >= len(files.good)
  named = (tmp_path / "out" / "unreadable.txt").read_text()
  assert all(f"{name}: " in named for name in files.damaged if name.isascii())


def test_a_sample_is_reproducible_and_survives_errors_of_a_reader():
  source = Named([f"{i}.jpg" for i in range(50)], {"7.jpg"})
  first, again = (examine_images(source, limit=20, seed=3, threads=4, progress=False) for _ in range(2))
  other = examine_images(source, limit=20, seed=4, threads=1, progress=False)
  assert len(first) == 20 and (first.positions == again.positions).all() and (first.digests == again.digests).all()
  assert (first.positions != other.positions).any() and (np.diff(first.positions) > 0).all()
  everything = examine_images(source, limit=None, seed=0, threads=4, progress=False)
  assert everything.unreadable == {7: "damaged image: RuntimeError: the reader broke"}
  assert len(everything.readable) == 49 and everything.timed_images == 49
