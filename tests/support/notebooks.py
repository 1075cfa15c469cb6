"""Notebooks, executed by a kernel of a given interpreter."""

import pathlib

import pytest

# A torchvision built for another torch does not import until its operators have names (see conftest.py).
TORCHVISION = """
import torch
try:
  import torchvision
except RuntimeError:
  names = torch.library.Library("torchvision", "FRAGMENT")
  for name in ("nms", "qnms"):
    names.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
  for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
    del sys.modules[name]
"""


def execute(notebook, python: str | pathlib.Path, folder: pathlib.Path, environment: dict[str, str]) -> None:
  """Runs all cells from top to bottom and stores their outputs; a cell that fails raises.

  Args:
    notebook: from nbformat, changed in place.
    python: the interpreter, with ipykernel.
    folder: where it runs.
    environment: its environment variables.
  """
  nbclient = pytest.importorskip("nbclient")
  pytest.importorskip("ipykernel")
  from jupyter_client import AsyncKernelManager

  class Manager(AsyncKernelManager):
    def format_kernel_cmd(self, extra_arguments=None):
      return [str(python), "-m", "ipykernel_launcher", "-f", self.connection_file]

  resources = {"metadata": {"path": str(folder)}}
  client = nbclient.NotebookClient(notebook, timeout=900, kernel_manager_class=Manager, resources=resources)
  client.execute(env=environment)
