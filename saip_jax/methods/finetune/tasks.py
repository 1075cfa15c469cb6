"""The tasks that a pre-trained backbone can be fine-tuned on, by name."""

from saip_jax.methods.finetune.attributes import Attributes
from saip_jax.methods.finetune.detection import Detection
from saip_jax.methods.finetune.joints3d import Joints3d
from saip_jax.methods.finetune.keypoints import Keypoints
from saip_jax.methods.finetune.parsing import MultiParsing, Parsing
from saip_jax.methods.finetune.reid import Reid
from saip_jax.methods.finetune.task import SupervisedTask
from saip_jax.methods.finetune.text import Text

SUPERVISED: dict[str, SupervisedTask] = {
  "reid": Reid(),
  "text": Text(),
  "attributes": Attributes(),
  "keypoints": Keypoints("joints"),
  "wholebody": Keypoints("landmarks"),
  "detection": Detection(),
  "parsing": Parsing(),
  "segmentation": Parsing(),
  "multi_parsing": MultiParsing(),
  "joints3d": Joints3d(),
}
