r"""SAIP with an expert at demo size: `saip_nano` aligned to one that knows the built-in people.

  ./scripts/expert_demo.sh
  saip pretrain --config=saip_expert_demo --workdir=W --config.method.expert=EXPERT

The script makes the expert first, see `expert_people`. `results/experts.md` compares the student with `saip_nano` and
with the expert. All terms of `saip_expert_vit_tiny`, with a linear adapter.

Hardware: two CPU cores, about ten minutes.
"""

from saip_nano import get_config as saip_nano


def get_config():
  config = saip_nano()
  config["method"]["expert"] = None  # weights of the expert, to be set
  config["method"]["align"] = {
    "weight": 1.0,
    "image_weight": 4.0,
    "patch_weight": 1.0,
    "relation_weight": 0.5,
    "adapter": "linear",
    "targets": "standardized",
    "distance": "cosine",
    "pairs": "all",
    "relation": "tokens",
    "temperature": 0.1,
  }
  return config
