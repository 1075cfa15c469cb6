"""The tasks that a pre-trained backbone can be fine-tuned on, by name."""

from saip_jax.supervised.attributes import Attributes
from saip_jax.supervised.base import SupervisedTask
from saip_jax.supervised.keypoints import Keypoints
from saip_jax.supervised.parsing import Parsing
from saip_jax.supervised.reid import Reid

SUPERVISED: dict[str, SupervisedTask] = {
    "reid": Reid(),
    "attributes": Attributes(),
    "keypoints": Keypoints(),
    "parsing": Parsing(),
}
