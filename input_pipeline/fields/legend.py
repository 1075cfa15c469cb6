"""The names of the classes of a data set."""

from input_pipeline.source import ImageSource
from input_pipeline.sources.combined import parts_of


def classes_of(source: ImageSource, key: str) -> tuple[str, ...]:
  """Returns the names in `legend[key]` of a source.

  Raises:
    ValueError: it has none, or the parts of a mixture differ.
  """
  named = {name: tuple(part.legend.get(key, ())) for name, part in parts_of(source).items()}
  data = f"data.source={source.identity['source']} ({source.identity['name']!r})"
  missing = [name for name, classes in named.items() if not classes]
  if missing:
    raise ValueError(
      f"{data} names no {key}, which this method reads: choose data with {key}, such as people"
      + f"; {', '.join(map(repr, missing))} has none" * (len(named) > 1)
    )
  if len(set(named.values())) > 1:
    raise ValueError(f"the parts of {data} name different {key}: expected the same of each")
  return next(iter(named.values()))
