"""What the files around a file of weights, and the values stored in it, say about the model."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from saip_jax.backbones.pos_embed import INTERPOLATIONS

PARITY_FILE, TIMM_CONFIG = "parity.json", "config.json"


# Where training programs keep the name of the model.
_MODEL_KEYS = ("model", "arch", "model_name", "architecture", "backbone", "student_arch", "encoder")
_SETTINGS = ("args", "opt", "config", "cfg", "hyper_parameters", "hparams")


@dataclasses.dataclass(frozen=True)
class Asked:
  """What the user states about a file; None where nothing.

  Attributes:
    dialect: a name in `dialects.DIALECTS`.
    image_hw: size in pixels that the stored positions are for.
    part: section or module of the file, see `nesting.locate`.
    heads: attention heads of every block.
    last_heads: those of the last block.
  """

  dialect: str | None = None
  image_hw: tuple[int, int] | None = None
  part: str | None = None
  heads: int | None = None
  last_heads: int | None = None


@dataclasses.dataclass(frozen=True)
class Stated:
  """All that is stated; empty where nothing is.

  Attributes:
    facts: names and values for `spec.refuse_other_facts`, one mapping for each place that states some.
    architecture: timm's name of the model.
    models: names of the model in the file itself, by their place in it, as "args.model".
    file_name: that of the file, without its folder.
    image_hw: size in pixels that the positions are for.
    pos_interpolation: how positions were resized.
    normalization: (mean, std) that timm's configuration wants images to be normalized with.
    head_counts: attention heads of the decoders, as "csr_heads".
  """

  facts: tuple[Mapping[str, Any], ...] = ()
  architecture: str | None = None
  models: Mapping[str, str] = dataclasses.field(default_factory=dict)
  file_name: str = ""
  image_hw: tuple[int, int] | None = None
  pos_interpolation: str | None = None
  normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
  head_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)


def read_stated(path: pathlib.Path, plain: Mapping[str, Any]) -> Stated:
  """Returns what is known of a file of weights.

  Args:
    path: the file; beside it may lie the parity.json of one of our exports or the config.json of a timm folder.
    plain: values in the file that are no tensors, as `args`.

  Raises:
    ValueError: a file beside it that cannot be read.
  """
  stated = Stated()
  args = plain.get("args")
  if isinstance(args, Mapping):
    stated = _from_args(args)
  stated = dataclasses.replace(stated, models=_models(plain), file_name=path.name)
  config = read_json(path.with_name(TIMM_CONFIG))
  if isinstance(config.get("architecture"), str):
    stated = _from_timm(stated, config)
  parity = read_json(path.with_name(PARITY_FILE))
  size = _dict(_dict(parity.get("files")).get(path.name)).get("bytes")
  facts = _dict(parity.get("model"))
  if facts and size == path.stat().st_size:  # it speaks of this very file
    stated = dataclasses.replace(
      stated,
      facts=(*stated.facts, facts),
      image_hw=as_size(facts.get("image_hw")) or stated.image_hw,
      pos_interpolation=facts.get("pos_interpolation") or stated.pos_interpolation,
    )
  return stated


def used_settings(plain: Mapping[str, Any]) -> list[str]:
  """Returns the keys of values in a file that are looked at here."""
  return [key for key in plain if key in _SETTINGS or key in _MODEL_KEYS]


def _models(plain: Mapping[str, Any]) -> dict[str, str]:
  places = {"": plain} | {f"{name}.": _dict(plain.get(name)) for name in _SETTINGS}
  found = {f"{place}{key}": values.get(key) for place, values in places.items() for key in _MODEL_KEYS}
  return {place: model for place, model in found.items() if isinstance(model, str)}


def _from_args(args: Mapping[str, Any]) -> Stated:
  """Returns what the settings of a run say; the published ones have one number of heads for both decoders."""
  both, positions = args.get("decoder_num_heads"), args.get("pos_interpolation")
  counts = {name: args.get(name, both) for name in ("csr_heads", "css_heads")}
  return Stated(
    facts=(args,),
    image_hw=as_size(args.get("image_hw")),
    pos_interpolation=positions if positions in INTERPOLATIONS else None,
    head_counts={name: n for name, n in counts.items() if isinstance(n, int)},
  )


def _from_timm(stated: Stated, config: Mapping[str, Any]) -> Stated:
  arguments, pretrained = _dict(config.get("model_args")), _dict(config.get("pretrained_cfg"))
  size = as_size(arguments.get("img_size")) or as_size(_list(pretrained.get("input_size"))[1:])
  mean, std = (tuple(_list(pretrained.get(name))) for name in ("mean", "std"))
  return dataclasses.replace(
    stated,
    facts=(*stated.facts, arguments),
    architecture=config["architecture"],
    image_hw=size,
    normalization=(mean, std) if mean and std else None,
  )


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Returns what a file holds, nothing if it is absent or no mapping; raises ValueError if it is no JSON."""
  if not path.is_file():
    return {}
  try:
    return _dict(json.loads(path.read_text("utf-8")))
  except (ValueError, RecursionError) as e:
    raise ValueError(f"{path} is no JSON file: {e}") from e


def _dict(value) -> dict[str, Any]:
  return dict(value) if isinstance(value, Mapping) else {}


def _list(value) -> list:
  return list(value) if isinstance(value, (list, tuple)) else []


def as_size(value) -> tuple[int, int] | None:
  """Returns a size given as one number or as height and width."""
  sides = [value] * 2 if isinstance(value, int) else _list(value)
  return tuple(sides) if len(sides) == 2 and all(type(side) is int and side > 0 for side in sides) else None
