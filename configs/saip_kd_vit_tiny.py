r"""SAIP-KD: a ViT-Ti distilled from a frozen expert alone, as in the later code of SAIP's authors.

  saip pretrain --config=saip_kd_vit_tiny --workdir=W \
    --config.method.expert=EXPERT --config.data.path=LUP1M

Image features across views (mean squared error), patch tokens (a tenth of it) and attention maps (a tenth) of a ViT-B
expert such as MAE's, HAP's or PATH's; an MLP as adapter, no CSM, CSR or CSS. The student has six heads, twelve in the
last block, whose maps are compared with the expert's head by head; its exports and `model.json` state both. The
published runs stop after half of the schedule; this one ends it. `saip_expert_vit_tiny` is recommended instead: it
keeps SAIP's objectives and three heads.

Hardware: as for `saip_vit_tiny`. An image takes 74 GFLOP with a ViT-B expert, which sees two views of it. Not timed on
an accelerator.
"""

from saip_vit_tiny import get_config as saip_vit_tiny


def get_config():
  config = saip_vit_tiny()
  config["accumulate"] = 1
  config["total_steps"] = 210 * 488  # 10 epochs of warm-up and 200
  config["optimizer"]["warmup_fraction"] = 10 / 210
  config["model"]["heads"], config["model"]["last_heads"] = 6, 12
  method = config["method"]
  method["local_crops"] = 6
  method["near_area"] = (0.5, 0.75)  # of the second half of the local crops
  method["rescale_factors"] = (1.0,)
  method["expert"] = None  # weights of the expert, to be set
  for objective in ("csm", "csr", "css"):
    method[objective]["weight"] = 0.0
  method["align"] = {
    "weight": 1.0,
    "image_weight": 1.0,
    "patch_weight": 0.1,
    "relation_weight": 0.1,
    "adapter": "mlp",
    "targets": "raw",
    "distance": "mse",
    "pairs": "cross",
    "relation": "attention",
  }
  return config
