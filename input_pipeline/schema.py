"""Nested mappings to frozen dataclasses and back, with errors that name the setting and the choices."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from input_pipeline.checks import choices_hint


def from_dict(cls, values: Mapping[str, Any], at: str, sections: Mapping[str, type] | None = None):
  """Returns an instance of the dataclass `cls`, its fields checked against their annotations.

  >>> from input_pipeline.settings import PairsConfig
  >>> from_dict(PairsConfig, {"kinds": ["pose"], "frame_rate": 25}, "config.data.pairs")
  PairsConfig(kinds=('pose',), gap=(0.2, 2.0), frame_rate=25.0)
  >>> from_dict(PairsConfig, {"kind": ["pose"]}, "config.data.pairs")
  Traceback (most recent call last):
  ValueError: config.data.pairs has no key 'kind', did you mean 'kinds'? choices: frame_rate, gap, kinds

  Args:
    cls: a dataclass; fields that are dataclasses themselves are sections, built in the same way.
    values: field name -> value. An int is accepted for a float, a list for a tuple, and a text for a tuple of texts.
    at: the name of these settings in errors, e.g. "config.optimizer".
    sections: field name -> dataclass, where the annotation leaves the class open.

  Raises:
    ValueError: unknown key, missing key or wrong type.
  """
  if not isinstance(values, dict):
    raise ValueError(f"{at} is {values!r}: it is a section of settings")
  fields = {field.name: field for field in dataclasses.fields(cls)}
  for key in values:
    if key not in fields:
      raise ValueError(f"{at} has no key {key!r}{choices_hint(key, list(fields))}")
  missing = [key for key, field in fields.items() if key not in values and _is_required(field)]
  if missing:
    raise ValueError(f"missing: {', '.join(f'{at}.{key}' for key in missing)}; recipes state these")
  hints = typing.get_type_hints(cls) | dict(sections or {})
  return cls(**{key: _converted(hints[key], value, f"{at}.{key}") for key, value in values.items()})


def _is_required(field: dataclasses.Field) -> bool:
  return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _converted(hint, value, at: str):
  """Returns the value in the type of the annotation; raises ValueError if it does not fit."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if dataclasses.is_dataclass(hint):
    return from_dict(hint, value, at)
  if origin is typing.Literal:
    if value in arguments:
      return value
    raise ValueError(f"{at} is {value!r}{choices_hint(value, [str(choice) for choice in arguments])}")
  if origin in (types.UnionType, typing.Union):
    return _one_of(hint, value, at)
  of_any_length = origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis
  if of_any_length and isinstance(value, str):  # --config.loggers=wandb
    value = (value,)
  if origin is tuple and isinstance(value, (list, tuple)):
    hints = arguments[:1] * len(value) if of_any_length else arguments
    if len(value) == len(hints):
      return tuple(_converted(h, v, f"{at}[{i}]") for i, (h, v) in enumerate(zip(hints, value)))
  if origin is dict and isinstance(value, dict):
    return {str(key): _converted(arguments[1], item, f"{at}.{key}") for key, item in value.items()}
  if origin is None and type(value) is hint:  # not isinstance: True is an int too
    return value
  if hint is float and type(value) is int:
    return float(value)
  raise _wrong_type(hint, value, at)


def _one_of(hint, value, at: str):
  """Returns the value in the type of the first choice of a union that it fits."""
  choices = typing.get_args(hint)
  by_type = [] if value is None else [choice for choice in choices if _may_hold(choice, value)]
  if len(by_type) == 1:  # the error of this choice is more exact than the one of the union
    return _converted(by_type[0], value, at)
  for choice in choices:
    try:
      return _converted(choice, value, at)
    except ValueError:
      pass
  raise _wrong_type(hint, value, at)


def _may_hold(hint, value) -> bool:
  origin = typing.get_origin(hint)
  return origin is typing.Literal or (origin or hint) is type(value)


def _wrong_type(hint, value, at: str) -> ValueError:
  wanted = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
  return ValueError(f"{at} is {value!r}, a {type(value).__name__}: expected {wanted.replace('NoneType', 'None')}")


def to_dict(config) -> dict[str, Any]:
  """Returns a dataclass as JSON-able nested dicts; tuples become lists."""
  return {field.name: _json_value(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _json_value(value):
  if dataclasses.is_dataclass(value):
    return to_dict(value)
  if isinstance(value, dict):
    return {key: _json_value(item) for key, item in value.items()}
  return list(value) if isinstance(value, tuple) else value


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
  """Returns one text for each setting that differs between two nested dicts, e.g. "seed was 0, now 1"."""
  before, now = flattened(before), flattened(now)
  text = lambda settings, key: repr(settings[key]) if key in settings else "absent"
  return [
    f"{key} was {text(before, key)}, now {text(now, key)}"
    for key in sorted(before.keys() | now.keys())
    if text(before, key) != text(now, key)
  ]


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Returns nested settings keyed by dotted path, e.g. "model.backbone"."""
  result: dict[str, Any] = {}
  for key, value in tree.items():
    result |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
  return result
