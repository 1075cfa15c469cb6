"""TFDS: the builder for prepared sets works without TensorFlow, and its sets are read back as a source."""

import os
import pathlib
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest

from input_pipeline.people.dataset import PeopleSource
from input_pipeline.people.prepare import prepare_people
from input_pipeline.people.spec import SetSpec
from input_pipeline.prepare.prepare import prepare_dataset
from input_pipeline.prepare.shard import PrepareRequest
from input_pipeline.sources.containers.array_record import ArrayRecordSource
from input_pipeline.sources.table import open_source

tfds = pytest.importorskip("tensorflow_datasets")


def build(prepared, data_dir):
  from input_pipeline.tfds.saip_records.saip_records_dataset_builder import Builder

  builder = Builder(data_dir=data_dir, file_format="array_record")
  builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=prepared))
  return builder.data_dir


@pytest.fixture(scope="module")
def people(tmp_path_factory):
  """A prepared set of people, and its TFDS set."""
  root = tmp_path_factory.mktemp("people")
  prepare_people(root / "set", SetSpec("crops", (32, 16), 0, 5), 20, progress=False)
  return root / "set", build(root / "set", root / "tfds")


@pytest.mark.parametrize("split", ["train", "test"])
def test_built_people_are_the_same_records(people, tmp_path, split):
  prepared, built = people
  expected, source = PeopleSource(prepared, split), open_source("tfds", built, split=split, cache_dir=tmp_path)
  source = pickle.loads(pickle.dumps(source))
  same = {expected.read(i): expected.annotations(i) for i in range(len(expected))}
  assert len(source) == len(expected) and source.identity["name"] == f"saip_records/1.0.0[{split}]"
  assert {source.read(i): source.annotations(i) for i in range(len(source))} == same


def test_any_prepared_set_can_be_built(tmp_path, monkeypatch):
  monkeypatch.setenv("SAIP_CACHE", str(tmp_path / "cache"))
  (tmp_path / "photos").mkdir()
  for i in range(3):
    cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), np.full((4, 6, 3), i, np.uint8))
  prepare_dataset(PrepareRequest("folder", str(tmp_path / "photos")), tmp_path / "set")
  source = open_source("tfds", build(tmp_path / "set", tmp_path / "tfds"), cache_dir=tmp_path)
  prepared = ArrayRecordSource(tmp_path / "set")
  assert sorted(map(source.read, range(3))) == sorted(map(prepared.read, range(3)))
  assert sorted(source.annotations(i)[0]["name"] for i in range(3)) == ["0.png", "1.png", "2.png"]


def test_a_foreign_set_gives_images_and_plain_facts(tmp_path):
  features = tfds.features.FeaturesDict(
    {
      "photo": tfds.features.Image(),
      "label": tfds.features.ClassLabel(names=["cat", "dog"]),
      "box": tfds.features.BBoxFeature(),
      "caption": tfds.features.Text(),
    }
  )

  class Pets(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
      return {"validation": self._generate_examples()}

    def _generate_examples(self):
      for i in range(4):
        data = cv2.imencode(".png", np.full((4, 6, 3), i, np.uint8))[1].tobytes()
        yield i, {"photo": data, "label": i % 2, "box": tfds.features.BBox(0.0, 0.0, 0.5, 1.0), "caption": f"pet {i}"}

  builder = Pets(data_dir=tmp_path, file_format="array_record")
  builder.download_and_prepare()
  source = open_source("tfds", builder.data_dir, split="validation[:50%]", cache_dir=tmp_path)
  assert len(source) == 2 and source.read(0).startswith(b"\x89PNG")
  facts, files = source.annotations(0)
  assert facts.keys() == {"label", "box", "caption"} and facts["box"] == [0, 0, 0.5, 1] and files == {}
  with pytest.raises(ValueError, match="data.path=.* has no split 'train'; it has validation .data.split"):
    open_source("tfds", builder.data_dir, cache_dir=tmp_path)


def test_errors_name_the_missing_set(tmp_path):
  for path in (tmp_path, "no_such_data_set"):
    with pytest.raises(ValueError, match="data.path=.* is not a TensorFlow Datasets set") as error:
      open_source("tfds", path, cache_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_releases_that_do_not_fit_are_named_with_the_remedy(people, tmp_path, monkeypatch):
  """Earlier TFDS reads a field that protobuf 7 lacks; later metadata does not import with protobuf 5."""

  def fail(path):
    raise AttributeError("'google._upb._message.FieldDescriptor' object has no attribute 'label'")

  monkeypatch.setattr(tfds, "builder_from_directory", fail)
  with pytest.raises(ValueError, match="data.path=.* protobuf .*'label'.*; pip install") as error:
    open_source("tfds", people[1], cache_dir=tmp_path)
  assert "\n" not in str(error.value)
  monkeypatch.setitem(sys.modules, "tensorflow_metadata.proto.v0.schema_pb2", None)
  with pytest.raises(ValueError, match="data.path=.* protobuf .*schema_pb2.*; pip install"):
    open_source("tfds", people[1], cache_dir=tmp_path)


@pytest.mark.compile
def test_reading_needs_no_tensorflow(people, tmp_path):
  script = (
    "import sys\n"
    "from input_pipeline.sources.containers.tfds import TfdsSource\n"
    "print(len(TfdsSource(sys.argv[1], None).read(0)) if 'tensorflow' not in sys.modules else 0)"
  )
  root = str(pathlib.Path(__file__).resolve().parents[2])
  run = subprocess.run(
    [sys.executable, "-c", script, people[1]], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": root}
  )
  assert run.returncode == 0 and int(run.stdout) > 100, run.stderr
