r"""Fine-tuning on CrowdHuman: ViT-Ti/16 at 800x1216 detects persons in whole photos.

  saip evaluate --checkpoint=W --task=detection --data=crowdhuman:DIR --finetune=finetune_detection
  saip pretrain --config=finetune_detection --config.init_from=W --workdir=F --config.data.path=DIR

Hardware: 8 accelerators of 32 GB, 2 photos on each. Not timed on one.

As published (SAIP's downstream repository, after CrowdDet): an R-CNN that predicts two boxes per proposal, on a simple
pyramid; short side 800, long side 1400 at most; 16 photos; AdamW; learning rate 2e-4; weight decay 1e-4; 30 epochs; 800
updates of warm-up; mirroring.

Deviations: TTFNet's maps at one scale, without anchors (see `saip_jax/losses/boxes.py`). Photos are squashed to the
input and cropped: a view has sides of 0.5 to 1.2 times those of the photo. A cosine replaces the steps at 24 and 27
epochs.
"""

from finetune_reid import get_config as finetune_reid

_EPOCH = 15_000 // 16


def get_config():
  config = finetune_reid()
  config["batch_size"] = 16
  config["total_steps"] = 30 * _EPOCH
  config["checkpoint_every"] = 2 * _EPOCH
  config["data"].update(
    {"source": "crowdhuman", "canvas_hw": (800, 1216), "whole_photos": True, "pictures_per_identity": 0}
  )
  config["model"]["image_hw"] = (800, 1216)
  config["method"].update({"task": "detection", "classes": 1})
  config["method"]["views"].update({"scale": (0.5, 1.2), "shift": 200, "flip": 0.5, "erase": 0.0})
  config["optimizer"].update(
    {
      "learning_rate": 2e-4,
      "min_learning_rate": 0.0,
      "warmup_fraction": 800 / (30 * _EPOCH),
      "weight_decay": 1e-4,
      "grad_clip_norm": 35.0,
    }
  )
  return config
