r"""Fine-tuning on re-identification at demo size, on built-in people, for two CPU cores.

  saip evaluate --checkpoint=W --task=reid --data=people --finetune=finetune_reid_demo
  saip pretrain --config=finetune_reid_demo --config.init_from=W --workdir=F

Hardware: two CPU cores, about five minutes (24 images/s on a busy machine). It shows that all parts work. Seven epochs
are too few to learn persons: the triplets pull all features together first, as Hermans et al. report, and mAP stays at
the 4 % of random weights.
"""

from ml_collections import ConfigDict


def get_config():
  return ConfigDict(
    {
      "batch_size": 32,
      "accumulate": 1,
      "total_steps": 200,
      "checkpoint_every": 50,
      "keep_last": 1,
      "panel_every": 0,
      "precision": "float32",
      "init_heads": False,
      "data": {
        "source": "people",
        "canvas_hw": (256, 128),
        "people_count": 2048,
        "pictures_per_identity": 4,
        "threads": 2,
      },
      "model": {"backbone": "vit_tiny", "image_hw": (128, 64)},
      "method": {
        "name": "finetune",
        "task": "reid",
        "classes": 179,
        "flip_pairs": (),
        "layer_decay": 0.75,
        "views": {"scale": (1.0, 1.0), "shift": 5, "flip": 0.5, "erase": 0.5},
      },
      "optimizer": {
        "learning_rate": 1e-3,
        "min_learning_rate": 0.0,
        "warmup_fraction": 0.1,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.05,
        "grad_clip_norm": 1.0,
      },
    }
  )
