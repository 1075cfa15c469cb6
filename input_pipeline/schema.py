"""Nested mappings to frozen dataclasses and back, with errors that say what was meant."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_SHOWN = 6


def choices_hint(name, choices: Sequence[str]) -> str:
  """Returns the end of an error about a name that is none of the choices: the closest one, and all of them."""
  close = difflib.get_close_matches(str(name), list(choices), n=1)
  return (f", did you mean {close[0]!r}?" if close else ";") + f" choices: {', '.join(sorted(choices))}"


def shortlist(texts: Iterable[str]) -> str:
  """Returns texts with commas between; of many the first few and the number of the others."""
  texts = list(texts)
  more = f" and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else ""
  return ", ".join(texts[:_SHOWN]) + more


def require(condition: bool, message: str) -> None:
  """Raises ValueError(message) unless the condition holds."""
  if not condition:
    raise ValueError(message)


def require_sizes(path: str, sizes_hw: tuple[int, int], multiple: int = 1) -> None:
  """Raises ValueError unless height and width are positive multiples; `path` is what the error calls them."""
  require(
    all(size > 0 and size % multiple == 0 for size in sizes_hw),
    f"{path} is {sizes_hw}: height and width must be positive" + (f" multiples of {multiple}" if multiple > 1 else ""),
  )


def build_typed(cls, values: Mapping[str, Any], at: str, sections: Mapping[str, type] | None = None):
  """Returns an instance of the dataclass `cls`, its fields checked against their annotations.

  Args:
    cls: a dataclass; fields that are dataclasses themselves are sections, built in the same way.
    values: field name -> value. An int may stand for a float and a list for a tuple.
    at: what the errors call these settings, as in "config.optimizer".
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
  return cls(**{key: _typed(hints[key], value, f"{at}.{key}") for key, value in values.items()})


def _is_required(field: dataclasses.Field) -> bool:
  return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _typed(hint, value, at: str):
  """Returns the value as the annotation wants it; raises ValueError if it does not fit."""
  if dataclasses.is_dataclass(hint):
    return build_typed(hint, value, at)
  arguments = typing.get_args(hint)
  match typing.get_origin(hint):
    case typing.Literal:
      if value not in arguments:
        raise ValueError(f"{at} is {value!r}{choices_hint(value, [str(a) for a in arguments])}")
      return value
    case types.UnionType | typing.Union:
      fits = lambda choice: (
        typing.get_origin(choice) is typing.Literal or ((typing.get_origin(choice) or choice) is type(value))
      )
      fitting = [] if value is None else [choice for choice in arguments if fits(choice)]
      if len(fitting) == 1:  # its own error says more than that nothing fits
        return _typed(fitting[0], value, at)
      for choice in arguments:
        try:
          return _typed(choice, value, at)
        except ValueError:
          pass
    case builtin if builtin is tuple and isinstance(value, (list, tuple)):
      of_any_length = len(arguments) == 2 and arguments[1] is Ellipsis
      hints = arguments[:1] * len(value) if of_any_length else arguments
      if len(value) == len(hints):
        return tuple(_typed(h, v, f"{at}[{i}]") for i, (h, v) in enumerate(zip(hints, value)))
    case builtin if builtin is dict and isinstance(value, dict):
      return {str(key): _typed(arguments[1], item, f"{at}.{key}") for key, item in value.items()}
    case None if type(value) is hint:  # not isinstance: True is an int too
      return value
    case None if hint is float and type(value) is int:
      return float(value)
  wanted = (hint.__name__ if isinstance(hint, type) and not arguments else str(hint)).replace("NoneType", "None")
  raise ValueError(f"{at} is {value!r}, a {type(value).__name__}: expected {wanted}")


def to_dict(config) -> dict[str, Any]:
  """Returns a dataclass as JSON-able nested dicts; tuples become lists."""
  return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value):
  if dataclasses.is_dataclass(value):
    return to_dict(value)
  if isinstance(value, dict):
    return {key: _plain(item) for key, item in value.items()}
  return list(value) if isinstance(value, tuple) else value


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
  """Returns one text for each setting that differs between two nested dicts, as in "seed was 0, now 1"."""
  before, now = flattened(before), flattened(now)
  shown = lambda settings, key: repr(settings[key]) if key in settings else "absent"
  return [
    f"{key} was {shown(before, key)}, now {shown(now, key)}"
    for key in sorted(before.keys() | now.keys())
    if shown(before, key) != shown(now, key)
  ]


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Returns nested settings keyed by dotted path, as "model.backbone"."""
  result = {}
  for key, value in tree.items():
    result |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
  return result
