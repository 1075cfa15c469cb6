"""Reads MATLAB files into plain arrays and dicts."""

import io

import scipy  # imports scipy.io on first use

from input_pipeline import storage

_HDF5 = b"MATLAB 7.3"


def load_matlab(file: str, setting: str) -> dict:
  """Reads the variables of a .mat file: structs as dicts, cells as object arrays, axes of length one removed.

  Args:
    file: path or URL.
    setting: the option that gave the data set, named in messages.

  Raises:
    ValueError: the file cannot be read; the message is one line that names it.
  """
  refuse_pickle(file, setting, "the .mat file that it was made from")
  try:
    data = storage.read_file(file)
  except OSError as error:
    raise ValueError(f"{setting}: {file} cannot be read: {error}") from error
  if data.startswith(_HDF5):
    raise ValueError(
      f"{setting}: {file} is a MATLAB 7.3 file, which is HDF5; save it again in MATLAB with save(..., '-v7')"
    )
  try:
    return scipy.io.loadmat(io.BytesIO(data), simplify_cells=True)
  except Exception as error:  # scipy raises many types on other files
    raise ValueError(f"{setting}: {file} is not a readable MATLAB file ({error}); get it again") from error


def refuse_pickle(file: str, setting: str, instead: str) -> None:
  """Raises ValueError if the name is that of a pickle: loading a pickle can run any code."""
  if file.lower().endswith((".pkl", ".pickle")):
    raise ValueError(f"{setting}={file} is a pickle, which can run any code when it is loaded; give {instead}")
