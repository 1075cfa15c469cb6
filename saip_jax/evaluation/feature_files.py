"""Files of features, .npz or .parquet, written batch by batch and atomically."""

import contextlib
import os
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence

import numpy as np

from input_pipeline.names import ESCAPED
from input_pipeline.storage import writing

_ROW_GROUP_BYTES = 64 * 2**20


class _NpzWriter:
  """Writes arrays `names` (n,) str, `cls` (n, D) float32 and optionally `tokens` (n, N, D) float32.

  Tokens are large (vit_tiny at 256x128: 96 KiB per image), so they are buffered on disk until their number is known.
  """

  def __init__(self, path: pathlib.Path):
    self._path = path
    self._names: list[str] = []
    self._cls: list[np.ndarray] = []
    self._tokens_shape: tuple[int, ...] | None = None
    self._spool = open(path.with_name("tokens"), "w+b")

  def add(self, names: Sequence[str], cls: np.ndarray, tokens: np.ndarray | None) -> None:
    self._names += names
    self._cls.append(cls)
    if tokens is not None:
      self._tokens_shape = tokens.shape[1:]
      self._spool.write(np.ascontiguousarray(tokens, "<f4"))

  def finish(self) -> None:
    with zipfile.ZipFile(self._path, "w") as archive:
      for name, array in (("names", np.array(self._names)), ("cls", np.concatenate(self._cls))):
        with _entry(archive, name) as file:
          np.lib.format.write_array(file, array, allow_pickle=False)
      if self._tokens_shape is not None:
        shape = (len(self._names), *self._tokens_shape)
        with _entry(archive, "tokens") as file:
          header = {"descr": "<f4", "fortran_order": False, "shape": shape}
          np.lib.format.write_array_header_1_0(file, header)
          self._spool.seek(0)
          shutil.copyfileobj(self._spool, file, 2**20)

  def close(self) -> None:
    self._spool.close()


def _entry(archive: zipfile.ZipFile, name: str):
  return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)  # ZipInfo: no timestamp in the file


class _ParquetWriter:
  """Writes columns `name` string, `cls` list[D] of float32 and optionally `tokens` list[N] of list[D] of float32."""

  def __init__(self, path: pathlib.Path):
    self._path, self._file, self._waiting, self._waiting_bytes = path, None, [], 0

  def add(self, names: Sequence[str], cls: np.ndarray, tokens: np.ndarray | None) -> None:
    import pyarrow as pa

    columns = {"name": pa.array(names, pa.string()), "cls": _lists(cls)}
    if tokens is not None:
      columns["tokens"] = _lists(tokens)
    self._waiting.append(pa.table(columns))
    self._waiting_bytes += self._waiting[-1].nbytes
    if self._waiting_bytes >= _ROW_GROUP_BYTES:
      self._write_row_group()

  def _write_row_group(self) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.concat_tables(self._waiting)
    if self._file is None:
      self._file = pa.parquet.ParquetWriter(self._path, table.schema, use_dictionary=False)
    self._file.write_table(table)
    self._waiting, self._waiting_bytes = [], 0

  def finish(self) -> None:
    if self._waiting:
      self._write_row_group()
    self.close()

  def close(self) -> None:
    if self._file is not None:
      self._file.close()


def _lists(array: np.ndarray):
  """Returns a pyarrow array of nested fixed-size lists, one level for each axis after the first."""
  import pyarrow as pa

  nested = pa.array(np.ascontiguousarray(array, np.float32).reshape(-1))
  for length in reversed(array.shape[1:]):
    nested = pa.FixedSizeListArray.from_arrays(nested, length)
  return nested


_WRITERS = {".npz": _NpzWriter, ".parquet": _ParquetWriter}


def check_target(out: pathlib.Path, overwrite: bool) -> None:
  """Raises ValueError unless features can be written to `out`; called before any work."""
  if out.suffix not in _WRITERS:
    raise ValueError(f"--out={out} has the extension {out.suffix!r}; expected {' or '.join(_WRITERS)}")
  if out.is_dir():
    raise ValueError(f"--out={out} is a folder; expected a file name ending in {' or '.join(_WRITERS)}")
  if out.exists() and not overwrite:
    raise ValueError(f"--out={out} exists; choose another name, or add --overwrite")
  if out.suffix == ".parquet":
    try:
      import pyarrow.parquet  # noqa: F401
    except ImportError:
      raise ValueError(
        f'--out={out} needs pyarrow, which is not installed: pip install "saip-jax[parquet]", or write .npz'
      ) from None


def skipped_path(out: pathlib.Path) -> pathlib.Path:
  """Returns the path of the list of images without features; the file exists only if there are some."""
  return out.with_name(f"{out.name}.skipped.txt")


@contextlib.contextmanager
def feature_file(out: pathlib.Path, skipped: list[str]) -> Iterator[_NpzWriter | _ParquetWriter]:
  """Yields a writer; its file and the list of skipped images appear when the block ends without error.

  Args:
    out: the file, checked by `check_target`; its folder is created.
    skipped: lines about images without features, read at the end of the block.

  Raises:
    Unwritable: the file cannot be written.
  """
  with writing(out, "--out=", "choose another place, or make room"):
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".unfinished", dir=out.parent) as folder:
      partial = pathlib.Path(folder, out.name)
      with contextlib.closing(_WRITERS[out.suffix](partial)) as writer:
        yield writer
        writer.finish()
      if skipped:
        listed = skipped_path(partial)
        listed.write_text("".join(f"{line}\n" for line in skipped), "utf-8", ESCAPED)
        os.replace(listed, skipped_path(out))
      else:
        skipped_path(out).unlink(missing_ok=True)
      os.replace(partial, out)
