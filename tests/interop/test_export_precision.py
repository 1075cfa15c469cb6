"""`saip export --precision`: float16 and int8 files keep features, or are not written."""

import dataclasses
import shutil

import numpy as np
import pytest

from saip_jax import cli
from saip_jax.interop import precision, proof
from saip_jax.interop.dialects import DIALECTS
from saip_jax.interop.export import export_weights
from saip_jax.interop.export_files import write_files
from saip_jax.interop.onnx_file import normalized, open_onnx
from saip_jax.interop.tables import flatten, unflatten
from tests.support.exports import parity, pictures, run, traced_once
from tests.support.noise_pictures import encoded, noise
from tests.support.trained_weights import backbone_weights

pytestmark = pytest.mark.torch
HW = (64, 32)


@pytest.fixture
def weights():
  return backbone_weights("vit_nano", HW)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  """precision -> folder of an export, with a file that takes pixels."""
  for package in ("onnx", "onnxscript", "onnxruntime", "timm"):
    pytest.importorskip(package)
  root, weights = tmp_path_factory.mktemp("exports"), backbone_weights("vit_nano", HW)
  with traced_once():
    for name in ("float16", "int8"):
      export_weights(weights, "onnx", root / name, preprocessing=True, precision=name, images=pictures)
    (root / "float32").mkdir()
    write_files("onnx", root / "float32", weights, "student", False, {"history": {}, "license": None})
  return root


@pytest.mark.parametrize("name, size", [("float16", 0.6), ("int8", 0.3)])
def test_the_record_tells_what_is_kept_and_saved(exported, weights, name, size):
  """Cosines, largest differences and sizes of the record, computed anew in float64 from the files."""
  record = parity(exported / name)
  compared = pictures(HW)[0][::5]
  ours = proof.jax_features(weights, "student", normalized(compared, weights.spec.facts()))
  for file, suffix in (("model.onnx", ""), ("model_with_preproc.onnx", " from pixels")):
    encoder = open_onnx(exported / name / file)
    assert encoder.precision == name and encoder.takes_pixels == bool(suffix) and encoder.grid == (8, 4)
    for output, theirs in zip(("cls", "patch_tokens"), encoder(compared)):
      assert theirs.dtype == np.float32
      facts = record["outputs"][output + suffix]
      a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (ours[output], theirs))
      for kind, middle in (("plain", 0), ("centered", a.mean(0))):
        cosines = [x @ y / np.sqrt((x @ x) * (y @ y)) for x, y in zip(a - middle, b - middle)]
        np.testing.assert_allclose(facts["cosine"][kind]["mean"], np.mean(cosines), atol=1e-6)
        np.testing.assert_allclose(facts["cosine"][kind]["least"], np.min(cosines), atol=1e-6)
      assert abs(facts["max_abs_difference"] - np.abs(a - b).max()) < 1e-5
      assert facts["max_abs_difference"] > 1e-4  # it is not the file in float32
    sizes = record["bytes"][file]
    assert sizes[name] == (exported / name / file).stat().st_size < size * sizes["float32"]
  assert record["parity"]["cosine"] > 0.99 == record["parity"]["least_cosine"] and record["compared_on"] == 8
  card = (exported / name / "README.md").read_text()
  assert f"| precision | {name}" in card and "centered cosine" in card and "license" in card


def test_weights_are_rounded_per_output_channel(exported, weights):
  import onnx

  state = DIALECTS["timm"].to_state(weights, "student")
  graph = onnx.load(exported / "int8" / "model.onnx").graph
  stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
  weights_of = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored]
  rounded = {stored[n.input[0]].shape: [] for n in weights_of}
  for node in weights_of:
    q, scale = stored[node.input[0]], stored[node.input[1]]
    if q.ndim == 2:
      assert q.dtype == np.int8 and scale.shape == (q.shape[1],)
      rounded[q.shape].append((q * scale, scale))
  names = [name for name in state if name.endswith(("qkv.weight", "proj.weight", "fc1.weight", "fc2.weight"))]
  names = [name for name in names if name.startswith("blocks")]
  assert len(names) == 16 == sum(map(len, rounded.values()))
  for name in names:  # each matrix is found among those of its shape, half a step away at most
    wanted = state[name].T
    assert any((np.abs(w - wanted) <= 0.5001 * scale).all() for w, scale in rounded[wanted.shape]), name


def test_weights_with_outliers_fail(tmp_path, exported, weights):
  """Three channels of every norm 60 times larger: a range for all channels fits few of them."""
  import onnx

  folder, student = tmp_path / "out", flatten(weights.student)
  shutil.copytree(exported / "float32", folder)
  model = onnx.load(folder / "model.onnx")
  stored = {tensor.name: tensor for tensor in model.graph.initializer}
  for norm in ("norm1", "norm2"):
    path = next(path for path in student if path.endswith(f"{norm}/scale") and "/blocks/" in path)
    student[path] = student[path].copy()
    for block, scale in enumerate(student[path]):
      scale[np.random.default_rng(block).choice(len(scale), 3, False)] *= 60
      name = f"model.blocks.{block}.{norm}.weight"
      stored[name].CopyFrom(onnx.numpy_helper.from_array(scale, name))
  onnx.save(model, folder / "model.onnx")
  changed = dataclasses.replace(weights, student=unflatten(student))
  assert proof.prove("onnx", folder, changed, "student")["cls"].difference < 1e-3  # the file holds these weights
  with pytest.raises(ValueError, match=r"--precision=int8.*cosine.*is 0\..*--least-cosine=0\.99.*float16"):
    precision.reduce_precision(folder, "int8", changed, "student", pictures(HW)[0], 0.99)


def test_the_command_leaves_nothing_of_it(tmp_path, exported, checkpoint, monkeypatch, capfd):
  folder = tmp_path / "images"
  folder.mkdir()
  for seed in range(12):
    (folder / f"{seed}.png").write_bytes(encoded(noise(seed, HW), "PNG"))
  monkeypatch.setattr(precision, "prove", lambda *arguments: {"cls": proof.Comparison(*np.eye(2)[:, None, None])})
  monkeypatch.setattr(precision, "to_int8", lambda path, inputs: None)
  out = tmp_path / "out"
  with traced_once():
    assert run("--dialect=onnx", "--precision=int8", f"--calibration=folder:{folder}", f"--out={out}") == 2
  error = capfd.readouterr().err
  assert error.startswith("saip export: error: --precision=int8") and "nothing was written" in error
  assert error.count("\n") == 1 and [path.name for path in tmp_path.iterdir()] == ["images"]


def test_images_that_are_compared_on_calibrate_nothing(tmp_path, exported, weights, monkeypatch):
  folder, facts, seen = tmp_path / "out", weights.spec.facts(), []
  shutil.copytree(exported / "float32", folder)
  pixels = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, *HW, 3), np.uint8)

  def prove(dialect, folder, weights, which, pixels):
    assert pixels[:, 0, 0, 0].tolist() == [0, 5]
    return {"cls": proof.Comparison(np.eye(2), np.eye(2))}

  monkeypatch.setattr(precision, "to_int8", lambda path, inputs: seen.extend(x[0, 0, 0, 0] for x in inputs))
  monkeypatch.setattr(precision, "prove", prove)
  _, record = precision.reduce_precision(folder, "int8", weights, "student", pixels, 0.9)
  values = np.rint((np.array(seen) * facts["std"][0] + facts["mean"][0]) * 255)
  assert values.tolist() == [1, 2, 3, 4, 6, 7, 8, 9] and (record["calibrated_on"], record["compared_on"]) == (8, 2)


@pytest.mark.parametrize("broken", ["constant", "nan"])
def test_features_that_tell_nothing_do_not_pass(weights, broken):
  """Plain cosines of features that images share are near 1, also if the file returns one feature for all images."""
  rng = np.random.default_rng(0)
  ours = 10 + rng.standard_normal((20, 50))
  theirs = np.tile(ours.mean(0), (20, 1)) if broken == "constant" else np.where(np.eye(20, 50), np.nan, ours)
  comparison = proof.Comparison(ours, theirs)
  assert not precision.kept_cosine({"cls": comparison}) >= precision.LEAST_COSINE
  if broken == "constant":
    assert comparison.cosines()["plain"]["least"] > 0.98


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--precision=int4"], ["--precision=int4", "float16", "int8"]),
    (["--precision=int8", "--dialect=timm"], ["--precision=int8", "--dialect=onnx", "timm"]),
    (["--precision=float16", "--which=depth"], ["--which=depth"]),
    (["--precision=int8", "--calibration=folder:{tmp}/none"], ["--calibration", "{tmp}/none"]),
    (["--precision=int8", "--calibration=folder:{tmp}/empty"], ["--calibration", "{tmp}/empty"]),
    (["--precision=int8", "--calibration=folder:{tmp}/few"], ["--calibration", "3 images", "at least 10"]),
    (["--precision=int8", "--calibration={tmp}/few"], ["--calibration", "is not a source", "SOURCE:PATH"]),
    (["--calibration=people"], ["--calibration", "--precision"]),
    (["--least-cosine=0.5"], ["--least-cosine", "--precision"]),
    (["--precision=int8", "--least-cosine=2"], ["--least-cosine=2", "at most 1"]),
    (["--license= "], ["--license", "one line"]),
  ],
)
def test_a_mistake_is_one_line(tmp_path, checkpoint, capfd, flags, words):
  for name, count in (("few", 3), ("empty", 0)):
    (tmp_path / name).mkdir()
    for seed in range(count):
      (tmp_path / name / f"{seed}.png").write_bytes(encoded(noise(seed, HW), "PNG"))
  flags = [flag.format(tmp=tmp_path) for flag in ["--dialect=onnx", *flags]]
  assert run(*flags, f"--out={tmp_path / 'out'}") == 2
  error = capfd.readouterr().err
  lines = [line for line in error.splitlines() if not line.startswith("calibration  ")]
  assert len(lines) == 1 and lines[0].startswith("saip export: error: "), error
  assert all(word.format(tmp=tmp_path) in lines[0] for word in words), error
  assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "few"]


def test_images_are_those_of_the_source(tmp_path):
  """Spread over it, resized, those that cannot be read left out."""
  from saip_jax.evaluation.calibration import CalibrationImages

  for i in range(20):
    (tmp_path / f"{i:02d}.png").write_bytes(encoded(np.full((*HW, 3), i, np.uint8), "PNG") if i != 7 else b"\x89PNG")
  images, identity = CalibrationImages(f"folder:{tmp_path}", str(tmp_path))((32, 16))
  assert images.shape == (19, 32, 16, 3) and images[:, 0, 0, 0].tolist() == [i for i in range(20) if i != 7]
  assert identity["length"] == 19 and identity["source"] == "folder"


def test_help_names_the_precisions(capsys):
  with pytest.raises(SystemExit):
    cli.main(["export", "--help"])
  assert "int8" in capsys.readouterr().out
