"""Photos of whole data sets through decoding, preparing and the doctor: rendered, and real where present."""

import io
import os
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from input_pipeline.decode import decode_image, fit_hw
from input_pipeline.doctor.checkup import doctor
from input_pipeline.prepare.prepare import prepare_dataset
from input_pipeline.prepare.shard import PrepareRequest
from input_pipeline.prepare.side_files import SideFiles
from input_pipeline.sources.containers.folder import FolderSource
from tests.support.batches import open_data, take


@pytest.mark.parametrize("name", ["market1501_sample/train", "coco_mini", "ccp", "lspet", "pennfudan", "mmpose_tests"])
def test_photos_decode_as_pillow_decodes_them(samples, name, tmp_path):
  source = FolderSource(samples.root / name, tmp_path)
  for i in np.linspace(0, len(source) - 1, min(len(source), 25)).astype(int):
    canvas, hw = decode_image(source.read(i), (320, 160))
    with Image.open(io.BytesIO(source.read(i))) as image:
      upright = ImageOps.exif_transpose(image).convert("RGB")
    assert hw == fit_hw((upright.height, upright.width), (320, 160)), source.name(i)
    expected = np.asarray(upright.resize(hw[::-1], Image.Resampling.BOX), np.float32)
    # Large JPEGs are decoded at a fraction of their size: other fine texture, the same picture at the same place.
    soften = lambda image: cv2.GaussianBlur(image.astype(np.float32), (0, 0), 2)
    difference = np.abs(soften(canvas[: hw[0], : hw[1]]) - soften(expected)).mean()
    assert difference < 3, (source.name(i), difference)
    assert not canvas[hw[0] :].any() and not canvas[:, hw[1] :].any()


@pytest.mark.parametrize(
  "name, below, depth, options, real",
  [
    ("deep_human_rgbd", "data", "{number}_depth.npy", dict(depth_grid=(1.08, 10.0, 4.5), depth_range=(0.5, 10.0)), 26),
    ("realsense_rgbd", "data/images_n40/color", "../depth/{stem}.png", {}, 4),
    ("uva_kinect_turntable", "a1/data", "{stem}_depth.png", dict(instances="{stem}_mask.jpg"), 10),
  ],
)
def test_depth_is_found(samples, tmp_path, name, below, depth, options, real):
  root, count = samples.root / name / below, real if samples.real else 4
  if "instances" in options:
    options = options | {"instances": f"{root}/{options['instances']}"}
  if "depth_grid" in options and not samples.real:
    options = options | {"depth_grid": (2.0, 0.0, 0.0)}
  side_files = SideFiles(depth=f"{root}/{depth}", **options)
  meta = prepare_dataset(PrepareRequest("folder", str(root), side_files=side_files), tmp_path / "set", progress=False)
  assert meta["carried"]["depth.png"] == count and not meta["left_out"]
  data = open_data(
    tmp_path,
    source="arrayrecord",
    path=str(tmp_path / "set"),
    canvas_hw=(96, 96),
    max_damaged_fraction=0.0,
    fields=("depth",),
    batch_size=meta["count"],
  )
  (batch,) = take(data, 1)
  assert batch["has_depth"].sum() == count and not data.unknown.counts
  known = batch["depth"][batch["depth"] > 0]
  assert 500 < np.median(known) < (4000 if samples.real else 10_000)


def test_copies_planted_in_a_set_are_found(samples, tmp_path):
  folder = samples.root / "market1501_sample" / "train"
  names = sorted(os.listdir(folder))[:600]
  planted = range(20 if samples.real else 4)
  for name in names:
    shutil.copyfile(folder / name, tmp_path / name)
  copied = [names[k * (25 if samples.real else 8)] for k in planted]
  for k in planted:  # saved again, larger
    with Image.open(tmp_path / copied[k]) as image:
      image.resize((96, 192)).save(tmp_path / f"again_{k}.jpg", quality=80)
  groups = FolderSource(tmp_path, tmp_path / ".index")
  facts = doctor(str(tmp_path), source="folder", progress=False)
  near = facts["duplicates"]["near"]
  found = [group["names"] for group in near["biggest"]]
  assert len(groups) == facts["images"] == len(names) + len(planted) and facts["unreadable"]["count"] == 0
  assert sum(f"again_{k}.jpg" in group and copied[k] in group for k in planted for group in found) >= 0.9 * len(planted)
  identities = [{name[:4] for name in group if not name.startswith("again")} for group in found]
  assert all(len(group) == 1 for group in identities)  # no two persons are confused
