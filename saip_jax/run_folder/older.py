"""Runs of earlier versions: settings under their present names, and the description of their models."""

from collections.abc import Mapping
from typing import Any

_RENAMED = {"behaviour": "behavior"}
_RENAMED_VALUES = {"centring": "centering"}
# Interpolation of positions: SAIP's by its fidelity, DINO's by its setting `positions`; all others resized on the grid.
_SAIP_POSITIONS = {"official": "flat1d", "improved": "grid2d"}
_DINO_POSITIONS = {"grid2d": "grid2d", "as_published": "grid2d_offset"}


def current_names(settings: Any) -> Any:
  """Returns nested settings, as stored in a run's folder, with the present names of keys and choices."""
  if isinstance(settings, dict):
    return {_RENAMED.get(key, key): current_names(value) for key, value in settings.items()}
  return _RENAMED_VALUES.get(settings, settings) if isinstance(settings, str) else settings


def describe_older_model(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what model.json would hold for a run whose checkpoints have none: "facts" and "head_counts".

  Args:
    config: the run's config.json, with present names.

  Raises:
    ValueError: a setting that describes the model is missing or unknown.
  """
  try:
    model, method = config["model"], config["method"]
    heads, last_heads = model.get("heads"), model.get("last_heads")
    facts = {"name": model["backbone"], "image_hw": model["image_hw"], "pos_interpolation": _interpolation_of(method)}
    if heads or last_heads:
      facts |= {"heads": heads, "last_heads": last_heads or heads}
    decoders = {name: part for name, part in method.items() if isinstance(part, Mapping) and "heads" in part}
    return {"facts": facts, "head_counts": {f"{name}_heads": part["heads"] for name, part in decoders.items()}}
  except (KeyError, TypeError, AttributeError) as e:
    raise ValueError(f"config.json does not describe a model: {type(e).__name__}: {e}") from e


def _interpolation_of(method: Mapping[str, Any]) -> str:
  if method["name"] == "saip":
    return (method.get("behavior") or {}).get("positions") or _SAIP_POSITIONS[method["fidelity"]]
  return _DINO_POSITIONS[method.get("positions", "grid2d")] if method["name"] == "dino" else "grid2d"
