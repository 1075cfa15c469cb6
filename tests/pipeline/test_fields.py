"""Depth and silhouettes in the batches: on the image's canvas, never interpolated, unknown where unusable."""

import cv2
import numpy as np
import pytest

from input_pipeline.fields.coverage import file_coverage
from input_pipeline.planes import UnusablePlane, checked_depth, depth_in_mm, shifted_plane
from input_pipeline.prepare.prepare import prepare_dataset
from input_pipeline.prepare.shard import PrepareRequest
from input_pipeline.prepare.side_files import SideFiles
from input_pipeline.source import ImageSource
from tests.support.batches import assert_same, data_of_source, open_data, take

HW = (40, 20)


def png(plane):
  return cv2.imencode(".png", plane)[1].tobytes()


def scene(i):
  """An image, the depth of a wall 5 m away with a person 2 m away before it, and the silhouette."""
  person = np.zeros(HW, np.uint8)
  person[10:38, 3 + i : 9 + i] = 1
  depth = np.where(person, 2000 + i, 5000).astype(np.uint16)
  return np.repeat(person[..., None] * 200, 3, -1), depth, person


class Toy(ImageSource):
  """`change(i, files)` returns the files of each image."""

  def __init__(self, change=lambda i, files: files, length=6):
    self.identity = {"source": "toy", "name": "scenes", "length": length, "digest": "1"}
    self._change, self._length = change, length

  def __len__(self):
    return self._length

  def read(self, i):
    return png(scene(i)[0])

  def name(self, i):
    return str(i)

  def annotations(self, i):
    _, depth, person = scene(i)
    return {}, self._change(i, {"depth.png": png(depth), "instances.png": png(person)})


def data_of(source, **changes):
  options = dict(
    canvas_hw=HW,
    threads=2,
    max_damaged_fraction=0.0,
    fields=("depth", "has_depth", "foreground", "has_foreground"),
    batch_size=6,
  )
  return data_of_source(source, **(options | changes))


def by_index(batch, name):
  return batch[name][np.argsort(batch["index"])]


@pytest.mark.parametrize("canvas_hw", [(40, 20), (48, 32), (20, 10), (13, 9)])
def test_depth_and_silhouette_lie_where_the_image_shows_the_person(canvas_hw):
  (batch,) = take(data_of(Toy(), canvas_hw=canvas_hw), 1)
  assert batch["depth"].dtype == np.uint16 and batch["foreground"].dtype == bool and batch["has_depth"].shape == (6,)
  assert batch["has_depth"].all() and batch["has_foreground"].all()
  for i, (depth, mask, image) in enumerate(zip(*(by_index(batch, name) for name in ("depth", "foreground", "image")))):
    assert set(np.unique(depth)) == {0, 2000 + i}  # the person's alone, and no mixture with the wall's
    np.testing.assert_array_equal(mask, depth > 0)
    assert mask[image[..., 0] > 180].all() and not mask[image[..., 0] < 20].any()  # edge pixels are of both


def test_without_a_mask_all_depth_is_there_and_parts_serve_as_masks():
  change = lambda i, files: (
    {"depth.png": files["depth.png"]} if i % 2 else files | {"instances.png": b"", "parts.png": png(scene(i)[2] * 7)}
  )
  source = Toy(lambda i, files: {k: v for k, v in change(i, files).items() if v})
  (batch,) = take(data_of(source), 1)
  assert by_index(batch, "has_foreground").tolist() == [True, False] * 3 and batch["has_depth"].all()
  for i, depth in enumerate(by_index(batch, "depth")):
    assert (depth > 0).all() == i % 2 and set(np.unique(depth)) == ({5000, 2000 + i} if i % 2 else {0, 2000 + i})


def test_what_cannot_be_used_is_unknown_and_counted_by_its_reason():
  def change(i, files):
    _, depth, person = scene(i)
    match i:
      case 0:
        return {}  # nothing is wrong with an image that has none
      case 1:
        return {"depth.png": png(depth[::2])}
      case 2:
        return {"depth.png": png((depth // 1000).astype(np.uint16))}  # meters
      case 3:
        return {"depth.png": png((depth // 100).astype(np.uint8)), "instances.png": png(person[:, 1:])}
      case 4:
        return {"depth.png": png(np.where(person, 0, depth).astype(np.uint16)), "instances.png": png(person)}
      case 5:
        return {"depth.png": b"\x89PNG damaged", "instances.png": png(person * 0)}

  data = data_of(Toy(change))
  (batch, _) = take(data, 2)
  assert not batch["has_depth"].any() and not batch["depth"].any()
  assert by_index(batch, "has_foreground").tolist() == [False] * 4 + [True, False]
  assert data.unknown.counts == {  # each image once, however often it is met
    "depth: depth.png is of another size than the image": 1,
    "depth: half of it is nearer than 0.1 m: it is in another unit": 1,
    "depth: it has 8 bits; depth in millimeters needs 16": 1,
    "mask: instances.png is of another size than the image": 1,
    "depth: none of the person's pixels has any": 1,
    "depth: it cannot be decoded": 1,
    "mask: it is empty": 1,
  }
  assert not data.damage.lines()


def test_only_what_is_asked_for_is_read_and_threads_change_nothing():
  assert_same(take(data_of(Toy()), 2), take(data_of(Toy(), threads=1), 2))
  assert take(data_of(Toy(), fields=("depth",)), 1)[0].keys() == {"image", "image_hw", "index", "depth", "has_depth"}
  unread = Toy(lambda i, files: pytest.fail("annotations were read"))
  assert take(data_of(unread, fields=()), 1)[0].keys() == {"image", "image_hw", "index"}


def test_a_set_without_depth_is_refused_and_so_is_an_unknown_field(tmp_path):
  with pytest.raises(ValueError, match="data.source=toy .'scenes'. holds no depth.*--depth=PLACE") as error:
    data_of(Toy(lambda i, files: {}))
  assert "\n" not in str(error.value)
  assert file_coverage(Toy(lambda i, files: files if i == 2 else {}), ("depth.png",), "depth", "") == [
    "depth in 1 of 6 images tried of 'scenes'"
  ]
  with pytest.raises(ValueError, match="no batch can hold flow"):
    open_data("", source="folder", path=str(tmp_path), canvas_hw=HW, batch_size=1, fields=("image", "flow"))


def test_units_of_depth_are_checked():
  for meters in (np.full(HW, 2500.0), np.full(HW, 0.05)):
    with pytest.raises(UnusablePlane, match="another unit"):
      depth_in_mm(meters)
  meters = np.full((1, *HW), 2.5, np.float32)
  meters[0, 0, :6] = np.nan, np.inf, -np.inf, -1, 0, 70
  mm = depth_in_mm(meters)
  assert mm[0, :7].tolist() == [0, 0, 0, 0, 0, 65535, 2500] and mm.dtype == np.uint16
  assert checked_depth(mm)[0, :7].tolist() == [0, 0, 0, 0, 0, 0, 2500]
  assert not depth_in_mm(np.full(HW, np.nan)).any()
  assert not checked_depth(np.full(HW, 2500, np.uint16), (3.0, 4.0)).any()


def test_shifted_plane_puts_pixels_where_the_grid_says():
  plane = np.zeros((10, 10), np.uint16)
  plane[2, 7] = 1234
  moved = shifted_plane(plane, 2.0, 4.0, 1.0, (30, 30))
  rows, columns = np.nonzero(moved)
  assert set(rows) == {5, 6} and set(columns) == {18, 19} and moved.max() == 1234  # 2 y + 1, 2 x + 4
  np.testing.assert_array_equal(shifted_plane(plane, 1.0, 0.0, 0.0, (10, 10)), plane)


def _folder(root):
  """Images with depth and masks beside them, one of each sort of fault."""
  root.mkdir()
  for i in range(6):
    image, depth, person = scene(i)
    cv2.imwrite(str(root / f"{i:02d}_image.png"), image)
    cv2.imwrite(str(root / f"{i:02d}_mask.png"), person * 255)
    meters = depth / np.float32(1000)
    match i:
      case 1:
        meters[:5] = np.nan
      case 2:
        meters *= 1000  # millimeters
      case 3:
        meters = meters[::2, ::2]
    np.save(root / f"{i:02d}_depth.npy", meters)
  return root


def test_side_files_in_the_folder_of_the_images_are_not_images(tmp_path):
  root = _folder(tmp_path / "rgbd")
  side_files = SideFiles(
    depth=f"{root}/{{number}}_depth.npy", instances=f"{root}/{{number}}_mask.png", depth_range=(1.0, 4.0)
  )
  meta = prepare_dataset(PrepareRequest("folder", str(root), side_files=side_files), tmp_path / "set", progress=False)
  assert meta["carried"] == {"name": 4, "image.png": 4, "depth.png": 4, "instances.png": 4} and meta["left_out"] == 2
  left_out = (tmp_path / "set" / "left_out.txt").read_text()
  assert "02_image.png" in left_out and "farther than 100 m: it is in another unit" in left_out
  assert "03_image.png: its depth.png has 10 x 20 pixels, the image 20 x 40" in left_out and "--depth-grid" in left_out
  (batch,) = take(
    open_data(
      tmp_path,
      source="arrayrecord",
      path=str(tmp_path / "set"),
      canvas_hw=HW,
      max_damaged_fraction=0.0,
      fields=("depth", "foreground"),
      batch_size=4,
    ),
    1,
  )
  for i, depth in zip((0, 1, 4, 5), by_index(batch, "depth")):
    assert set(np.unique(depth)) == {0, 2000 + i}


def test_depth_on_a_grid_of_its_own_is_brought_to_the_images(tmp_path):
  root = _folder(tmp_path / "rgbd")
  side_files = SideFiles(
    depth=f"{root}/{{number}}_depth.npy", instances=f"{root}/{{number}}_mask.png", depth_grid=(2.0, 0.0, 0.0)
  )
  meta = prepare_dataset(PrepareRequest("folder", str(root), side_files=side_files), tmp_path / "set", progress=False)
  assert meta["carried"]["depth.png"] == 5  # of all but the one in millimeters
  with pytest.raises(ValueError, match="--depth-grid and --depth-range.*--depth"):
    SideFiles(depth_range=(0.5, 3.0))
