"""Real photographs, where a folder of them lies beside the checkout (`shared/data`); none is part of the project."""

import io
import pathlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from input_pipeline.decode import decode_image, fit_hw
from input_pipeline.sources.containers.folder import FolderSource

DATA = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.parametrize("name", ["market1501_sample/train", "coco_mini", "ccp", "lspet", "pennfudan", "mmpose_tests"])
def test_photos_decode_as_pillow_decodes_them(name, tmp_path):
  if not (DATA / name).is_dir():
    pytest.skip(f"no real photos at {name}")
  source = FolderSource(DATA / name, tmp_path)
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
