r"""SAIP with an expert, the recommended way: all of SAIP, and alignment to a frozen encoder.

  saip pretrain --config=saip_expert_vit_tiny --workdir=W \
    --config.method.expert=EXPERT --config.data.path=LUP1M --config.data.scene_path=SCENES

EXPERT is any encoder that `saip import` reads: one that knows people (PATH, SOLIDER, HAP, PersonViT, Sapiens) or a
general one (DINOv2, DINOv3, EUPE). CSM, CSR and CSS stay. Image features of all views and patch tokens of the global
views approach the standardized features of the expert by their cosine, and the relations of tokens are matched. The
exported student has three heads and no adapter. The license of the expert may apply to it: the model card says so.

Hardware: as for `saip_vit_tiny`. An image takes 189 GFLOP with a ViT-B expert, which sees two views and the scene, and
82 without an expert. Not timed on an accelerator.
"""

from saip_vit_tiny import get_config as saip_vit_tiny


def get_config():
  config = saip_vit_tiny()
  method = config["method"]
  method["fidelity"] = "improved"
  method["expert"] = None  # weights of the expert, to be set
  method["align"] = {
    "weight": 1.0,
    "image_weight": 1.0,
    "patch_weight": 1.0,
    "relation_weight": 0.5,
    "adapter": "mlp",
    "targets": "standardized",
    "distance": "cosine",
    "pairs": "all",
    "relation": "tokens",
    "temperature": 0.1,
  }
  return config
