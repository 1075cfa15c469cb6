"""The tasks that a pre-trained backbone can be fine-tuned on, by name."""

from saip_jax.methods.finetune.attributes import AttributeTask
from saip_jax.methods.finetune.detection import DetectionTask
from saip_jax.methods.finetune.joints3d import Joints3dTask
from saip_jax.methods.finetune.keypoints import KeypointTask
from saip_jax.methods.finetune.parsing import MultiParsingTask, ParsingTask
from saip_jax.methods.finetune.reid import ReidTask
from saip_jax.methods.finetune.task import SupervisedTask
from saip_jax.methods.finetune.text import TextTask

SUPERVISED: dict[str, SupervisedTask] = {
  "reid": ReidTask(),
  "text": TextTask(),
  "attributes": AttributeTask(),
  "keypoints": KeypointTask("joints"),
  "wholebody": KeypointTask("landmarks"),
  "detection": DetectionTask(),
  "parsing": ParsingTask(),
  "segmentation": ParsingTask(),
  "multi_parsing": MultiParsingTask(),
  "joints3d": Joints3dTask(),
}
