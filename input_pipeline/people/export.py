"""The formats of other tools that a set can be written in."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable

from input_pipeline.people import export_coco, export_market1501
from input_pipeline.people.picture import Picture
from input_pipeline.people.spec import COMPOSITIONS


@dataclasses.dataclass(frozen=True)
class Export:
  """A format of other tools.

  Attributes:
    compositions: what it can hold.
    encode: a picture as one record of what the format needs; called in the rendering processes.
    write: writes all records, in order, below an empty folder; returns what meta.json says of the result.
    folders: what `write` makes, in the order in which it may appear: tools look for the last.
  """

  compositions: tuple[str, ...]
  encode: Callable[[Picture], bytes]
  write: Callable[[Iterable[bytes], pathlib.Path], dict]
  folders: tuple[str, ...]


EXPORTS: dict[str, Export] = {
  "coco": Export(COMPOSITIONS, export_coco.encode_for_coco, export_coco.write_coco, export_coco.FOLDERS),
  "market1501": Export(
    ("crops",), export_market1501.encode_for_market1501, export_market1501.write_market1501, export_market1501.FOLDERS
  ),
}
