"""Names with different spelling on disk and in lists, lists from Windows, and names that are not UTF-8."""

import os
import unicodedata

import pytest

from input_pipeline.prepare.prepare import prepare_dataset
from input_pipeline.prepare.shard import PrepareRequest
from input_pipeline.sources.annotated.photos import NO_PHOTO, Photos
from input_pipeline.sources.spelling import spelling
from input_pipeline.sources.subset import read_subset, write_subset
from input_pipeline.sources.table import open_source
from saip_jax import cli
from tests.support.annotated_photos import annotation, coco, names, write_json, write_photo
from tests.support.noise_pictures import Named

WINDOWS = {
  "bom": lambda text: b"\xef\xbb\xbf" + text.encode(),
  "crlf": lambda text: text.replace("\n", "\r\n").encode(),
  "bom_crlf": lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
  "utf16": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
  "blank_lines": lambda text: ("\n" + text.replace("\n", "\n\n") + "  \n").encode(),
}


def _open(kind, path, tmp_path, split=None, **options):
  return open_source(kind, str(path), split=split, cache_dir=str(tmp_path / "cache"), setting="--path", **options)


def _photos(root, *names):
  for name in names:
    path = os.path.join(os.fsencode(root), os.fsencode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
      pass
  return Photos(str(root))


def _listed(root, file_names, at="annotations/instances_train.json"):
  """A COCO JSON with a person in each image."""
  content = coco(
    [(k, name, 120, 160) for k, name in enumerate(file_names)],
    [annotation(k, k, [20, 20, 60, 80]) for k in range(len(file_names))],
  )
  write_json(root / at, content)


@pytest.mark.parametrize("form", WINDOWS)
def test_every_list_that_passed_through_windows_is_read(tmp_path, form):
  changed = WINDOWS[form]
  yolo = tmp_path / "yolo"
  write_photo(yolo / "images" / "a.jpg")
  write_photo(yolo / "images" / "b.jpg")
  for name in "ab":
    (yolo / "labels").mkdir(exist_ok=True)
    (yolo / "labels" / f"{name}.txt").write_bytes(changed("0 0.5 0.5 0.5 0.5\n0 0.25 0.5 0.5 0.5\n"))
  (yolo / "train.txt").write_bytes(changed("images/a.jpg\n./images/b.jpg\n"))
  (yolo / "data.yaml").write_text("train: train.txt\nnames: [person]\n")
  source = _open("yolo", yolo, tmp_path)
  assert len(source) == 4 and source.left_out == []

  msmt = tmp_path / "msmt"
  for number in range(2):
    (msmt / "train" / "0000").mkdir(parents=True, exist_ok=True)
    (msmt / "test").mkdir(exist_ok=True)
    (msmt / "train" / "0000" / f"0000_00{number}_01_x.jpg").write_bytes(b"x")
  (msmt / "list_train.txt").write_bytes(changed("".join(f"0000/0000_00{k}_01_x.jpg  0\n" for k in range(2))))
  assert len(_open("msmt17", msmt, tmp_path)) == 2

  lip = tmp_path / "lip"
  for stem in ("1_1", "2_2"):
    write_photo(lip / "train_images" / f"{stem}.jpg")
    write_photo(lip / "train_segmentations" / f"{stem}.png")
  (lip / "train_id.txt").write_bytes(changed("1_1\n2_2\n"))
  assert len(_open("lip", lip, tmp_path)) == 2

  (tmp_path / "subset.txt").write_bytes(changed("# a comment\nimages/a.jpg\n"))
  assert read_subset(str(tmp_path / "subset.txt"), Named(["images/b.jpg", "images/a.jpg"])).tolist() == [1]

  (tmp_path / "pairs.txt").write_bytes(changed("images/a.jpg\timages/B.JPG\tview\n"))
  request = PrepareRequest("folder", str(yolo), side_files=_pairs(tmp_path / "pairs.txt"))
  assert prepare_dataset(request, tmp_path / "prepared", progress=False)["count"] == 1


def _pairs(path):
  from input_pipeline.prepare.side_files import SideFiles

  return SideFiles(pairs=str(path))


def test_json_and_yaml_with_a_byte_order_mark_are_recognized_and_read(tmp_path):
  from input_pipeline.sources.recognize import recognize_source

  write_photo(tmp_path / "a.jpg")
  _listed(tmp_path, ["a.jpg"], "a.json")
  plain = (tmp_path / "a.json").read_text()
  for data in (b"\xef\xbb\xbf" + plain.encode(), plain.encode("utf-16")):
    (tmp_path / "a.json").write_bytes(data)
    assert recognize_source(str(tmp_path / "a.json")) == recognize_source(str(tmp_path)) == "coco"
    assert len(_open("coco", tmp_path / "a.json", tmp_path)) == 1


def test_yolo_numbers_with_other_separators_are_left_out_by_line(tmp_path):
  write_photo(tmp_path / "a.jpg")
  (tmp_path / "a.txt").write_text("0,0.5,0.5,0.5,0.5\n0 0,5 0,5 0,5 0,5\n0;0.5;0.5;0.5;0.5\n0 0.5 0.5 0.5 0.5\n")
  (tmp_path / "data.yaml").write_text("train: .\nnames: [person]\n")
  source = _open("yolo", tmp_path, tmp_path)
  assert names(source) == ["a.jpg#4"]
  assert [name for name, reason in source.left_out if "commas or semicolons" in reason] == [
    "a.jpg#1",
    "a.jpg#2",
    "a.jpg#3",
  ]


NFC, NFD = (unicodedata.normalize(form, "caf\xe9.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
  "listed, disk",
  [
    ("a.jpg", "a.JPG"),
    ("b.jpg", "B.jpeg"),
    (NFC, NFD),
    (NFD, NFC),
    ("e%20f.jpg", "e f.jpg"),
    ("e f.jpg", "e%20f.jpg"),
    ("g.jpg ", "g.jpg"),
    ("sub\\h.jpg", "sub/h.jpg"),
    ("/home/x/set/images/i.jpg", "images/i.jpg"),
    ("C:\\data\\images\\j.jpg", "images/j.jpg"),
    ("../images/k.jpg", "images/k.jpg"),
    ("caf%E9.jpg", "caf\udce9.jpg"),
    ("Train/A.jpg", "x/train/a.JPG"),
    ("./l.jpg", "l.jpg"),
  ],
)
def test_a_name_that_differs_only_in_spelling_is_found(tmp_path, listed, disk):
  photos = _photos(tmp_path, disk, "other.jpg")
  assert photos.find(listed) == (disk, "") == photos.find_all([listed, "other.jpg"])[0]


@pytest.mark.parametrize("listed", ["a.png", "b.jpg", "seq1/0.jpg", "xa.jpg"])
def test_other_names_are_not_found(tmp_path, listed):
  photos = _photos(tmp_path, "a.jpg", "seq2/0.jpg")
  assert photos.find(listed, base_is_enough=False) == (None, NO_PHOTO)


def test_ambiguous_photos_are_refused_with_the_difference(tmp_path):
  photo, reason = _photos(tmp_path, "A.jpg", "a.JPG").find("a.jpg")
  assert photo is None and "A.jpg, a.JPG" in reason and "only in case, Unicode form" in reason
  assert _photos(tmp_path, "a.jpg").find("a.jpg") == ("a.jpg", "")  # as it is written


def test_no_photo_is_found_for_two_names(tmp_path):
  photos = _photos(tmp_path, "a.jpg", "seq/cam1/0.jpg")
  [(first, _), (second, reason)] = photos.find_all(["a.jpg", "A.JPG"])
  assert first == "a.jpg" and second is None and reason.startswith(NO_PHOTO) and "the list also names a.jpg" in reason
  found = photos.find_all(["/x/seq/cam1/0.jpg", "/x/gone/cam1/0.jpg"])  # the same name, another sequence
  assert found == [("seq/cam1/0.jpg", ""), (None, NO_PHOTO)]


def test_the_photo_beside_its_json_wins(tmp_path):
  for split in ("train", "valid", "test"):
    write_photo(tmp_path / split / "000000.jpg")
    _listed(tmp_path / split, ["000000.jpg"], "_annotations.coco.json")
    write_photo(tmp_path / "deep" / split / "images" / "1.jpg")
    _listed(tmp_path / "deep" / split, ["1.jpg"], "annotations/instances.json")
  for split in (None, "valid", "val", "test"):
    folder = {None: "train", "val": "valid"}.get(split, split)
    assert names(_open("coco", tmp_path, tmp_path, split)) == [f"{folder}/000000.jpg#0"]
    assert names(_open("coco", tmp_path / "deep", tmp_path, split)) == [f"{folder}/images/1.jpg#0"]


def test_settings_beside_the_folders_of_the_splits_are_not_annotations(tmp_path, capsys):
  for split in ("train", "valid"):
    write_photo(tmp_path / "set" / split / "0.jpg")
    _listed(tmp_path / "set" / split, ["0.jpg"], "_annotations.coco.json")
  write_json(tmp_path / "set" / "export.json", {"project": "x", "version": 3})
  assert names(_open("coco", tmp_path / "set", tmp_path)) == ["train/0.jpg#0"]
  assert cli.main(["doctor", str(tmp_path / "set")]) == 0
  printed = capsys.readouterr().out
  assert "read as coco" in printed
  assert "Annotations that were not read: valid/_annotations.coco.json" in printed


def test_a_subset_of_names_that_are_spelled_differently(tmp_path):
  path = tmp_path / "subset.txt"
  path.write_text(f"{NFD}\nA.JPG\n")
  source = Named(["a.jpg", NFC, "b.jpg"])
  assert read_subset(str(path), source).tolist() == [0, 1]
  with pytest.raises(ValueError, match="1 of the 2 names.*first 'A.JPG'; it differs from a.jpg and A.jpg only in case"):
    read_subset(str(path), Named(["a.jpg", "A.jpg", NFC]))
  with pytest.raises(ValueError, match="it was made for other data"):
    read_subset(str(path), Named([NFC, "b.jpg"]))


def test_spelling_keeps_other_differences():
  assert len({spelling(name) for name in ("a.jpg", "a.png", "b/a.jpg", "ab.jpg", "\udce9.jpg", "\udce8.jpg")}) == 6


LATIN = "donn\udce9es"


def test_names_that_are_not_utf8_pass_through_lists_and_prepared_sets(tmp_path):
  root = os.path.join(str(tmp_path), LATIN)
  os.makedirs(os.path.join(root, "images", LATIN))
  write_photo(tmp_path / "a.jpg")
  for k in range(3):
    os.link(tmp_path / "a.jpg", os.path.join(root, "images", LATIN, f"{k}.jpg"))
  source = _open("folder", root, tmp_path)
  subset = os.path.join(root, "subset.txt")
  chosen = write_subset(subset, source, 2, 0)
  out = os.path.join(str(tmp_path), f"prepared_{LATIN}")
  manifest = prepare_dataset(PrepareRequest("folder", root, subset=subset), out, progress=False)
  prepared = _open("arrayrecord", out, tmp_path)
  assert manifest["count"] == len(prepared) == 2
  assert [prepared.name(i) for i in range(2)] == [source.name(i) for i in chosen.tolist()]


def test_a_list_in_another_encoding_names_the_bytes_of_the_disk(tmp_path):
  """A JSON in the encoding of a Chinese Windows, and its folder."""
  write_photo(tmp_path / "x.jpg")
  os.rename(tmp_path / "x.jpg", os.path.join(os.fsencode(tmp_path), "\u4eba.jpg".encode("gbk")))
  _listed(tmp_path, ["NAME.jpg"], "a.json")
  (tmp_path / "a.json").write_bytes((tmp_path / "a.json").read_bytes().replace(b"NAME", "\u4eba".encode("gbk")))
  assert os.fsencode(_open("coco", tmp_path, tmp_path).name(0)) == "\u4eba.jpg#0".encode("gbk")
