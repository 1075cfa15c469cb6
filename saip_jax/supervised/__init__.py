"""The tasks that a pre-trained backbone can be fine-tuned on, by name."""

from saip_jax.supervised.attributes import Attributes
from saip_jax.supervised.base import SupervisedTask
from saip_jax.supervised.detection import Detection
from saip_jax.supervised.joints3d import Joints3d
from saip_jax.supervised.keypoints import Keypoints
from saip_jax.supervised.parsing import MultiParsing, Parsing
from saip_jax.supervised.reid import Reid
from saip_jax.supervised.text import Text

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
