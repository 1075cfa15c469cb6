"""`saip evaluate` of ONNX files: scores under onnxruntime are those of the weights."""

import json
import sys

import numpy as np
import pytest

from input_pipeline.people import prepare
from input_pipeline.people.spec import SetSpec
from saip_jax import cli
from saip_jax.evaluation import encoders
from saip_jax.interop.export import export_weights
from saip_jax.interop.weights import loaded_backbone
from tests.support.exports import pictures, traced_once
from tests.support.toy_people import toy_picture
from tests.support.trained_weights import backbone_weights

pytestmark = pytest.mark.torch
HW = (64, 32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Folders of exports in float32 and int8, and what the tests of errors make of the first."""
  onnx = pytest.importorskip("onnx")
  for package in ("onnxscript", "onnxruntime", "timm"):
    pytest.importorskip(package)
  root, weights = tmp_path_factory.mktemp("exports"), backbone_weights("vit_nano", HW)
  with traced_once():
    export_weights(weights, "onnx", root / "float32", preprocessing=True)
    export_weights(weights, "onnx", root / "int8", precision="int8", images=pictures)
  exported = root / "float32" / "model.onnx"

  def changed(name, change):
    model = onnx.load(exported)
    change(model)
    onnx.save(model, root / name)

  changed("no_tokens.onnx", lambda model: model.graph.output.pop())
  changed("no_description.onnx", lambda model: model.ClearField("metadata_props"))
  about = json.loads(next(p.value for p in onnx.load(exported).metadata_props if p.key == "saip_jax"))
  resized = json.dumps(about | {"model": about["model"] | {"image_hw": [128, 64]}})
  changed("other_size.onnx", lambda model: onnx.helper.set_model_props(model, {"saip_jax": resized}))
  teacher = json.dumps(about | {"which": "teacher"})
  changed("teacher.onnx", lambda model: onnx.helper.set_model_props(model, {"saip_jax": teacher}))
  x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])
  y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4])
  graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
  opset = [onnx.helper.make_opsetid("", 17)]
  onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), root / "foreign.onnx")
  (root / "corrupt.onnx").write_bytes(exported.read_bytes()[:5000])
  (root / "empty.onnx").touch()
  (root / "older").mkdir()  # described by the parity.json beside it alone
  (root / "older" / "model.onnx").write_bytes((root / "no_description.onnx").read_bytes())
  (root / "older" / "parity.json").write_bytes((root / "float32" / "parity.json").read_bytes())
  return root


@pytest.fixture(scope="module")
def people(tmp_path_factory):
  out = tmp_path_factory.mktemp("data") / "people"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(prepare, "render_picture", toy_picture)
    prepare.prepare_people(out, SetSpec("crops", HW, 0, 20), 160, progress=False, processes=1)
  return f"people:{out}"


def evaluate(*flags) -> int:
  return cli.main(["evaluate", *flags])


@pytest.mark.parametrize("name", ["float32", "float32/model.onnx", "float32/model_with_preproc.onnx", "older", "int8"])
def test_features_are_those_of_the_weights(files, name):
  images, _ = pictures(HW, 5)
  onnx = encoders.open_encoder(str(files / name))
  ours = encoders.encoder_of(loaded_backbone(backbone_weights("vit_nano", HW)), {})
  limit = 0.3 if name == "int8" else 2e-5
  for theirs, wanted in zip(onnx.apply(images), ours.apply(images)):
    assert theirs.shape == wanted.shape and np.abs(theirs - wanted).max() < limit
  assert onnx.facts["precision"] == ("int8" if name == "int8" else "float32") and onnx.facts["backbone"] == "vit_nano"


def test_tasks_have_the_scores_of_the_weights(people, files, monkeypatch, capsys):
  tasks = "reid,reid:stripes,depth"  # image features, cells pooled, dense maps
  flags = [f"--task={tasks}", f"--data={people}", "--json"]
  monkeypatch.setattr(encoders, "open_weights", lambda path: backbone_weights("vit_nano", HW))
  found = {}
  for name in ("float32", "int8", "W"):
    assert evaluate(f"--checkpoint={files / name if name != 'W' else 'W'}", *flags) == 0
    text, decoder, found[name] = capsys.readouterr().out, json.JSONDecoder(), []
    while text := text.strip():
      record, end = decoder.raw_decode(text)
      text = text[end:]
      found[name].append(record)
  assert [len(records) for records in found.values()] == [3, 3, 3]
  for ours, float32, int8 in zip(found["W"], found["float32"], found["int8"]):
    for score, value in ours["scores"].items():
      assert abs(float32["scores"][score] - value) < 0.01 * max(1, value), (ours["task"], score)
    assert int8["encoder"]["precision"] == "int8" and int8["scores"].keys() == ours["scores"].keys()


def test_a_task_takes_the_size_of_the_file(files, monkeypatch):
  from saip_jax.evaluation import evaluate as evaluation

  seen = []
  monkeypatch.setattr(evaluation, "measure", lambda encoder, *arguments: seen.append(encoder.image_hw) or {})
  evaluation.evaluate_tasks(str(files / "float32"), [("detection", None), ("reid", None)], None)
  assert seen == [HW, HW]


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--checkpoint={files}/corrupt.onnx"], ["corrupt.onnx", "no ONNX file"]),
    (["--checkpoint={files}/empty.onnx"], ["empty.onnx", "no ONNX file"]),
    (["--checkpoint={files}/none.onnx"], ["none.onnx", "no such file"]),
    (["--checkpoint={files}/foreign.onnx"], ["foreign.onnx", "saip export --dialect=onnx", "x to y"]),
    (["--checkpoint={files}/no_description.onnx"], ["saip export --dialect=onnx", "parity.json"]),
    (["--checkpoint={files}/other_size.onnx"], ["64x32", "128x64", "export it again"]),
    (["--checkpoint={files}/int8", "--image-hw=128x64"], ["--image-hw=128x64", "64x32", "export it again"]),
    (["--checkpoint={files}/int8", "--which=teacher"], ["--which=teacher", "student"]),
    (["--checkpoint={files}/no_tokens.onnx", "--task=parsing"], ["patch_tokens", "export it again"]),
    (["--checkpoint={files}/no_tokens.onnx", "--task=reid:stripes"], ["patch_tokens", "export it again"]),
    (["--checkpoint={files}/int8", "--task=cross_modality"], ["hcmoco"]),
  ],
)
def test_a_file_that_does_not_fit_is_one_line(people, files, capfd, flags, words):
  flags = ["--task=reid", f"--data={people}", *(flag.format(files=files) for flag in flags)]
  assert evaluate(*flags) == 2
  error = capfd.readouterr().err
  assert error.startswith("saip evaluate: error: ") and error.count("\n") == 1, error
  assert all(word in error for word in words), error


def test_without_tokens_there_are_image_features(people, files, capsys):
  assert evaluate(f"--checkpoint={files / 'no_tokens.onnx'}", "--task=reid", f"--data={people}") == 0
  assert "mAP" in capsys.readouterr().out


def test_a_teacher_is_measured_as_one(files):
  assert encoders.open_encoder(str(files / "teacher.onnx"), "teacher").facts["which"] == "teacher"


def test_without_onnxruntime_the_extra_is_named(files, monkeypatch, capfd):
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  assert evaluate(f"--checkpoint={files / 'float32'}", "--task=reid", "--data=people") == 2
  error = capfd.readouterr().err
  assert error.count("\n") == 1 and "onnxruntime is not installed" in error and "saip-jax[torch]" in error
