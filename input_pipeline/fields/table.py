"""The fields that a batch can hold beside its images, and how the reader of each is made."""

from collections.abc import Callable, Collection

from input_pipeline.fields.attributes import Attributes, AttributeShares
from input_pipeline.fields.base import Field
from input_pipeline.fields.boxes import Boxes
from input_pipeline.fields.captions import Captions
from input_pipeline.fields.depth import Depth
from input_pipeline.fields.foreground import Foreground
from input_pipeline.fields.identity import Identity
from input_pipeline.fields.joints import Joints, Landmarks
from input_pipeline.fields.joints_xyz import JointsXyz
from input_pipeline.fields.keypoints import CocoKeypoints
from input_pipeline.fields.parts import Parts
from input_pipeline.fields.persons import Persons
from input_pipeline.source import ImageSource

# Name in a method's batch_spec -> what reads it. `has_NAME` comes with it.
FIELDS: dict[str, Callable[[ImageSource], Field]] = {
  "keypoints": CocoKeypoints,
  "joints": Joints,
  "landmarks": Landmarks,
  "joints_xyz": JointsXyz,
  "boxes": Boxes,
  "captions": Captions,
  "depth": Depth,
  "foreground": Foreground,
  "identity": Identity,
  "attributes": Attributes,
  "attribute_shares": AttributeShares,
  "parts": Parts,
  "persons": Persons,
}


def open_fields(names: Collection[str], source: ImageSource) -> dict[str, Field]:
  """The readers of those fields of a batch that are in `FIELDS`, for the images of a source; raises ValueError."""
  return {name: make(source) for name, make in FIELDS.items() if name in names}
