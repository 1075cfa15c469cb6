"""Tensor files: `.safetensors` through numpy, and PyTorch's `.pth` without running pickled code.

The place, size and type of a tensor are checked against the file before it is read.
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
_SHARING = 4  # tensors may share memory, such as student and teacher at the start of training
_SAFETENSORS_TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")


def read_tensors(path) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns (tensors, metadata) of a file; its format is that of its suffix.

  Args:
    path: a file with one of `SUFFIXES`.

  Returns:
    Nested dicts of numpy arrays, views of the file if possible; and its metadata: `__metadata__` of a safetensors file,
    or the plain values of a pickle, nested as in the file.

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
  raise ValueError(f"{path} has an unknown suffix; weight files end in {', '.join(SUFFIXES)}")


def write_safetensors(path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
  """Writes a flat dict of arrays atomically."""
  from safetensors.numpy import save_file

  path = pathlib.Path(path)
  partial = path.with_name(f".{path.name}.partial")
  try:
    partial.touch()
    mode = partial.stat().st_mode  # follows the umask; the library writes files that only their owner can read
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
    raise ValueError(f"{path} is not a complete safetensors file: {e}") from e


def _read_pickle(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
  _check_archive(path)
  try:
    import torch
  except ImportError:
    raise ValueError(
      f'{path} is a PyTorch file and PyTorch is not installed: pip install "saip-jax[torch]", or save .safetensors'
    ) from None
  try:
    with torch.serialization.safe_globals([argparse.Namespace]):  # the type of `args` in most published files
      content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(content, Mapping):
      raise ValueError(f"{path} holds a {type(content).__name__}, expected a dict of tensors")
    tensors, plain = _split(content, torch, str(path))
  except pickle.UnpicklingError as e:
    named = re.search(r"GLOBAL (\S+)", str(e))
    if not named:
      raise ValueError(f"{path} is not a complete PyTorch file: {_first_line(e)}") from e
    raise ValueError(
      f"{path} is refused: it holds {named[1]} beside tensors and plain values, and loading such objects can run any"
      " program; nothing was run; save only its state dict"
    ) from e
  except (RuntimeError, EOFError, KeyError, IndexError, TypeError, AttributeError) as e:  # RecursionError is the first
    raise ValueError(f"{path} is not a complete PyTorch file: {_first_line(e)}") from e
  claimed, stored = _bytes(tensors), path.stat().st_size
  if claimed > _SHARING * stored:
    raise ValueError(f"{path} is refused: its tensors claim {claimed:,} bytes, the file has {stored:,}")
  return tensors, plain


def _check_archive(path: pathlib.Path) -> None:
  """Raises ValueError unless the file is a zip archive of uncompressed entries that fit into it."""
  try:
    with zipfile.ZipFile(path) as archive:
      entries = archive.infolist()
  except (zipfile.BadZipFile, ValueError, NotImplementedError) as e:
    if _is_bare_pickle(path):
      raise ValueError(
        f"{path} is refused: it is a bare pickle, the format of PyTorch before 1.6, whose tensor sizes cannot be"
        " checked; load it with PyTorch and save it again"
      ) from e
    raise ValueError(f"{path} is not a complete PyTorch file: truncated, or something else") from e
  names = {name.partition("/")[2] for name in (entry.filename for entry in entries)}
  if "constants.pkl" in names:
    raise ValueError(f"{path} is a TorchScript program, expected a dict of tensors saved with torch.save")
  if "data.pkl" not in names:
    raise ValueError(f"{path} is a zip archive but not a PyTorch file: it has no data.pkl")
  if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
    raise ValueError(f"{path} is refused: its entries are compressed, which PyTorch never does")
  if sum(entry.file_size for entry in entries) > path.stat().st_size:
    raise ValueError(f"{path} is refused: its entries are larger than the file")


def _is_bare_pickle(path: pathlib.Path) -> bool:
  with open(path, "rb") as file:
    return file.read(1) == b"\x80"


def _split(content: Mapping, torch, at: str) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the tensors of nested dicts as arrays, and the plain values."""
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
    raise ValueError(f"{what} is not a plain tensor: {_first_line(e)}") from e


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _bytes(tensors: Mapping) -> int:
  return sum(_bytes(value) if isinstance(value, Mapping) else value.nbytes for value in tensors.values())
