r"""SAIP with an expert, the recommended way: all of SAIP, and alignment to a frozen encoder.

  saip pretrain --config=saip_expert_vit_tiny --workdir=W \
    --config.method.expert=EXPERT --config.data.path=LUP1M --config.data.scene_path=SCENES

EXPERT is any encoder that `saip import` reads: one that knows people (PATH, SOLIDER, HAP, PersonViT, Sapiens) or a
general one (DINOv2, DINOv3, EUPE). CSM, CSR and CSS stay. Image features of all views and patch tokens of the global
views approach the standardized features of the expert by their cosine, and the relations of tokens are matched. The
exported student has three heads and no trace of the expert, whose license may follow it: the model card says so.

Hardware: as for `saip_vit_tiny`. An image takes 199 GFLOP with a ViT-B expert, which sees two views and the scene, and
82 without an expert. Not timed on an accelerator.
"""

from ml_collections import ConfigDict


def get_config():
  return ConfigDict(
    {
      "seed": 0,
      "batch_size": 2048,  # images per update, all devices together
      "accumulate": 4,  # micro-steps per update; teacher and center move at each
      "total_steps": 300 * 488,
      "checkpoint_every": 5 * 488,  # 80 s on a pod; a save stops the loop for less than half a second
      "keep_last": 3,
      "keep_every": 20 * 488,
      "panel_every": 4880,
      "log_every": 1,
      "precision": "bfloat16",  # published: float16 with loss scaling
      "data": {
        "source": "folder",
        "path": None,
        "scene_path": None,  # None: scenes come from other images of the same source
        "canvas_hw": (320, 160),
        "scene_canvas_hw": (256, 256),
        "people_count": 2048,
        "workers": 0,
        "threads": 8,
        "max_damaged_fraction": 0.01,
      },
      "model": {"backbone": "vit_tiny", "image_hw": (256, 128)},
      "method": {
        "name": "saip",
        "fidelity": "improved",
        "behavior": {},  # single deviations from the fidelity, see saip_jax/methods/saip/behavior.py
        "local_crops": 7,
        "crop_aspect": (0.4, 0.6),
        "global_area": (0.8, 1.0),
        "local_area": (0.05, 0.8),
        "rescale_factors": (0.75, 0.875, 1.125, 1.25),
        "teacher_momentum": 0.996,  # per micro-step, constant
        "expert": None,  # weights of the expert, to be set
        "align": {
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
        },
        "csm": {
          "weight": 1.0,
          "prototypes": 65536,
          "hidden": 2048,
          "bottleneck": 256,
          "temp_student": 0.1,
          "temp_teacher": 0.04,
          "center_momentum": 0.9,  # per micro-step
        },
        "csr": {"weight": 1.0, "scale": 1.25, "mask_ratio": 0.75, "width": 512, "depth": 8, "heads": 16},
        "css": {
          "weight": 1.0,
          "scene_size": 224,
          "scene_area": (0.2, 1.0),
          "scene_aspect": (3 / 4, 4 / 3),
          "paste_opacity": 0.7,
          "width": 512,
          "depth": 2,
          "heads": 16,
        },
      },
      "optimizer": {
        "learning_rate": 2e-3,  # 2.5e-4 x 2048 / 256
        "min_learning_rate": 0.0,
        "warmup_fraction": 10 / 300,
        "b1": 0.9,
        "b2": 0.95,
        "eps": 1e-8,
        "weight_decay": 0.05,
        "grad_clip_norm": None,
      },
    }
  )
