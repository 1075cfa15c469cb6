"""The Grain pipeline: one order for any number of hosts, workers and restarts; damaged images replaced and counted."""

import cv2
import numpy as np
import pytest

from input_pipeline.decode import decode_image
from input_pipeline.sources.containers.folder import FolderSource
from tests.support.batches import assert_same, open_data, take

CANVAS_HW, SCENE_HW, BATCH = (20, 10), (16, 16), 8


def _write_images(root, count):
  root.mkdir(exist_ok=True)
  for i in range(count):
    image = np.full((16, 8, 3), (i % 16 * 16, i // 16 * 16, 128), np.uint8)  # its color encodes its number
    assert cv2.imwrite(str(root / f"{i:04d}.png"), image)
  return root


def _data(root, cache, **changes):
  options = dict(
    source="folder",
    path=str(root),
    canvas_hw=CANVAS_HW,
    scene_canvas_hw=SCENE_HW,
    threads=2,
    fields=("image", "scene"),
    batch_size=BATCH,
    seed=3,
  )
  return open_data(str(cache), **(options | changes))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  return _write_images(tmp_path_factory.mktemp("images") / "crops", 30)


@pytest.fixture(scope="module")
def reference(images, tmp_path_factory):
  """Ten updates on one host in this process."""
  return take(_data(images, tmp_path_factory.mktemp("w")), 10)


def test_batch_is_as_promised(images, tmp_path, reference):
  shapes = {key: (value.shape, value.dtype) for key, value in reference[0].items()}
  assert shapes == {
    "image": ((BATCH, *CANVAS_HW, 3), np.uint8),
    "image_hw": ((BATCH, 2), np.int32),
    "scene": ((BATCH, *SCENE_HW, 3), np.uint8),
    "scene_hw": ((BATCH, 2), np.int32),
    "index": ((BATCH,), np.uint32),
  }
  source = FolderSource(images, tmp_path)
  for batch in reference:
    for row, index in enumerate(batch["index"]):
      canvas, hw = decode_image(source.read(index), CANVAS_HW)
      assert (canvas == batch["image"][row]).all() and hw == tuple(batch["image_hw"][row])


def test_methods_without_scenes_have_the_same_images_and_no_scenes(images, tmp_path, reference):
  """Nothing is opened or read for scenes, even where a path to some is given; workers and threads are as before."""
  data = _data(images, tmp_path, fields=("image",), scene_path="nowhere")
  batches = take(data, 3)
  for batch, with_scenes in zip(batches, reference):
    assert batch.keys() == {"image", "image_hw", "index"}
    for name in batch:
      np.testing.assert_array_equal(batch[name], with_scenes[name])
  assert any("scenes   none" in line for line in data.summary()) and data.identity["scenes"] == "none"


@pytest.mark.compile
@pytest.mark.parametrize("hosts", [1, 2, 4])
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.distributed)])
def test_hosts_and_workers_together_see_the_same_batches(images, tmp_path, reference, hosts, workers):
  if workers and hosts == 4:
    pytest.skip("covered by two hosts with workers")
  data = _data(images, tmp_path, workers=workers)
  shares = [take(data, 4, start_step=2, host=host, hosts=hosts) for host in range(hosts)]
  together = [
    {key: np.concatenate([share[step][key] for share in shares]) for key in reference[0]} for step in range(4)
  ]
  assert_same(together, reference[2:6])


@pytest.mark.parametrize("start", [1, 5, 9])
def test_starting_later_is_skipping(images, tmp_path, reference, start):
  assert_same(take(_data(images, tmp_path), 10 - start, start_step=start), reference[start:])


def test_threads_change_nothing_and_seeds_do(images, tmp_path, reference):
  assert_same(take(_data(images, tmp_path, threads=1), 3), reference[:3])
  assert any((a["index"] != b["index"]).any() for a, b in zip(take(_data(images, tmp_path, seed=4), 3), reference))


def test_every_epoch_holds_every_image_once_in_a_new_order(images, tmp_path):
  order = np.concatenate([batch["index"] for batch in take(_data(images, tmp_path), 15)])
  epochs = order[:120].reshape(4, 30)
  assert (np.sort(epochs) == np.arange(30)).all()
  assert len({tuple(epoch) for epoch in epochs}) == 4


def test_scenes_are_other_images(images, tmp_path, reference):
  seen = set()
  for batch in reference:
    colors = batch["scene"][:, 0, 0].astype(int)
    scenes = colors[:, 2] // 16 + colors[:, 1]  # red and green count: the number, as written, in RGB order
    assert not (scenes == batch["index"]).any()
    seen |= set(scenes)
  assert len(seen) > 20
  pair = _data(_write_images(tmp_path / "pair", 2), tmp_path / "w")
  for batch in take(pair, 3):
    assert not (batch["scene"][:, 0, 0, 2] // 16 == batch["index"]).any()
  alone = _data(_write_images(tmp_path / "alone", 1), tmp_path / "w")
  assert take(alone, 1)[0]["scene"][:, 0, 0].any()


def test_scenes_from_their_own_folder(images, tmp_path):
  scenes = tmp_path / "scenes"
  scenes.mkdir()
  for i in range(3):
    cv2.imwrite(str(scenes / f"{i}.png"), np.full((40, 60, 3), 200 + i, np.uint8))
  data = _data(images, tmp_path, scene_path=str(scenes))
  for batch in take(data, 3):
    assert (batch["scene_hw"] == (11, 16)).all() and (batch["scene"][:, 5, 5] >= 200).all()
  assert data.identity["scenes"]["length"] == 3 and data.identity["length"] == len(data) == 30
  assert any("scenes" in line and "3" in line for line in data.summary())
  with pytest.raises(ValueError, match="data.scene_path"):
    _data(images, tmp_path, scene_path=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.distributed)])
def test_damaged_images_are_replaced_counted_and_listed(tmp_path, workers):
  root = _write_images(tmp_path / "crops", 120)
  (root / "0007.png").write_bytes(b"")
  data = _data(root, tmp_path, workers=workers)
  batches = take(data, 16)
  used = np.concatenate([batch["index"] for batch in batches])
  assert 7 not in used and (used[:120] == 8).sum() == 2  # 8 replaces 7
  assert data.damage.indices == {"image": [7], "scene": [7]} and len(data.damage) == 1
  assert data.damage.lines() == ["0007.png: empty file (zero bytes)"]
  for batch in batches:
    assert (batch["image_hw"] == (16, 8)).all() and (batch["scene_hw"] == (16, 8)).all()
    assert (batch["image"][:, 0, 0, 0] == 128).all() and (batch["scene"][:, 0, 0, 0] == 128).all()
    assert (batch["image"][:, 0, 0, 2] // 16 + batch["image"][:, 0, 0, 1] == batch["index"]).all()


def test_too_many_damaged_images_end_the_run(tmp_path):
  root = _write_images(tmp_path / "crops", 120)
  for i in (5, 6):
    (root / f"{i:04d}.png").write_bytes(b"no picture")
  data = _data(root, tmp_path)
  with pytest.raises(ValueError) as error:
    take(data, 15)
  message = str(error.value)
  assert "\n" not in message
  for part in ("2 of 120", "data.max_damaged_fraction=0.01", "0005.png: not an image"):
    assert part in message
  assert len(take(_data(root, tmp_path, max_damaged_fraction=0.02), 15)) == 15


def test_a_set_without_a_readable_image_ends_the_run_whatever_the_limit(tmp_path):
  root = _write_images(tmp_path / "crops", 3)
  for path in root.iterdir():
    path.write_bytes(b"")
  with pytest.raises(ValueError, match="3 of 3"):
    take(_data(root, tmp_path, max_damaged_fraction=1.0), 1)


def test_with_one_readable_image_left_it_is_its_own_scene(tmp_path):
  root = _write_images(tmp_path / "crops", 3)
  for i in (0, 2):
    (root / f"{i:04d}.png").write_bytes(b"")
  [batch] = take(_data(root, tmp_path, max_damaged_fraction=0.7), 1)
  assert (batch["index"] == 1).all() and (batch["scene_hw"] == (16, 8)).all()


def test_a_file_that_vanishes_is_damaged(tmp_path):
  root = _write_images(tmp_path / "crops", 120)
  data = _data(root, tmp_path)
  (root / "0003.png").unlink()
  take(data, 15)
  assert data.damage.lines() == ["0003.png: cannot be read: No such file or directory"]


@pytest.mark.parametrize(
  "setting, value",
  [
    ("batch_size", 0),
    ("seed", -1),
    ("workers", -1),
    ("threads", 0),
    ("max_damaged_fraction", 1.5),
    ("canvas_hw", (0, 10)),
    ("scene_canvas_hw", (16,)),
  ],
)
def test_impossible_settings_are_named(images, tmp_path, setting, value):
  with pytest.raises(ValueError, match=setting):
    _data(images, tmp_path, **{setting: value})


def test_batch_must_divide_by_hosts(images, tmp_path):
  with pytest.raises(ValueError, match="batch_size=8.*3 hosts"):
    _data(images, tmp_path).batches(hosts=3)
