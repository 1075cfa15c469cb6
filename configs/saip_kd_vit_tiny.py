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

from ml_collections import ConfigDict


def get_config():
  return ConfigDict(
    {
      "seed": 0,
      "batch_size": 2048,  # images per update, all devices together
      "accumulate": 1,
      "total_steps": 210 * 488,
      "checkpoint_every": 5 * 488,  # 80 s on a pod; a save stops the loop for less than half a second
      "keep_last": 3,
      "keep_every": 20 * 488,
      "panel_every": 4880,
      "log_every": 1,
      "precision": "bfloat16",  # published: float16 with loss scaling
      "data": {
        "source": "folder",
        "path": None,
        "canvas_hw": (320, 160),
        "people_count": 2048,
        "workers": 0,
        "threads": 8,
        "max_damaged_fraction": 0.01,
      },
      "model": {"backbone": "vit_tiny", "image_hw": (256, 128), "heads": 6, "last_heads": 12},
      "method": {
        "name": "saip",
        "fidelity": "official",
        "behavior": {},  # single deviations from the fidelity, see saip_jax/methods/saip/behavior.py
        "local_crops": 6,
        "crop_aspect": (0.4, 0.6),
        "global_area": (0.8, 1.0),
        "local_area": (0.05, 0.8),
        "near_area": (0.5, 0.75),  # of the second half of the local crops
        "rescale_factors": (1.0,),
        "teacher_momentum": 0.996,  # per micro-step, constant
        "expert": None,  # weights of the expert, to be set
        "align": {
          "weight": 1.0,
          "image_weight": 1.0,
          "patch_weight": 0.1,
          "relation_weight": 0.1,
          "adapter": "mlp",
          "targets": "raw",
          "distance": "mse",
          "pairs": "cross",
          "relation": "attention",
        },
        "csm": {
          "weight": 0.0,
          "prototypes": 65536,
          "hidden": 2048,
          "bottleneck": 256,
          "temp_student": 0.1,
          "temp_teacher": 0.04,
          "center_momentum": 0.9,  # per micro-step
        },
        "csr": {"weight": 0.0, "scale": 1.25, "mask_ratio": 0.75, "width": 512, "depth": 8, "heads": 16},
        "css": {
          "weight": 0.0,
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
        "warmup_fraction": 10 / 210,
        "b1": 0.9,
        "b2": 0.95,
        "eps": 1e-8,
        "weight_decay": 0.05,
        "grad_clip_norm": None,
      },
    }
  )
