"""The pre-trained models of this package: `--checkpoint=NAME`, with nothing to download."""

import pathlib

_FOLDER = pathlib.Path(__file__).resolve().parent.parent / "pretrained"


def pretrained_models() -> dict[str, pathlib.Path]:
  """Returns name -> folder of each model, made by `saip export --dialect=timm`; its README.md is the model card.

  >>> list(pretrained_models())
  ['saip_nano_people']
  """
  return {path.name: path for path in sorted(_FOLDER.iterdir()) if path.is_dir()}


def pretrained_folder(path) -> pathlib.Path | None:
  """Returns the folder of the model that a path names; None if it names none, or a file or folder that exists."""
  return None if pathlib.Path(path).exists() else pretrained_models().get(str(path))
