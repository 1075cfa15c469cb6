"""Two hundred damaged files of ten kinds: every form trains on, uses every good picture, names the others."""

import os
import resource

import fsspec
import numpy as np
import pytest

from input_pipeline.sources.containers.archives import open_webdataset, open_zip
from input_pipeline.sources.containers.folder import FolderSource
from input_pipeline.sources.containers.lmdb_source import open_lmdb
from tests.support import damaged_files
from tests.support.batches import data_of_source

FILES = damaged_files.make_files()
BATCH = 16
OPTIONS = dict(
  canvas_hw=(32, 16),
  scene_canvas_hw=(16, 16),
  threads=4,
  max_damaged_fraction=1.0,
  fields=("image", "scene"),
  batch_size=BATCH,
  seed=1,
)


def _folder(root, cache):
  return FolderSource(damaged_files.write_folder(root / "all", FILES), cache)


def _tars(root, cache):
  return open_webdataset(str(damaged_files.write_tars(root / "all", FILES)), None, cache, "data.path")


def _zip(root, cache):
  return open_zip(str(damaged_files.write_zip(root / "all.zip", FILES)), None, cache, "data.path")


def _lmdb(root, cache):
  pytest.importorskip("lmdb", reason="the lmdb package writes the database")
  return open_lmdb(str(damaged_files.write_lmdb(root / "all", FILES)), None, cache, "data.path")


# How names in archives begin; what of the damaged files each form has; what else is good in it.
FORMS = {
  "folder": (_folder, "", {*FILES.damaged, *FILES.folders, *FILES.links}, set()),
  "webdataset": (
    _tars,
    "shard-000.tar/",
    {*FILES.damaged, *FILES.folders, *FILES.links, *FILES.twice},
    {"shard-001.tar/late/0.jpg", "shard-001.tar/late/1.jpg"},
  ),
  "zip": (
    _zip,
    "all.zip/",
    {*FILES.damaged, *(f"{name}/" for name in FILES.folders), *FILES.links, *FILES.twice},
    set(),
  ),
  "lmdb": (_lmdb, "", {*FILES.damaged, "__len__"}, set()),
}


def _epoch(source):
  """All batches that together visit each image at least once, and the data afterwards."""
  data = data_of_source(source, **OPTIONS)
  batches = data.batches()
  taken = [next(batches) for _ in range(-(-len(source) // BATCH) + 1)]
  batches.close()
  return taken, data


@pytest.mark.parametrize("form", FORMS)
def test_a_run_survives_names_every_damaged_file_and_uses_every_good_one(tmp_path, form):
  open_form, prefix, damaged, also_good = FORMS[form]
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  source = open_form(tmp_path, str(tmp_path / "w"))
  batches, data = _epoch(source)

  good = {prefix + name for name in FILES.good} | also_good
  used = {source.name(int(i)) for batch in batches for i in batch["index"]}
  assert used == good  # each is used, and no replacement is a damaged one
  assert all(batch["image"].any(axis=(1, 2, 3)).all() and batch["scene"].any(axis=(1, 2, 3)).all() for batch in batches)

  met = {source.name(i) for i in data.damage.indices["image"]}
  left_out = {name for name, _ in source.left_out}
  assert not met & good and len(data.damage) == len(met)
  assert {prefix + name for name in damaged} <= met | left_out
  assert len(met) == len(source) - len(good) and len(source.left_out) >= len(damaged) - len(met)
  assert all(reason for _, reason in source.left_out)
  assert {prefix + name for name in damaged} <= {line.split(": ")[0] for line in data.damage.lines()}
  if form == "webdataset":
    assert ("shard-001.tar/late/2.jpg", "truncated: the archive ends before it does") in source.left_out
  grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
  assert grown_kib < 600_000  # each bomb alone declares 2.7 GB or more


def test_two_hundred_files_of_ten_kinds():
  cut_shard, lockless = 1, 1
  assert len(FILES.damaged) + len(FILES.folders) + len(FILES.links) + len(FILES.twice) + cut_shard + lockless >= 200
  assert any(not name.isprintable() or "\udcff" in name for name in FILES.good)


@pytest.mark.compile
@pytest.mark.distributed
def test_workers_meet_the_same_damage(tmp_path):
  source = _tars(tmp_path, str(tmp_path / "w"))
  data = data_of_source(source, **(OPTIONS | {"workers": 1, "threads": 2}))
  expected, alone = _epoch(source)
  batches = data.batches()
  for batch in expected:
    np.testing.assert_array_equal(next(batches)["index"], batch["index"])
  batches.close()
  assert data.damage.lines() == alone.damage.lines()


@pytest.fixture
def bucket():
  """A bucket in memory, under a URL of its own."""
  files = fsspec.filesystem("memory")
  yield "memory://damaged"
  files.rm("/damaged", recursive=True)


@pytest.mark.parametrize("form", ["folder", "webdataset", "zip"])
def test_buckets_too(tmp_path, bucket, form):
  open_form, prefix, damaged, also_good = FORMS[form]
  open_form(tmp_path, str(tmp_path / "w"))
  files = fsspec.filesystem("memory")
  for below, _, names in os.walk(tmp_path):
    for name in names:
      path = os.path.join(below, name)
      key = os.path.relpath(path, tmp_path)
      if key.startswith("all") and os.path.isfile(path):
        with open(path, "rb") as file:
          files.pipe_file(f"/damaged/{key}", file.read())
  url, cache = f"{bucket}/all{'.zip' if form == 'zip' else ''}", str(tmp_path / "w2")
  source = {
    "folder": lambda: FolderSource(url, cache),
    "zip": lambda: open_zip(url, None, cache, "data.path"),
    "webdataset": lambda: open_webdataset(f"{url}/shard-{{000..001}}.tar", None, cache, "data.path"),
  }[form]()
  batches, data = _epoch(source)
  good = {prefix + name for name in FILES.good} | also_good
  assert {source.name(int(i)) for batch in batches for i in batch["index"]} == good
  met = {source.name(i) for i in data.damage.indices["image"]} | {name for name, _ in source.left_out}
  assert {prefix + name for name in FILES.damaged} <= met and not met & good - {prefix + name for name in FILES.twice}
