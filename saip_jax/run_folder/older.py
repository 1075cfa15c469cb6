"""Settings of runs of earlier versions, under the names they have now."""

from typing import Any

_RENAMED = {"behaviour": "behavior"}
_RENAMED_VALUES = {"centring": "centering"}


def current_names(settings: Any) -> Any:
  """Returns nested settings, as they were written to a run's folder, with today's names of keys and choices."""
  if isinstance(settings, dict):
    return {_RENAMED.get(key, key): current_names(value) for key, value in settings.items()}
  return _RENAMED_VALUES.get(settings, settings) if isinstance(settings, str) else settings
