"""ArrayRecord shards as an ImageSource, as written by `saip prepare`; training reads them fastest."""

import hashlib
import os
import re

from input_pipeline import storage
from input_pipeline.prepared import META, is_unfinished, open_shards, read_meta, set_digest
from input_pipeline.records import decode_record, image_format, image_of_record
from input_pipeline.shards import Shards, open_shard
from input_pipeline.source import ImageSource

PREPARED_FORMAT = "saip_jax records 1"
"""Format of the records and the manifest that `saip prepare` writes."""

COMMAND = "saip prepare"

# a.array_record, or TFDS's names: people-train.array_record-00000-of-00010
_SHARD_NAME = re.compile(r"\.array_record(-\d+-of-\d+)?$")


class ArrayRecordSource(ImageSource):
  """A set written by `saip prepare`, or any ArrayRecord files of encoded images or of records.

  Args:
    path: the folder of a prepared set, any folder of ArrayRecord files, or one such file; local or a URL.
    setting: the option that gave `path`, named in messages.

  Raises:
    ValueError: there are no such files, the set is unfinished, or a shard is missing or truncated.
  """

  def __init__(self, path: str | os.PathLike, setting: str = "data.path"):
    folder = storage.normalized(path)
    try:
      meta = self._checked_meta(folder, setting)
      self._shards, digest = (
        (open_shards(folder, meta, setting, COMMAND), set_digest(meta)) if meta else (_open_any_shards(folder, setting))
      )
    except OSError as error:
      raise ValueError(f"{setting}={path} cannot be read: {error}") from error
    if not len(self._shards):
      raise ValueError(f"{setting}={path} holds no record")
    self.legend, self.categories = meta.get("legend", {}), meta.get("categories", {})
    self.identity = {"source": "arrayrecord", "name": os.path.basename(folder), "length": len(self), "digest": digest}

  @staticmethod
  def _checked_meta(folder: str, setting: str) -> dict:
    if is_unfinished(folder):
      raise ValueError(
        f"{setting}={folder} is an unfinished set; run the same `{COMMAND} ... --out=...` again, it "
        "continues where it stopped"
      )
    meta = read_meta(f"{folder}/{META}")
    if meta.get("export"):
      raise ValueError(
        f"{setting}={folder} is a set for other tools (--export={meta['export']}); make one without --export"
      )
    return meta if "shards" in meta else {}

  def __len__(self) -> int:
    return len(self._shards)

  def read(self, i: int) -> bytes:
    record = self._shards.read(i)
    image = record if image_format(record) else image_of_record(record)
    if image is None:
      raise OSError("the record has no image: it is neither an encoded image nor a record of `saip prepare`")
    return image

  def annotations(self, i: int) -> tuple[dict, dict[str, bytes]]:
    record = self._shards.read(i)
    if image_format(record) or image_of_record(record) is None:
      return {}, {}
    facts, files = decode_record(record)
    return facts, {name: data for name, data in files.items() if not name.startswith("image.")}

  def name(self, i: int) -> str:
    """Returns the name of image `i` in the source that the set was made from, or else its shard and row."""
    try:
      name = self.annotations(i)[0].get("name")
    except OSError:
      name = None
    return name or self._shards.name(i)

  def __getstate__(self) -> dict:
    return self.__dict__ | {"legend": {}}  # unused by worker processes


def _open_any_shards(path: str, setting: str) -> tuple[Shards, str]:
  """Opens ArrayRecord files without a manifest; returns them and a digest of their names and sizes."""
  if not storage.exists(path):
    raise ValueError(f"{setting}={path} does not exist; expected a folder of ArrayRecord files")
  if storage.is_folder(path):
    names = [
      name
      for name in (
        (name for name, _ in storage.list_files(path)) if storage.is_remote(path) else sorted(os.listdir(path))
      )
      if _SHARD_NAME.search(name)
    ]
  else:
    path, _, name = path.rpartition("/")
    names = [name]
  if not names:
    raise ValueError(f"{setting}={path} holds no ArrayRecord files; expected *.array_record, as `{COMMAND}` writes")
  counts, digest = [], hashlib.sha256()
  for name in names:
    shard = f"{path}/{name}"
    try:
      reader = open_shard(shard)
      counts.append(reader.num_records())
      reader.close()
    except (RuntimeError, ValueError, IndexError) as error:
      raise ValueError(
        f"{setting}={shard} is not a complete ArrayRecord file ({str(error).splitlines()[0]}); write it again or "
        "remove it"
      ) from error
    digest.update(f"{name} {storage.stamp(shard)[0]}\n".encode())
  return Shards(path, names, counts), digest.hexdigest()[:16]
