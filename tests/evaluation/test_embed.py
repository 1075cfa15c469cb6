"""`saip embed`: the features of a folder, whole or not at all."""

import functools
import io
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from input_pipeline.decode import DamagedImage
from input_pipeline.people.compositions import render_picture
from input_pipeline.people.spec import SetSpec
from saip_jax import cli
from saip_jax.backbones.vit import ViT
from saip_jax.evaluation import feature_files, features, resize
from saip_jax.evaluation.feature_files import skipped_path
from saip_jax.evaluation.features import embed_images

_HW, _MEAN, _STD = (64, 32), np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
_PEOPLE = 12


@functools.cache
def _person(index: int) -> Image.Image:
  return Image.fromarray(render_picture(SetSpec("crops", (96, 48), 0, _PEOPLE), index).image_u8)


@pytest.fixture
def folder(tmp_path):
  """Images in a folder, two of them gray and transparent, and two files that are not images."""
  root = tmp_path / "people"
  (root / "more").mkdir(parents=True)
  for i in range(_PEOPLE):
    person = _person(i)
    if i == 3:
      person.convert("L").save(root / "03_gray.png")
    elif i == 4:
      person.putalpha(Image.linear_gradient("L").resize(person.size))
      person.save(root / "04_clear.png")
    else:
      person.save(root / ("more" if i > 8 else ".") / f"{i:02}.jpg", quality=90)
  whole = io.BytesIO()
  _person(0).save(whole, "JPEG")
  (root / "05_broken.jpg").write_bytes(whole.getvalue()[:700])
  (root / "more" / "notes.jpg").write_text("not a picture")
  (root / "readme.txt").write_text("no image and no error")
  return root


class _Preprocessing:
  """Stands in for the one that comes with weights; counts how often it is traced."""

  image_hw = _HW
  calls = 0

  def __call__(self, images_u8):
    self.calls += 1
    return (jnp.asarray(images_u8, jnp.float32) / 255 - _MEAN) / _STD


@functools.cache
def _small_vit():
  module = ViT(width=24, depth=8, heads=2, image_hw=_HW)
  return module, jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, *_HW, 3)))["params"]


@pytest.fixture
def backbone(monkeypatch):
  """Lets `saip embed` load a small network; returns it."""
  module, params = _small_vit()
  loaded = types.SimpleNamespace(module=module, variables={"params": params}, preprocessing=_Preprocessing())

  def load_backbone(path, which, image_hw):
    assert which == "student" and image_hw is None
    if str(path) == "no_weights":
      raise ValueError("no_weights holds no weights")
    return loaded

  monkeypatch.setattr(features, "load_backbone", load_backbone)
  return loaded


_NAMES = [
  "00.jpg",
  "01.jpg",
  "02.jpg",
  "03_gray.png",
  "04_clear.png",
  "05.jpg",
  "06.jpg",
  "07.jpg",
  "08.jpg",
  "more/09.jpg",
  "more/10.jpg",
  "more/11.jpg",
]


def _alone(backbone, path):
  """The features of one image, computed alone and without threads, as (cls, tokens)."""
  image = Image.open(path)
  if image.mode == "RGBA":
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
  pixels = np.asarray(image.convert("RGB").resize(_HW[::-1], Image.Resampling.BICUBIC))
  found = backbone.module.apply(backbone.variables, _Preprocessing()(pixels[None]))
  return np.asarray(found.cls[0]), np.asarray(found.tokens[0])


def test_every_readable_image_has_its_features(folder, tmp_path, backbone, capfd):
  out = tmp_path / "new" / "features.npz"
  command = ["embed", "--checkpoint=W", f"--images={folder}", f"--out={out}", "--tokens", "--batch-size=8"]
  assert cli.main(command) == 0
  with np.load(out, allow_pickle=False) as file:
    found = dict(file)
  assert found["names"].tolist() == _NAMES
  assert found["cls"].shape == (12, 24) and found["tokens"].shape == (12, 8, 24)
  assert found["cls"].dtype == found["tokens"].dtype == np.float32
  for i, name in enumerate(_NAMES):
    cls, tokens = _alone(backbone, folder / name)
    np.testing.assert_allclose(found["cls"][i], cls, atol=1e-5)
    np.testing.assert_allclose(found["tokens"][i], tokens, atol=1e-5)
  assert backbone.preprocessing.calls == 1  # one compilation, though the last batch is not full
  skipped = skipped_path(out).read_text().splitlines()
  assert [line.split(": ")[0] for line in skipped] == ["05_broken.jpg", "more/notes.jpg"]
  assert "truncated" in skipped[0] and "not an image" in skipped[1]
  assert sorted(p.name for p in out.parent.iterdir()) == ["features.npz", "features.npz.skipped.txt"]
  captured = capfd.readouterr()
  assert captured.err == ""  # no progress bar off a terminal
  assert captured.out == (
    f"12 images in {out}: cls (12, 24), tokens (12, 8, 24)\n2 images skipped, listed in {out}.skipped.txt\n"
  )


@pytest.mark.parametrize("row_group_bytes", [1, 2**26])
def test_parquet_holds_the_same(folder, tmp_path, backbone, monkeypatch, row_group_bytes):
  pa = pytest.importorskip("pyarrow")
  parquet = pytest.importorskip("pyarrow.parquet")
  monkeypatch.setattr(feature_files, "_ROW_GROUP_BYTES", row_group_bytes)
  for name in ("features.parquet", "features.npz"):
    embed_images("W", folder, tmp_path / name, tokens=True, batch_size=8)
  table, arrays = parquet.read_table(tmp_path / "features.parquet"), np.load(tmp_path / "features.npz")
  assert table.schema.names == ["name", "cls", "tokens"]
  assert table.schema.field("cls").type == pa.list_(pa.float32(), 24)
  assert table.schema.field("tokens").type == pa.list_(pa.list_(pa.float32(), 24), 8)
  assert table["name"].to_pylist() == arrays["names"].tolist()
  for name in ("cls", "tokens"):
    np.testing.assert_array_equal(np.array(table[name].to_pylist(), np.float32), arrays[name])
  assert skipped_path(tmp_path / "features.parquet").exists()


def test_cls_alone_is_the_same_and_the_file_is_the_same_twice(folder, tmp_path, backbone):
  embed_images("W", folder, tmp_path / "a.npz", batch_size=3)
  embed_images("W", folder, tmp_path / "b.npz", batch_size=3)
  embed_images("W", folder, tmp_path / "tokens.npz", tokens=True)
  assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
  alone, both = np.load(tmp_path / "a.npz"), np.load(tmp_path / "tokens.npz")
  assert alone.files == ["names", "cls"] and both.files == ["names", "cls", "tokens"]
  np.testing.assert_allclose(alone["cls"], both["cls"], atol=1e-5)


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--images={tmp}/nowhere"], ["--images=", "nowhere does not exist"]),
    (["--images={tmp}/people/00.jpg"], ["--images=", "is a file"]),
    (["--images={tmp}/empty"], ["holds no images", "found nothing"]),
    (["--images={tmp}/bad"], ["--images=", "none of its 2 images can be read", "a.jpg: not an image"]),
    (["--out={tmp}/features.csv"], ["--out=", "'.csv'", ".npz or .parquet"]),
    (["--out={tmp}/folder.npz"], ["--out=", "is a folder"]),
    (["--out={tmp}/there.npz"], ["--out=", "exists", "--overwrite"]),
    (["--out={tmp}/people/00.jpg/f.npz"], ["00.jpg"]),
    (["--batch-size=0"], ["--batch-size=0", "at least 1"]),
    (["--checkpoint=no_weights"], ["no_weights holds no weights"]),
    (["--imagehw=64x32"], ["--imagehw=64x32", "saip embed --help"]),
  ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(folder, tmp_path, backbone, capsys, flags, words):
  for name in ("empty", "bad", "folder.npz"):
    (tmp_path / name).mkdir()
  for name in ("a.jpg", "b.png"):
    (tmp_path / "bad" / name).write_text("not a picture")
  (tmp_path / "there.npz").write_text("precious")
  before = sorted(tmp_path.rglob("*"))
  command = ["embed", "--checkpoint=W", f"--images={folder}", f"--out={tmp_path / 'features.npz'}"]
  assert cli.main([*command, *(flag.format(tmp=tmp_path) for flag in flags)]) == 2
  error = capsys.readouterr().err
  assert error.startswith("saip embed: error: ") and error.count("\n") == 1, error
  assert all(word in error for word in words), error
  assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "there.npz").read_text() == "precious"


def test_parquet_says_what_it_needs(folder, tmp_path, backbone, monkeypatch):
  monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
  with pytest.raises(ValueError, match="needs pyarrow.*pip install .*parquet.*npz"):
    embed_images("W", folder, tmp_path / "features.parquet")


def test_overwrite_replaces_the_features_and_the_list(folder, tmp_path, backbone):
  out = tmp_path / "features.npz"
  embed_images("W", folder, out)
  (folder / "05_broken.jpg").unlink()
  (folder / "more" / "notes.jpg").unlink()
  (folder / "00.jpg").unlink()
  embedded = embed_images("W", folder, out, overwrite=True)
  assert np.load(out)["names"].tolist() == _NAMES[1:]
  assert embedded.count == 11 and embedded.skipped == [] and not skipped_path(out).exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("extension", ["npz", "parquet"])
def test_an_interrupted_run_leaves_what_was_there(folder, tmp_path, backbone, monkeypatch, extension, error):
  if extension == "parquet":
    pytest.importorskip("pyarrow")
  out = tmp_path / f"features.{extension}"
  embed_images("W", folder, out)
  before = out.read_bytes(), skipped_path(out).read_bytes(), sorted(tmp_path.rglob("*"))
  writer = {"npz": feature_files._NpzWriter, "parquet": feature_files._ParquetWriter}[extension]
  add, added = writer.add, []

  def fail_late(*arguments):
    added.append(arguments)
    if len(added) == 2:
      raise error
    return add(*arguments)

  monkeypatch.setattr(writer, "add", fail_late)
  with pytest.raises(type(error)):
    embed_images("W", folder, out, tokens=True, batch_size=8, overwrite=True)
  assert (out.read_bytes(), skipped_path(out).read_bytes(), sorted(tmp_path.rglob("*"))) == before


def _saved(image: Image.Image, extension: str) -> bytes:
  file = io.BytesIO()
  image.save(file, extension)
  return file.getvalue()


def _resized(data: bytes, side: int, out_hw: tuple[int, int]) -> np.ndarray:
  canvas, out = np.zeros((side, side, 3), np.uint8), np.zeros((*out_hw, 3), np.uint8)
  resize.resize_into(data, canvas, out)
  assert not canvas.any()
  return out


def test_images_larger_than_the_canvas_lose_nothing_that_shows():
  photo = _person(0).resize((1200, 1600), Image.Resampling.BICUBIC)
  whole = _resized(_saved(photo, "PNG"), 1600, _HW).astype(int)
  assert np.abs(_resized(_saved(photo, "PNG"), 800, _HW) - whole).max() <= 1


def test_a_damaged_image_leaves_the_canvas_and_the_row_black():
  canvas, out = np.zeros((64, 64, 3), np.uint8), np.zeros((*_HW, 3), np.uint8)
  with pytest.raises(DamagedImage):
    resize.resize_into(_saved(_person(0), "PNG")[:900], canvas, out)
  assert not canvas.any() and not out.any()


@pytest.mark.torch
@pytest.mark.parametrize("stored_hw", [(96, 48), (256, 128), (333, 91), (40, 160), (700, 500)])
@pytest.mark.parametrize("extension, tolerance", [("PNG", 0), ("JPEG", 1)])
def test_pixels_are_those_of_timms_transform(stored_hw, extension, tolerance):
  pytest.importorskip("torch")
  timm_data = pytest.importorskip("timm.data")
  transform = timm_data.create_transform(
    (3, 256, 128), interpolation="bicubic", crop_pct=1.0, crop_mode="squash", mean=(0, 0, 0), std=(1, 1, 1)
  )
  rng = np.random.default_rng(0)
  pixels = np.asarray(_person(1).resize(stored_hw[::-1], Image.Resampling.BICUBIC))
  noisy = np.clip(pixels + rng.normal(0, 20, pixels.shape), 0, 255).astype(np.uint8)
  data = _saved(Image.fromarray(noisy), extension)
  expected = transform(Image.open(io.BytesIO(data)).convert("RGB")).numpy().transpose(1, 2, 0) * 255
  difference = np.abs(_resized(data, 800, (256, 128)) - expected)
  assert difference.max() <= tolerance + 1e-3


@pytest.mark.torch
def test_the_command_gives_what_timm_gives(folder, tmp_path):
  """Published weights, the whole way: file in, features out, against timm's model behind timm's transform."""
  torch = pytest.importorskip("torch")
  timm = pytest.importorskip("timm")
  safetensors = pytest.importorskip("safetensors.torch")
  hw = (96, 48)
  torch.manual_seed(0)
  model = timm.create_model("vit_tiny_patch16_224", img_size=hw, num_classes=0).eval()
  torch.nn.init.normal_(model.pos_embed, std=0.5)
  safetensors.save_file(model.state_dict(), tmp_path / "model.safetensors", {"format": "pt"})
  out = tmp_path / "features.npz"
  command = ["embed", f"--checkpoint={tmp_path / 'model.safetensors'}", f"--images={folder}", f"--out={out}"]
  assert cli.main([*command, "--tokens", "--image-hw=96x48"]) == 0
  transform = timm.data.create_transform(
    (3, *hw), interpolation="bicubic", crop_pct=1.0, crop_mode="squash", mean=_MEAN.tolist(), std=_STD.tolist()
  )
  names = [name for name in _NAMES if "clear" not in name]  # timm lets transparent pixels keep their color
  images = torch.stack([transform(Image.open(folder / name).convert("RGB")) for name in names])
  with torch.inference_mode():
    expected = model.forward_features(images).numpy()
  found = np.load(out)
  rows = [found["names"].tolist().index(name) for name in names]
  assert len(found["names"]) == _PEOPLE
  np.testing.assert_allclose(found["cls"][rows], expected[:, 0], atol=5e-5)
  np.testing.assert_allclose(found["tokens"][rows], expected[:, 1:], atol=5e-5)
