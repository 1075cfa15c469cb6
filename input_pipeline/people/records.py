"""The prepared set on disk: one record per picture, shards of them, and meta.json.

A record is `uint32 little endian n | n bytes of JSON | JPEG`, so that a few lines in any language read it; the JSON
holds {"index", "identity"}. Shards are ArrayRecord files with one record per group, for random access.
"""

import hashlib
import json
import os
import pathlib
import struct

from array_record.python.array_record_module import ArrayRecordWriter

META = "meta.json"
FORMAT = "saip_jax built-in people"
SHARD_LENGTH = 500


def pack_record(facts: dict, jpeg: bytes) -> bytes:
  """Facts (JSON-able) and picture as one record."""
  header = json.dumps(facts, sort_keys=True).encode()
  return struct.pack("<I", len(header)) + header + jpeg


def unpack_record(record: bytes) -> tuple[dict, bytes]:
  """The facts and the JPEG bytes of a record."""
  end = 4 + struct.unpack_from("<I", record)[0]
  return json.loads(record[4:end]), record[end:]


def shard_ranges(count: int) -> dict[str, range]:
  """File name of each shard -> the picture numbers in it."""
  shards = -(-count // SHARD_LENGTH)
  return {f"people-{k:05d}-of-{shards:05d}.array_record": range(k * SHARD_LENGTH, min((k + 1) * SHARD_LENGTH, count))
          for k in range(shards)}


def write_shard(path: pathlib.Path, records) -> None:
  """Writes a shard so that it is there whole or not at all; raises OSError, e.g. on a full disk."""
  temporary = path.with_suffix(".unfinished")
  try:
    writer = ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
    for record in records:
      writer.write(record)
    writer.close()
  except RuntimeError as error:  # how the C++ writer reports every file error
    raise OSError(str(error)) from error
  os.replace(temporary, path)


def write_json(path: pathlib.Path, content: dict) -> None:
  """Writes a readable JSON file so that it is there whole or not at all."""
  temporary = path.with_suffix(".unfinished")
  temporary.write_text(json.dumps(content, indent=2) + "\n")
  os.replace(temporary, path)


def file_digest(path: pathlib.Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
