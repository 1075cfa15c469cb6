r"""Distillation alone at demo size: ViT nano learns from an expert that knows the built-in people.

  saip pretrain --config=saip_kd_demo --workdir=W --config.method.expert=EXPERT

The terms of `saip_kd_vit_tiny` with a linear adapter. `scripts/expert_demo.sh` makes an expert, see `expert_people`.

Hardware: two CPU cores, about three minutes.
"""

from saip_nano import get_config as saip_nano


def get_config():
  config = saip_nano()
  method = config["method"]
  method["expert"] = None  # weights of the expert, to be set
  for objective in ("csm", "csr", "css"):
    method[objective]["weight"] = 0.0
  method["align"] = {
    "weight": 1.0,
    "image_weight": 1.0,
    "patch_weight": 0.1,
    "relation_weight": 0.1,
    "adapter": "linear",
    "targets": "raw",
    "distance": "mse",
    "pairs": "cross",
    "relation": "attention",
  }
  return config
