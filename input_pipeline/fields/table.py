"""The fields: what a batch can hold beside its images."""

from collections.abc import Callable, Collection

from input_pipeline.fields.attributes import AttributesField, AttributeSharesField
from input_pipeline.fields.base import Field
from input_pipeline.fields.boxes import BoxesField
from input_pipeline.fields.captions import CaptionsField
from input_pipeline.fields.depth import DepthField
from input_pipeline.fields.foreground import ForegroundField
from input_pipeline.fields.identity import IdentityField
from input_pipeline.fields.joints import JointsField, LandmarksField
from input_pipeline.fields.joints_xyz import JointsXyzField
from input_pipeline.fields.keypoints import KeypointsField
from input_pipeline.fields.parts import PartsField
from input_pipeline.fields.persons import PersonsField
from input_pipeline.source import ImageSource

FIELDS: dict[str, Callable[[ImageSource], Field]] = {
  "keypoints": KeypointsField,
  "joints": JointsField,
  "landmarks": LandmarksField,
  "joints_xyz": JointsXyzField,
  "boxes": BoxesField,
  "captions": CaptionsField,
  "depth": DepthField,
  "foreground": ForegroundField,
  "identity": IdentityField,
  "attributes": AttributesField,
  "attribute_shares": AttributeSharesField,
  "parts": PartsField,
  "persons": PersonsField,
}
"""Name in a method's `batch_spec` -> its reader, made of a source. `has_NAME` comes with it."""


def open_fields(names: Collection[str], source: ImageSource) -> dict[str, Field]:
  """Returns the readers of the entries of a batch that are in `FIELDS`; raises ValueError if a source lacks one."""
  return {name: make(source) for name, make in FIELDS.items() if name in names}
