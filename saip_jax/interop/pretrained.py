"""The pre-trained models of this package: `--checkpoint=NAME`, with nothing to download."""

import pathlib

from saip_jax.run_folder.files import MODEL_FILE

_FOLDER = pathlib.Path(__file__).resolve().parent.parent / "pretrained"


def pretrained_models() -> dict[str, pathlib.Path]:
  """Returns name -> folder of each model, as `saip import` makes it, with a model card."""
  return {file.parent.name: file.parent for file in sorted(_FOLDER.glob(f"*/{MODEL_FILE}"))}


def pretrained_folder(path) -> pathlib.Path | None:
  """Returns the folder of the model that a path names; None if it names none, or a file or folder that exists."""
  return None if pathlib.Path(path).exists() else pretrained_models().get(str(path))
