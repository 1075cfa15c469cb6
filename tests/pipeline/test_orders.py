"""One order for every kind of data: any number of hosts and workers, any start, and mixtures."""

import json
import shutil
import tarfile
import zipfile

import cv2
import numpy as np
import pytest

from input_pipeline.people.prepare import prepare_people
from input_pipeline.people.spec import SetSpec
from input_pipeline.prepare.prepare import prepare_dataset
from input_pipeline.prepare.shard import PrepareRequest
from input_pipeline.sources.kinds import SOURCE_KINDS
from tests.support.batches import assert_same, open_data, take

COUNT, BATCH = 22, 4


def _folder(root):
  root.mkdir()
  for i in range(COUNT):
    cv2.imwrite(str(root / f"{i + 1:04d}_c{i % 3 + 1}s1_{i:06d}_00.png"), np.full((40, 20, 3), i * 10, np.uint8))
  return root


def _webdataset(root, folder):
  root.mkdir()
  files = sorted(folder.iterdir())
  for number, part in enumerate((files[:9], files[9:])):
    with tarfile.open(root / f"part-{number}.tar", "w") as tar:
      for file in part:
        tar.add(file, file.name)
  return root / "part-{0..1}.tar"


def _zip(root, folder):
  with zipfile.ZipFile(root, "w", zipfile.ZIP_DEFLATED) as archive:
    for file in folder.iterdir():
      archive.write(file, f"photos/{file.name}")
  return root


def _lmdb(root, folder):
  lmdb = pytest.importorskip("lmdb")
  with lmdb.open(str(root), map_size=2**24) as database, database.begin(write=True) as transaction:
    for file in folder.iterdir():
      transaction.put(file.name.encode(), file.read_bytes())
  (root / "lock.mdb").unlink()
  return root


def _coco(root, folder):
  shutil.copytree(folder, root / "train")
  (root / "annotations").mkdir()
  files = sorted(folder.iterdir())
  (root / "annotations" / "instances_train.json").write_text(
    json.dumps(
      {
        "images": [{"id": i, "file_name": file.name, "height": 40, "width": 20} for i, file in enumerate(files)],
        "annotations": [
          {"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 20, 40], "iscrowd": 0} for i in range(COUNT)
        ],
        "categories": [{"id": 1, "name": "person"}],
      }
    )
  )
  return root


def _yolo(root, folder):
  shutil.copytree(folder, root / "images")
  (root / "labels").mkdir()
  for file in folder.iterdir():
    (root / "labels" / f"{file.stem}.txt").write_text("0 .5 .5 1 1\n")
  (root / "data.yaml").write_text("path: .\ntrain: images\nnames:\n  0: person\n")
  return root


def _pennfudan(root, folder):
  for name in ("PNGImages", "Annotation", "PedMasks"):
    (root / name).mkdir(parents=True)
  for file in folder.iterdir():
    shutil.copy(file, root / "PNGImages")
    cv2.imwrite(str(root / "PedMasks" / f"{file.stem}_mask.png"), np.ones((40, 20), np.uint8))
    (root / "Annotation" / f"{file.stem}.txt").write_text(
      f'Image filename : "PennFudanPed/PNGImages/{file.name}"\nImage size (X x Y x C) : 20 x 40 x 3\n'
      'Bounding box for object 1 "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : (1, 1) - (20, 40)\n'
    )
  return root


def _lsp(root, folder):
  scipy_io = pytest.importorskip("scipy.io")
  (root / "images").mkdir(parents=True)
  for i, file in enumerate(sorted(folder.iterdir())):
    cv2.imwrite(str(root / "images" / f"im{i + 1:05d}.jpg"), cv2.imread(str(file)))
  joints = np.ones((14, 3, COUNT))
  joints[:, 0], joints[:, 1] = np.linspace(2, 19, 14)[:, None], np.linspace(2, 39, 14)[:, None]
  scipy_io.savemat(root / "joints.mat", {"joints": joints})
  return root


def _market1501(root, folder):
  shutil.copytree(folder, root / "bounding_box_train")
  return root


def _msmt17(root, folder):
  lines = []
  for i, file in enumerate(sorted(folder.iterdir())):
    name = f"{i:04d}/{i:04d}_000_{i % 15 + 1:02d}_0303morning_0008_0.png"
    (root / "train" / f"{i:04d}").mkdir(parents=True)
    shutil.copy(file, root / "train" / name)
    lines.append(f"{name} {i}\n")
  (root / "list_train.txt").write_text("".join(lines))
  return root


def _arrayrecord(root, folder):
  prepare_dataset(PrepareRequest("folder", str(folder)), root, progress=False)
  return root


def _people(root, folder):
  return prepare_people(root, SetSpec("crops", (40, 20), 0, 12), 36, progress=False)


def _tfds(root, folder):
  tfds = pytest.importorskip("tensorflow_datasets")
  from input_pipeline.tfds.saip_records.saip_records_dataset_builder import Builder

  builder = Builder(data_dir=root, file_format="array_record")
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=_arrayrecord(root.parent / "for_tfds", folder))
  )
  return builder.data_dir


def _lip(root, folder):
  files = sorted(folder.iterdir())
  (root / "train_segmentations").mkdir(parents=True)
  shutil.copytree(folder, root / "train_images")
  for file in files:
    cv2.imwrite(str(root / "train_segmentations" / file.name), np.zeros((40, 20), np.uint8))
  (root / "train_id.txt").write_text("".join(f"{file.stem}\n" for file in files))
  return root


MAKERS = {
  "webdataset": _webdataset,
  "zip": _zip,
  "lmdb": _lmdb,
  "coco": _coco,
  "yolo": _yolo,
  "pennfudan": _pennfudan,
  "lsp": _lsp,
  "market1501": _market1501,
  "msmt17": _msmt17,
  "arrayrecord": _arrayrecord,
  "people": _people,
  "tfds": _tfds,
  "lip": _lip,
  "video": lambda root, folder: folder,
  "multiview": lambda root, folder: folder,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
  """Kind -> path of the same pictures in that form, made when first asked for."""
  root = tmp_path_factory.mktemp("data")
  made = {"folder": _folder(root / "folder")}
  with pytest.MonkeyPatch.context() as patches:
    patches.setenv("SAIP_CACHE", str(root / "cache"))

    def place(kind):
      if kind not in made:
        made[kind] = MAKERS[kind](root / kind, made["folder"])
      return str(made[kind])

    yield place


def _data(source, path, cache, **changes):
  options = dict(
    source=source,
    path=path,
    canvas_hw=(48, 24),
    scene_canvas_hw=(16, 16),
    threads=2,
    max_damaged_fraction=0.0,
    fields=("image", "scene"),
    batch_size=BATCH,
    seed=3,
  )
  return open_data(str(cache), **(options | changes))


def _assert_one_order(open_data):
  """The law of the pipeline; `open_data(**changes)` opens the data anew."""
  whole = take(open_data(), 9)
  for hosts in (2, 4):
    shares = [take(open_data(), 6, start_step=3, host=host, hosts=hosts) for host in range(hosts)]
    assert_same(
      [{key: np.concatenate([share[step][key] for share in shares]) for key in whole[0]} for step in range(6)],
      whole[3:],
    )
  assert_same(take(open_data(), 2, start_step=7), whole[7:])
  return whole


READ_BY_THE_SAME_CODE = {
  "coco": {"crowdhuman", "joints3d"},
  "lip": {"cihp", "atr", "ccp", "fashionpedia", "pa100k", "peta", "rap", "cuhkpedes", "icfgpedes", "rstpreid"},
}


def test_every_kind_is_tested():
  assert {"folder", *MAKERS, *set.union(*READ_BY_THE_SAME_CODE.values())} == set(SOURCE_KINDS)


@pytest.mark.parametrize("kind", ["folder", *MAKERS])
def test_order_does_not_depend_on_hosts_or_start(places, tmp_path, kind):
  path = places(kind)
  whole = _assert_one_order(lambda **changes: _data(kind, path, tmp_path, **changes))
  data = _data(kind, path, tmp_path)
  assert data.identity["source"] == kind and not data.damage.lines()
  if kind != "people":
    assert len(data) == COUNT
    seen = np.concatenate([batch["image"][:, 20, 10, 0] for batch in whole])[:COUNT].astype(int)
    np.testing.assert_allclose(np.sort(seen), np.arange(COUNT) * 10, atol=2)  # one epoch: every picture once


@pytest.mark.compile
@pytest.mark.distributed
@pytest.mark.parametrize("kind", ["folder", *MAKERS])
def test_order_does_not_depend_on_workers(places, tmp_path, kind):
  path = places(kind)
  assert_same(take(_data(kind, path, tmp_path, workers=1), 3), take(_data(kind, path, tmp_path), 3))


def _mixture(places, cache, **changes):
  mixture = {
    "crops": {"source": "arrayrecord", "path": places("arrayrecord"), "weight": 3.0},
    "tars": {"source": "webdataset", "path": places("webdataset"), "weight": 1.0},
  }
  return _data("mixture", None, cache, mixture=mixture, **changes)


def test_mixture_has_one_order_and_the_wanted_shares(places, tmp_path):
  whole = _assert_one_order(lambda **changes: _mixture(places, tmp_path, **changes))
  data = _mixture(places, tmp_path)
  assert len(data) == 2 * COUNT and data.identity["name"] == "3 crops + 1 tars"
  parts = np.concatenate([batch["index"] for batch in whole]) >= COUNT
  assert (parts.reshape(9, BATCH).sum(1) == 1).all()  # in every batch of four: one of the second part
  many = np.concatenate([batch["index"] for batch in take(data, 30)])
  for part, first in ((many[many < COUNT], 0), (many[many >= COUNT], COUNT)):
    assert sorted(part[:COUNT]) == list(range(first, first + COUNT))  # each part: every image once before any again
  changed = _data(
    "mixture",
    None,
    tmp_path,
    mixture={
      "crops": {"source": "arrayrecord", "path": places("arrayrecord"), "weight": 1.0},
      "tars": {"source": "webdataset", "path": places("webdataset"), "weight": 1.0},
    },
  )
  assert changed.identity["digest"] != data.identity["digest"]


def test_mixture_with_scenes_of_their_own(places, tmp_path):
  scenes = dict(scene_path=places("folder"))
  whole = _assert_one_order(lambda **changes: _mixture(places, tmp_path, **scenes, **changes))
  without = take(_mixture(places, tmp_path), 9)
  for a, b in zip(whole, without):
    np.testing.assert_array_equal(a["index"], b["index"])  # scenes change nothing of the images' order


@pytest.mark.compile
@pytest.mark.distributed
def test_mixture_with_workers(places, tmp_path):
  assert_same(take(_mixture(places, tmp_path, workers=2), 5), take(_mixture(places, tmp_path), 5))


def test_mistakes_in_a_mixture_name_the_part(places, tmp_path):
  with pytest.raises(ValueError, match="data.mixture.a.path=/no/where does not exist"):
    _data("mixture", None, tmp_path, mixture={"a": {"source": "folder", "path": "/no/where", "weight": 1.0}})
  with pytest.raises(ValueError, match="data.mixture.a.split='test': folder has no splits"):
    _data(
      "mixture",
      None,
      tmp_path,
      mixture={"a": {"source": "folder", "path": places("folder"), "split": "test", "weight": 1.0}},
    )


def test_a_subset_of_any_kind(places, tmp_path):
  names = tmp_path / "names.txt"
  names.write_text("# three\n" + "".join(f"{i + 1:04d}_c{i % 3 + 1}s1_{i:06d}_00.png\n" for i in (4, 17, 9)))
  for kind in ("folder", "arrayrecord", "lmdb"):
    data = _data(kind, places(kind), tmp_path, subset=str(names))
    assert len(data) == 3 and data.identity["name"].endswith("[names.txt]")
    seen = {int(value) for batch in take(data, 2) for value in batch["image"][:, 20, 10, 0]}
    assert seen == {40, 90, 170}
