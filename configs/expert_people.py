r"""A small expert for demonstrations: ViT nano learns the identities of built-in people.

  saip pretrain --config=expert_people --workdir=runs/expert

It starts from random weights. `scripts/expert_demo.sh` makes it and distills it with `saip_expert_demo`. It learns from
the training identities alone; evaluation on people measures the others.

Hardware: two CPU cores, about a minute.
"""

from ml_collections import ConfigDict


def get_config():
  return ConfigDict(
    {
      "batch_size": 64,
      "accumulate": 1,
      "total_steps": 600,
      "checkpoint_every": 200,
      "keep_last": 1,
      "panel_every": 0,
      "log_every": 20,
      "precision": "float32",
      "unroll": True,
      "data": {
        "source": "people",
        "canvas_hw": (128, 64),
        "people_count": 2048,
        "pictures_per_identity": 4,
        "threads": 2,
      },
      "model": {"backbone": "vit_nano", "image_hw": (64, 32)},
      "method": {
        "name": "finetune",
        "task": "reid",
        "classes": 179,
        "flip_pairs": (),
        "layer_decay": 1.0,
        "views": {"scale": (1.0, 1.0), "shift": 3, "flip": 0.5, "erase": 0.5},
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
