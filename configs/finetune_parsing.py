r"""Fine-tuning on LIP: ViT-Ti/16 at 576x384 predicts the class of each pixel, 150 epochs.

  saip evaluate --checkpoint=W --task=parsing --data=lip:DIR --finetune=finetune_parsing
  saip pretrain --config=finetune_parsing --config.init_from=W --workdir=F --config.data.path=DIR

Hardware: 4 accelerators of 16 GB, 24 images on each. Not timed on one.

As published (SAIP's downstream repository, after SCHP): AdamW; learning rate 7e-4; no weight decay; batches of 4 x 24;
30 epochs of warm-up; scales of 0.75 to 1.25; mirroring.

Deviations: an upsampling decoder and the cross-entropy of pixels only, in place of SCHP's head, losses and label
correction in cycles (see `saip_jax/methods/finetune/parsing.py`); no rotations; evaluation at one scale.
"""

from finetune_reid import get_config as finetune_reid

_EPOCH = 30_462 // 96


def get_config():
  config = finetune_reid()
  config["batch_size"] = 96
  config["total_steps"] = 150 * _EPOCH
  config["checkpoint_every"] = 10 * _EPOCH
  config["data"].update({"source": "lip", "split": "train", "canvas_hw": (576, 384), "pictures_per_identity": 0})
  config["model"]["image_hw"] = (576, 384)
  config["method"].update({"task": "parsing", "classes": 20, "flip_pairs": ((14, 15), (16, 17), (18, 19))})
  config["method"]["views"].update({"scale": (0.75, 1.25), "shift": 0, "flip": 0.5, "erase": 0.0})
  config["optimizer"].update(
    {"learning_rate": 7e-4, "min_learning_rate": 0.0, "warmup_fraction": 30 / 150, "weight_decay": 0.0}
  )
  return config
