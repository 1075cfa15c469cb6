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
    compositions: those that the format can hold.
    encode: turns a picture into a record of what the format needs; runs in the rendering processes.
    write: writes all records, in order, below an empty folder; returns entries of meta.json about the result.
    folders: the folders that `write` makes, in the order in which they may appear: tools look for the last one.
  """

  compositions: tuple[str, ...]
  encode: Callable[[Picture], bytes]
  write: Callable[[Iterable[bytes], pathlib.Path], dict]
  folders: tuple[str, ...]


PEOPLE_EXPORTS: dict[str, Export] = {
  "coco": Export(COMPOSITIONS, export_coco.encode_for_coco, export_coco.write_coco, export_coco.COCO_FOLDERS),
  "market1501": Export(
    ("crops",),
    export_market1501.encode_for_market1501,
    export_market1501.write_market1501,
    export_market1501.MARKET1501_FOLDERS,
  ),
}
