"""MATLAB files, as plain arrays and dicts."""

import io

import scipy.io

from input_pipeline import storage

_HDF5 = b"MATLAB 7.3"


def load_matlab(file: str, setting: str) -> dict:
  """The variables of a .mat file: structs as dicts, cells as object arrays, without axes of length one.

  Args:
    file: path or URL.
    setting: the option that led to it, for messages.

  Raises:
    ValueError: it cannot be read; one line that names the file.
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
  except Exception as error:  # scipy raises many types on what is no such file
    raise ValueError(f"{setting}: {file} is no MATLAB file that can be read ({error}); get it again") from error


def refuse_pickle(file: str, setting: str, instead: str) -> None:
  """Raises ValueError for a pickle, by its name: reading one runs whatever program is in it."""
  if file.lower().endswith((".pkl", ".pickle")):
    raise ValueError(f"{setting}={file} is a pickle, which can run any program when it is read; give {instead}")
