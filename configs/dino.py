r"""DINO, a baseline of SAIP: ViT-Ti/16 at 256x128 on the same 1 M person crops (LUP1M), 300 epochs.

  saip pretrain --config=dino --workdir=W --config.data.path=LUP1M

DINO+MAE, whose student also reconstructs hidden patches of the first global view: `--config.method.mae.weight=1.0`.

Hardware: as `saip_vit_tiny`, at 0.3 of its work: 24 GFLOP per image and step (46 with MAE). Not timed on an
accelerator. For another encoder: `--config.model.backbone=tinyvit_5m` (or swin_tiny, convnext_femto).

As published (Caron et al. 2021, on ImageNet): 65,536 prototypes of unit length, frozen for the first epoch; two global
crops of 0.4 to 1 of the area and eight local ones of 0.05 to 0.4; color jitter, blur and solarize as in
views/multicrop.py; temperature of the student 0.1, of the teacher 0.04 rising to 0.07 in 30 epochs; center momentum
0.9; teacher momentum 0.996 rising to 1; AdamW 0.9, 0.999; batch 1024; learning rate 5e-4 x batch / 256, 10 epochs of
warm-up, minimum 1e-6; weight decay 0.04 rising to 0.4 on everything of more than one axis, class token and positions
too; gradients clipped at 3.0; all weights initialized with N(0, 0.02). The defaults of the published code are a
constant teacher temperature of 0.04 and unit prototypes. Its README gives the rising temperature for the best ViT-S,
which also learns the length of the prototypes: `method.norm_last_layer=False`.

Deviations: SAIP's encoder, data and 300 epochs; crops of a person's shape, local ones of half a side; gradients are
clipped as a whole (published: each tensor); no drop path (published: 0.1). The published code resizes the positions of
local crops at places up to a tenth of a cell off, which moves their logits by 1 to 2 %, and for square images only.
`method.positions=as_published` does so for any image; the default resizes exactly. The published learning rate reaches
its peak one update earlier.
"""

from saip_vit_tiny import get_config as saip_vit_tiny


def get_config():
  config = saip_vit_tiny()
  updates = 977  # per epoch
  config.update(
    {
      "batch_size": 1024,
      "accumulate": 2,  # the center moves at each micro-step, the teacher once per update
      "total_steps": 300 * updates,
      "checkpoint_every": updates,
      "keep_every": 20 * updates,
      "panel_every": 10 * updates,
    }
  )
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
    "temp_teacher_stairs": 30,  # one per epoch; 0: a linear rise
    "center_momentum": 0.9,
    "teacher_momentum": 0.996,
    "prototypes_frozen": 1 / 300,
    "norm_last_layer": True,
    "weights": "normal",
    "positions": "grid2d",
    "mae": {"weight": 0.0, "mask_ratio": 0.75, "width": 512, "depth": 8, "heads": 16},
  }
  config["optimizer"].update(
    {
      "learning_rate": 2e-3,  # 5e-4 x 1024 / 256
      "min_learning_rate": 1e-6,
      "warmup_fraction": 10 / 300,
      "b1": 0.9,
      "b2": 0.999,
      "weight_decay": 0.04,
      "final_weight_decay": 0.4,
      "grad_clip_norm": 3.0,
    }
  )
  return config
