"""Files of tensors: `.safetensors` through numpy, and PyTorch's `.pth` without ever running what is pickled inside.

Nothing is read before its place, size and type are known to lie within the file.
"""

import argparse
import hashlib
import os
import pathlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from input_pipeline.checks import shortlist

PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)
_SHARING = 4  # tensors may share memory, as student and teacher of a file that was just begun
_SAFETENSORS_TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


def read_tensors(path) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns (tensors, metadata) of a file, told apart by its ending.

  Args:
    path: one of `SUFFIXES`.

  Returns:
    Nested dicts of numpy arrays, views of the file where possible; and what the file says beside them: the
    `__metadata__` of a safetensors file, the plain values of a pickle under the names they have there.

  Raises:
    ValueError: no such file, truncated, empty or foreign content, objects other than tensors and plain values.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f"{path}: no such file")
  if not path.stat().st_size:
    raise ValueError(f"{path} is empty")
  if path.suffix == ".safetensors":
    return _read_safetensors(path)
  if path.suffix in PICKLE_SUFFIXES:
    return _read_pickle(path)
  raise ValueError(f"{path} has no known ending; files of weights end in {', '.join(SUFFIXES)}")


def write_safetensors(path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
  """Writes a flat dict of arrays; whole or not at all."""
  from safetensors.numpy import save_file

  path = pathlib.Path(path)
  partial = path.with_name(f".{path.name}.partial")
  try:
    partial.touch()
    mode = partial.stat().st_mode  # as umask says: the library makes files that their owner alone can read
    save_file({name: np.ascontiguousarray(a) for name, a in tensors.items()}, partial, dict(metadata or {}) or None)
    partial.chmod(mode)
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def sha256(path) -> str:
  """Returns the checksum of a file in hexadecimal."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _read_safetensors(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  from safetensors import SafetensorError, safe_open

  try:
    with safe_open(path, framework="np") as file:  # checks header, offsets and sizes against the file
      types = {name: file.get_slice(name).get_dtype() for name in file.keys()}
      unknown = [f"{name} ({kind})" for name, kind in types.items() if kind not in _SAFETENSORS_TYPES]
      if unknown:
        raise ValueError(f"{path} holds tensors of unknown types: {shortlist(unknown)}")
      return {name: file.get_tensor(name) for name in types}, file.metadata() or {}
  except SafetensorError as e:
    raise ValueError(f"{path} is no whole safetensors file: {e}") from e


def _read_pickle(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
  _check_archive(path)
  try:
    import torch
  except ImportError:
    raise ValueError(
      f"{path} is a PyTorch file and PyTorch is not installed: pip install -e '.[torch]', or save it as .safetensors"
    ) from None
  try:
    with torch.serialization.safe_globals([argparse.Namespace]):  # `args` of most published files
      content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(content, Mapping):
      raise ValueError(f"{path} holds a {type(content).__name__}, expected a dict of tensors")
    tensors, plain = _split(content, torch, str(path))
  except pickle.UnpicklingError as e:
    asked = re.search(r"GLOBAL (\S+)", str(e))
    if not asked:
      raise ValueError(f"{path} is no whole PyTorch file: {_first_line(e)}") from e
    raise ValueError(
      f"{path} is refused: beside tensors and plain values it holds {asked[1]}, and loading such objects can run any"
      " program; nothing was run; save its state dict alone"
    ) from e
  except (RuntimeError, EOFError, KeyError, IndexError, TypeError, AttributeError) as e:  # RecursionError is the first
    raise ValueError(f"{path} is no whole PyTorch file: {_first_line(e)}") from e
  claimed, stored = _bytes(tensors), path.stat().st_size
  if claimed > _SHARING * stored:
    raise ValueError(f"{path} is refused: its tensors claim {claimed:,} bytes, the file has {stored:,}")
  return tensors, plain


def _check_archive(path: pathlib.Path) -> None:
  """Raises ValueError unless the file is a zip archive of uncompressed entries that lie within it."""
  try:
    with zipfile.ZipFile(path) as archive:
      entries = archive.infolist()
  except (zipfile.BadZipFile, ValueError, NotImplementedError) as e:
    if _is_bare_pickle(path):
      raise ValueError(
        f"{path} is refused: it is a bare pickle, as PyTorch wrote before 1.6, which does not tell the sizes of its"
        " tensors beforehand; load it there and save it anew"
      ) from e
    raise ValueError(f"{path} is no whole PyTorch file: truncated, or something else") from e
  names = {name.partition("/")[2] for name in (entry.filename for entry in entries)}
  if "constants.pkl" in names:
    raise ValueError(f"{path} is a TorchScript program, expected a dict of tensors saved with torch.save")
  if "data.pkl" not in names:
    raise ValueError(f"{path} is a zip archive but no PyTorch file: it has no data.pkl")
  if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
    raise ValueError(f"{path} is refused: its entries are compressed, which PyTorch never does")
  if sum(entry.file_size for entry in entries) > path.stat().st_size:
    raise ValueError(f"{path} is refused: its entries are larger than the file")


def _is_bare_pickle(path: pathlib.Path) -> bool:
  with open(path, "rb") as file:
    return file.read(1) == b"\x80"


def _split(content: Mapping, torch, at: str) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the tensors of nested dicts as arrays, and apart from them the plain values."""
  tensors, rest = {}, {}
  for name, value in content.items():
    name = str(name)
    if isinstance(value, torch.Tensor):
      tensors[name] = _array(value, torch, f"{at}: {name}")
    elif isinstance(value, Mapping):
      inner, plain = _split(value, torch, at)
      if inner or not plain:
        tensors[name] = inner
      if plain:
        rest[name] = plain
    else:
      rest[name] = vars(value) if isinstance(value, argparse.Namespace) else value
  return tensors, rest


def _array(tensor, torch, what: str) -> np.ndarray:
  try:
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
      return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
  except (RuntimeError, TypeError) as e:
    raise ValueError(f"{what} is no plain tensor: {_first_line(e)}") from e


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _bytes(tensors: Mapping) -> int:
  return sum(_bytes(value) if isinstance(value, Mapping) else value.nbytes for value in tensors.values())
