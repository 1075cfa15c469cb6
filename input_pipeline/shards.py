"""ArrayRecord files as one long list of records."""

import bisect
import hashlib
import itertools
import os
from collections.abc import Iterable, Sequence

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from input_pipeline import storage


class Shards:
  """Records by number, over several files that are opened when needed; pickled, it has no open files.

  Args:
    folder: path or URL. gs:// is read in place; from other buckets a shard is copied to the cache on first use.
    names: of the files in it.
    counts: records in each.
  """

  def __init__(self, folder: str, names: Sequence[str], counts: Sequence[int]):
    self._folder, self._names = folder, list(names)
    self._ends = list(itertools.accumulate(counts))
    self._readers: dict[int, ArrayRecordReader] = {}

  def __len__(self) -> int:
    return self._ends[-1] if self._ends else 0

  def read(self, number: int) -> bytes:
    """Returns a record; raises OSError, and IndexError past the end."""
    shard, position = self._place(number)
    try:
      if shard not in self._readers:  # two threads may both open one: the later stays, both can read
        self._readers[shard] = open_shard(f"{self._folder}/{self._names[shard]}")
      return self._readers[shard].read([position])[0]
    except (RuntimeError, IndexError, ValueError) as error:  # how the C++ reader reports a damaged or missing file
      raise OSError(f"{self._names[shard]}: {error}") from error

  def name(self, number: int) -> str:
    """Returns the place of a record, as "train-00000.array_record[7]"."""
    shard, position = self._place(number)
    return f"{self._names[shard]}[{position}]"

  def _place(self, number: int) -> tuple[int, int]:
    if not 0 <= number < len(self):
      raise IndexError(f"record {number} of a set of {len(self)}")
    shard = bisect.bisect_right(self._ends, number)
    return shard, number - (self._ends[shard - 1] if shard else 0)

  def __getstate__(self) -> dict:
    return self.__dict__ | {"_readers": {}}


def open_shard(path: str | os.PathLike) -> ArrayRecordReader:
  """Opens a shard for random access."""
  path = os.fspath(path)
  if storage.is_remote(path) and not path.startswith("gs://"):
    path = storage.local_copy(path)
  return ArrayRecordReader(os.fsencode(path), "readahead_buffer_size:0")


def write_shard(path: str | os.PathLike, records: Iterable[bytes]) -> dict:
  """Writes a shard, whole or not at all.

  Args:
    path: file or URL.
    records: at least one; may be a generator.

  Returns:
    {records, bytes, sha256}.

  Raises:
    OSError: it cannot be written, e.g. a full disk.
  """
  count = 0
  with storage.written_whole(os.fspath(path)) as temporary:
    try:
      writer = ArrayRecordWriter(os.fsencode(temporary), "group_size:1,uncompressed")
      for record in records:
        writer.write(record)
        count += 1
      writer.close()
    except RuntimeError as error:  # how the C++ writer reports every file error
      raise OSError(str(error)) from error
    return {"records": count, "bytes": os.path.getsize(temporary), "sha256": file_digest(temporary)}


def file_digest(path: str | os.PathLike) -> str:
  """Returns the sha256 of a local file, in hexadecimal."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
