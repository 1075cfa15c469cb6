r"""Fine-tuning on Market-1501: ViT-Ti/16 at 256x128 classifies and compares identities.

  saip evaluate --checkpoint=W --task=reid --data=market1501:DIR --finetune=finetune_reid
  saip pretrain --config=finetune_reid --config.init_from=W --workdir=F --config.data.path=DIR

Hardware: one accelerator; a GPU or TPU core of 16 GB is ample. Not timed on one.

As published (SAIP's downstream repository, after TransReID-SSL): mirroring and erasing with probability one half; 10
pixels of padding; batches of 16 persons x 4 images; AdamW; learning rate 2e-4; weight decay 1e-4; a cosine over 120
epochs with 20 of warm-up, down to 0.002 of the peak; no layer decay and no label smoothing.

Deviations: no drop path (published: 0.1); biases learn no faster than weights (2 x); the warm-up starts at 0 (0.01);
norms do not decay. MSMT17 differs in `method.classes` only: 1041.
"""

from ml_collections import ConfigDict

_EPOCH = 12_936 // 64


def get_config():
  return ConfigDict(
    {
      "seed": 0,
      "batch_size": 64,
      "accumulate": 1,
      "total_steps": 120 * _EPOCH,
      "checkpoint_every": 10 * _EPOCH,
      "keep_last": 1,
      "panel_every": 0,
      "log_every": 10,
      "precision": "bfloat16",
      "init_heads": False,
      "data": {
        "source": "market1501",
        "path": None,
        "split": "train",
        "canvas_hw": (256, 128),
        "pictures_per_identity": 4,
        "threads": 8,
      },
      "model": {"backbone": "vit_tiny", "image_hw": (256, 128)},
      "method": {
        "name": "finetune",
        "task": "reid",
        "classes": 751,
        "flip_pairs": (),
        "layer_decay": 1.0,
        "views": {"scale": (1.0, 1.0), "shift": 10, "flip": 0.5, "erase": 0.5},
      },
      "optimizer": {
        "learning_rate": 2e-4,
        "min_learning_rate": 4e-7,
        "warmup_fraction": 20 / 120,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "weight_decay": 1e-4,
        "grad_clip_norm": None,
      },
    }
  )
