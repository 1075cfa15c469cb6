"""A prepared set as a TensorFlow Datasets set, so that it can be shared and read the TFDS way.

    cd input_pipeline/tfds/saip_records
    tfds build --manual_dir=PREPARED --data_dir=OUT --file_format=array_record

where PREPARED is a folder made by `saip prepare`. `data.source=tfds` reads the result. The `tfds` command itself needs
TensorFlow; the builder does not: `Builder(data_dir=..., file_format="array_record").download_and_prepare(...)`.
"""

import json

import numpy as np
import tensorflow_datasets as tfds

from input_pipeline.people.dataset import PeopleSource
from input_pipeline.people.description import PEOPLE_FORMAT
from input_pipeline.people.spec import SPLITS
from input_pipeline.prepared import META, read_meta
from input_pipeline.source import ImageSource
from input_pipeline.sources.containers.array_record import ArrayRecordSource


class Builder(tfds.core.GeneratorBasedBuilder):
  """Images with their annotations (JSON) and further files (depth, masks, ...); records.py documents them."""

  VERSION = tfds.core.Version("1.0.0")
  MANUAL_DOWNLOAD_INSTRUCTIONS = "--manual_dir=DIR: the folder of a set made by `saip prepare`"

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      description=__doc__,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(None, None, 3)),
          "facts": tfds.features.Text(doc="JSON object"),
          "files": tfds.features.Sequence(
            {"name": tfds.features.Text(), "data": tfds.features.Tensor(shape=(), dtype=np.object_)}
          ),
        }
      ),
    )

  def _split_generators(self, download_manager: tfds.download.DownloadManager) -> dict:
    folder = download_manager.manual_dir
    if read_meta(folder / META).get("format") == PEOPLE_FORMAT:
      sources = {split: PeopleSource(folder, split) for split in SPLITS}
    else:
      sources = {"train": ArrayRecordSource(folder, "--manual_dir")}
    return {split: self._generate_examples(source) for split, source in sources.items()}

  def _generate_examples(self, source: ImageSource):
    for i in range(len(source)):
      annotations, files = source.annotations(i)
      yield (
        i,
        {
          "image": source.read(i),
          "facts": json.dumps(annotations),
          "files": [{"name": name, "data": data} for name, data in files.items()],
        },
      )
