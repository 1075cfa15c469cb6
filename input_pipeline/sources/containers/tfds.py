"""TensorFlow Datasets (TFDS) sets as an ImageSource, read without TensorFlow."""

import hashlib
import importlib.metadata
import json

import numpy as np

from input_pipeline import storage
from input_pipeline.source import ImageSource

# Longer arrays are not facts of an image.
_MOST_NUMBERS = 4096

# These work with every protobuf from 5.29 on. Earlier TFDS fails with protobuf 7, later metadata with protobuf 5; their
# own requirements admit both.
_REMEDY = 'pip install "tensorflow-datasets>=4.9.10" "tensorflow-metadata<1.18"'


class TfdsSource(ImageSource):
  """The images of one split of a TFDS set in ArrayRecord files.

  The image is the feature of type Image, or the one named `image` if there are several, as its encoded bytes. The
  other features are facts; sets made by the builder in input_pipeline/tfds/saip_records return their records.

  Args:
    path: the folder of a built set (with dataset_info.json), or a name for `tfds.builder`, e.g. `mnist:3.0.1`.
    split: a split in TFDS's notation, e.g. `train` or `train[:10%]`; None for train.
    setting: the option that gave `path`, named in messages.

  Raises:
    ValueError: no such set or split, a set in another file format, or one without images; releases of TFDS and protobuf
      that do not fit.
  """

  def __init__(self, path: str, split: str | None, setting: str = "data.path"):
    tfds = _import_tfds(path, setting)
    split = split or "train"
    builder = _open_builder(tfds, path, setting)
    images = [name for name, feature in builder.info.features.items() if isinstance(feature, tfds.features.Image)]
    if not images:
      raise ValueError(f"{setting}={path} has no images: its features are {', '.join(builder.info.features)}")
    self._image = "image" if "image" in images else images[0]
    try:
      info = builder.info.splits[split]
      self._data = builder.as_data_source(split=split, decoders={name: tfds.decode.SkipDecoding() for name in images})
    except (KeyError, ValueError) as error:
      raise ValueError(
        f"{setting}={path} has no split {split!r}; it has {', '.join(builder.info.splits)} (data.split)"
      ) from error
    except NotImplementedError as error:
      raise ValueError(
        f"{setting}={path} is in files without random access ({builder.info.file_format}); build it with "
        "`tfds build --file_format=array_record`"
      ) from error
    if not len(self._data):
      raise ValueError(f"{setting}={path} has no example in {split!r}")
    contents = json.dumps([builder.info.full_name, split, len(self._data), info.num_bytes])
    self.identity = {
      "source": "tfds",
      "name": f"{builder.info.full_name}[{split}]",
      "length": len(self),
      "digest": hashlib.sha256(contents.encode()).hexdigest()[:16],
    }

  def __len__(self) -> int:
    return len(self._data)

  def read(self, i: int) -> bytes:
    return self._example(i)[self._image]

  def name(self, i: int) -> str:
    return f"{self.identity['name']}[{i}]"

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    example = self._example(i)
    del example[self._image]
    if example.keys() == {"facts", "files"}:  # built by saip_records
      names = [name.decode() for name in example["files"]["name"]]
      return json.loads(example["facts"]), dict(zip(names, example["files"]["data"]))
    return _plain(example), {}

  def _example(self, i: int) -> dict:
    try:
      return self._data[i]
    except (RuntimeError, ValueError) as error:  # raised for a damaged shard
      raise OSError(f"example {i} cannot be read: {error}") from error


def _unfit(path: str, setting: str, error: Exception) -> ValueError:
  return ValueError(
    f"{setting}={path} needs TensorFlow Datasets, which does not fit protobuf {importlib.metadata.version('protobuf')} "
    f"({' '.join(str(error).split())[:200]}); {_REMEDY}"
  )


def _import_tfds(path: str, setting: str):
  try:  # takes half a second
    import tensorflow_metadata.proto.v0.schema_pb2  # noqa: F401  TFDS would log this error, and have no attributes
  except Exception as error:  # protobuf's VersionError
    raise _unfit(path, setting, error) from error
  import tensorflow_datasets

  return tensorflow_datasets


def _open_builder(tfds, path: str, setting: str):
  try:
    if storage.exists(storage.normalized(path)):
      return tfds.builder_from_directory(storage.normalized(path))
    return tfds.builder(path, try_gcs=False)
  except Exception as error:  # TFDS raises many types for other names and folders
    if isinstance(error, AttributeError) and "FieldDescriptor" in str(error):
      raise _unfit(path, setting, error) from error
    raise ValueError(
      f"{setting}={path} is not a TensorFlow Datasets set ({' '.join(str(error).split())[:200]}); expected "
      "the folder with dataset_info.json, or the name of a set that is built"
    ) from error


def _plain(value):
  """Returns the parts of a feature that are JSON-able; None for arrays that are too long."""
  if isinstance(value, dict):
    return {key: plain for key, item in value.items() if (plain := _plain(item)) is not None}
  if isinstance(value, bytes):
    return value.decode("utf-8", "replace")
  if isinstance(value, np.ndarray):
    return _plain(value.tolist()) if value.size <= _MOST_NUMBERS else None
  if isinstance(value, list):
    return [_plain(item) for item in value]
  return value.item() if isinstance(value, np.generic) else value
