"""What a weight file and the files beside it declare about the model, and what the user declares about the file."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from saip_jax.backbones.pos_embed import INTERPOLATIONS

PARITY_FILE, MODEL_CONFIG, IMAGE_CONFIG = "parity.json", "config.json", "preprocessor_config.json"


# Keys under which training programs store the name of the model.
_MODEL_KEYS = ("model", "arch", "model_name", "architecture", "backbone", "student_arch", "encoder")
_SETTINGS = ("args", "opt", "config", "cfg", "hyper_parameters", "hparams")


@dataclasses.dataclass(frozen=True)
class ReadOptions:
  """What the user specifies about a weight file; None if unspecified.

  Attributes:
    dialect: a name in `dialects.DIALECTS`.
    image_hw: image size in pixels of the stored positions.
    part: section or module of the file, see `nesting.locate`.
    heads: attention heads of every block.
    last_heads: attention heads of the last block.
    semantic_weight: semantic weight of a SOLIDER file, see `solider`.
    norm_eps: epsilon of the norms of a ViT.
    patch_padding: zero pixels around an image of a ViT.
    class_token: whether a class token without a position takes part in the computation.
    mean: of each channel of the images that the encoder was trained with.
    std: standard deviation of each channel.
  """

  dialect: str | None = None
  image_hw: tuple[int, int] | None = None
  part: str | None = None
  heads: int | None = None
  last_heads: int | None = None
  semantic_weight: float | None = None
  norm_eps: float | None = None
  patch_padding: int | None = None
  class_token: bool | None = None
  mean: tuple[float, float, float] | None = None
  std: tuple[float, float, float] | None = None

  def __post_init__(self):
    if (self.mean is None) != (self.std is None):
      raise ValueError("--mean and --std belong together: set both")
    if self.std is not None and min(self.std) <= 0:
      raise ValueError(f"--std={','.join(map(str, self.std))}: expected three positive numbers")

  @property
  def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """(mean, std); None if unspecified."""
    return None if self.mean is None else (tuple(self.mean), tuple(self.std))


@dataclasses.dataclass(frozen=True)
class Declared:
  """What the files declare; empty values if nothing.

  Attributes:
    facts: names and values for `identify.refuse_other_facts`, one mapping for each place that declares some.
    timm_name: timm's name of the model.
    models: names of the model in the file itself, by their key in it, such as "args.model".
    file_name: name of the file, without its folder.
    image_hw: image size in pixels of the positions.
    pos_interpolation: how positions were resized.
    normalization: (mean, std) of the images that the encoder was trained with.
    head_counts: attention heads of the decoders, such as "csr_heads".
  """

  facts: tuple[Mapping[str, Any], ...] = ()
  timm_name: str | None = None
  models: Mapping[str, str] = dataclasses.field(default_factory=dict)
  file_name: str = ""
  image_hw: tuple[int, int] | None = None
  pos_interpolation: str | None = None
  normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
  head_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)


def read_declared(path: pathlib.Path, plain: Mapping[str, Any]) -> Declared:
  """Returns what a weight file and the files beside it declare.

  Args:
    path: the weight file. The parity.json of an export of this program, the config.json of a folder of timm or
      transformers and the preprocessor_config.json of transformers are read if they are beside it.
    plain: values in the file that are not tensors, such as `args`.

  Raises:
    ValueError: a file beside it is not valid JSON.
  """
  declared = Declared()
  args = plain.get("args")
  if isinstance(args, Mapping):
    declared = _from_args(args)
  declared = dataclasses.replace(declared, models=_models(plain), file_name=path.name)
  config, images = (read_json(path.with_name(name)) for name in (MODEL_CONFIG, IMAGE_CONFIG))
  if isinstance(config.get("architecture"), str):
    declared = _from_timm(declared, config)
  elif isinstance(config.get("model_type"), str):
    declared = _from_transformers(declared, config)
  stated = _normalization(images.get("image_mean"), images.get("image_std"))
  declared = dataclasses.replace(declared, normalization=stated or declared.normalization)
  parity = read_json(path.with_name(PARITY_FILE))
  size = _dict(_dict(parity.get("files")).get(path.name)).get("bytes")
  facts = _dict(parity.get("model"))
  if facts and size == path.stat().st_size:  # it describes this very file
    declared = dataclasses.replace(
      declared,
      facts=(*declared.facts, facts),
      image_hw=as_size(facts.get("image_hw")) or declared.image_hw,
      pos_interpolation=facts.get("pos_interpolation") or declared.pos_interpolation,
      normalization=_normalization(facts.get("mean"), facts.get("std")) or declared.normalization,
    )
  return declared


def used_settings(plain: Mapping[str, Any]) -> list[str]:
  """Returns the keys of plain values in a file that `read_declared` reads."""
  return [key for key in plain if key in _SETTINGS or key in _MODEL_KEYS]


def _models(plain: Mapping[str, Any]) -> dict[str, str]:
  places = {"": plain} | {f"{name}.": _dict(plain.get(name)) for name in _SETTINGS}
  found = {f"{place}{key}": values.get(key) for place, values in places.items() for key in _MODEL_KEYS}
  return {place: model for place, model in found.items() if isinstance(model, str)}


def _from_args(args: Mapping[str, Any]) -> Declared:
  """Returns what a run's `args` declare; published files have one number of heads for both decoders."""
  both, positions = args.get("decoder_num_heads"), args.get("pos_interpolation")
  counts = {name: args.get(name, both) for name in ("csr_heads", "css_heads")}
  return Declared(
    facts=(args,),
    image_hw=as_size(args.get("image_hw")),
    pos_interpolation=positions if positions in INTERPOLATIONS else None,
    normalization=_normalization(args.get("mean"), args.get("std")),
    head_counts={name: n for name, n in counts.items() if isinstance(n, int)},
  )


def _from_timm(declared: Declared, config: Mapping[str, Any]) -> Declared:
  arguments, pretrained = _dict(config.get("model_args")), _dict(config.get("pretrained_cfg"))
  size = as_size(arguments.get("img_size")) or as_size(_list(pretrained.get("input_size"))[1:])
  return dataclasses.replace(
    declared,
    facts=(*declared.facts, arguments),
    timm_name=config["architecture"],
    image_hw=size,
    normalization=_normalization(pretrained.get("mean"), pretrained.get("std")),
  )


# Names in a config.json of transformers -> names of facts here.
_TRANSFORMERS_FACTS = {
  "hidden_size": "width",
  "num_hidden_layers": "depth",
  "num_attention_heads": "heads",
  "patch_size": "patch",
  "num_register_tokens": "prefix_tokens",
  "layer_norm_eps": "norm_eps",
  "hidden_act": "gelu",
  "rope_theta": "rope_temperature",
}


def _from_transformers(declared: Declared, config: Mapping[str, Any]) -> Declared:
  facts = {ours: config[theirs] for theirs, ours in _TRANSFORMERS_FACTS.items() if config.get(theirs) is not None}
  return dataclasses.replace(declared, facts=(*declared.facts, facts), image_hw=as_size(config.get("image_size")))


def _normalization(mean, std) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
  """Returns (mean, std) of three channels; None if they are not three numbers each."""
  both = _list(mean), _list(std)
  numbers = all(len(values) == 3 and all(type(v) in (int, float) for v in values) for values in both)
  return tuple(tuple(map(float, values)) for values in both) if numbers else None


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Returns the mapping in a JSON file, empty if the file is absent or not a mapping; raises ValueError if not JSON."""
  if not path.is_file():
    return {}
  try:
    return _dict(json.loads(path.read_text("utf-8")))
  except (ValueError, RecursionError) as e:
    raise ValueError(f"{path} is not a JSON file: {e}") from e


def _dict(value) -> dict[str, Any]:
  return dict(value) if isinstance(value, Mapping) else {}


def _list(value) -> list:
  return list(value) if isinstance(value, (list, tuple)) else []


def as_size(value) -> tuple[int, int] | None:
  """Returns a size given as one number or as height and width; None if it is not a size."""
  sides = [value] * 2 if isinstance(value, int) else _list(value)
  return tuple(sides) if len(sides) == 2 and all(type(side) is int and side > 0 for side in sides) else None
