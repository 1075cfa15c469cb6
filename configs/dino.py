r"""DINO, SAIP's baseline: ViT-Ti/16 at 256x128 on the same 1 M person crops (LUP1M), 300 epochs.

  saip pretrain --config=configs/dino.py --workdir=W --config.data.path=LUP1M

Hardware: as configs/saip_vit_tiny.py, at 0.3 of its work: 22 GFLOP per image and step (44 with MAE). Not timed on an
accelerator. Another encoder: `--config.model.backbone=tinyvit_5m` (or swin_tiny, convnext_femto).

Published (Caron et al. 2021, on ImageNet): 65,536 prototypes, two global crops of 0.4 to 1 of the area and eight local
ones of 0.05 to 0.4, colours, blur and solarise as they are in views/multicrop.py, temperature of the student 0.1, of
the teacher 0.04 rising to 0.07 in 30 epochs, centre 0.9, teacher 0.996 rising to 1, prototypes frozen for the first
epoch, AdamW 0.9, 0.999, batch 1024, learning rate 5e-4 x batch / 256, 10 epochs of warm-up, minimum 1e-6, weight decay
0.04 rising to 0.4, gradients cut at 3.0. Chosen here: SAIP's encoder, data and 300 epochs; crops of a person's shape,
local ones of half a side; gradients are cut as a whole (published: each tensor); no drop path (published: 0.1).

DINO+MAE, the student also painting hidden patches of the first global view: `--config.method.mae.weight=1.0`.
"""

import pathlib
import runpy


def get_config():
  config = runpy.run_path(str(pathlib.Path(__file__).with_name("saip_vit_tiny.py")))["get_config"]()
  updates = 977  # of an epoch
  config.update({
      "batch_size": 1024,
      "accumulate": 2,  # the centre moves at each micro-step, the teacher once per update
      "total_steps": 300 * updates,
      "checkpoint_every": updates,
      "keep_every": 20 * updates,
      "panel_every": 10 * updates,
  })
  config["method"] = {
      "name": "dino",
      "local_crops": 8,
      "crop_aspect": (0.4, 0.6),
      "global_area": (0.4, 1.0),
      "local_area": (0.05, 0.4),
      "prototypes": 65536,
      "hidden": 2048,
      "bottleneck": 256,
      "temp_student": 0.1,
      "temp_teacher_start": 0.04,
      "temp_teacher": 0.07,
      "temp_teacher_warmup": 30 / 300,
      "center_momentum": 0.9,
      "teacher_momentum": 0.996,
      "prototypes_frozen": 1 / 300,
      "mae": {
          "weight": 0.0,
          "mask_ratio": 0.75,
          "width": 512,
          "depth": 8,
          "heads": 16,
      },
  }
  config["optimizer"].update({
      "learning_rate": 2e-3,  # 5e-4 x 1024 / 256
      "min_learning_rate": 1e-6,
      "warmup_fraction": 10 / 300,
      "b1": 0.9,
      "b2": 0.999,
      "weight_decay": 0.04,
      "final_weight_decay": 0.4,
      "grad_clip_norm": 3.0,
  })
  return config
