r"""Fine-tuning on PA-100K: ViT-Ti/16 at 256x128 predicts 26 attributes, 30 epochs.

  saip evaluate --checkpoint=W --task=attributes --data=pa100k:DIR --train-split=trainval \
      --finetune=finetune_attributes
  saip pretrain --config=finetune_attributes --config.init_from=W --workdir=F --config.data.path=DIR

Hardware: one accelerator; a GPU or TPU core of 16 GB is ample. Not timed on one.

As published (SAIP's downstream repository, after "Rethinking of Pedestrian Attribute Recognition"): images are resized,
padded by 10 pixels, cropped and mirrored; weighted binary cross-entropy; AdamW; learning rate 1e-4 for backbone and
head; no weight decay; gradients clipped at norm 10; batches of 64.

Deviations: the learning rate falls along a cosine, where the published one drops on a plateau of the loss on the test
set; the last weights are measured, where the published code takes the best epoch on the test set.
"""

from finetune_reid import get_config as finetune_reid

_EPOCH = 90_000 // 64


def get_config():
  config = finetune_reid()
  config["total_steps"] = 30 * _EPOCH
  config["checkpoint_every"] = 5 * _EPOCH
  config["data"].update({"source": "pa100k", "split": "trainval", "pictures_per_identity": 0})
  config["method"].update({"task": "attributes", "classes": 26})
  config["method"]["views"].update({"shift": 10, "flip": 0.5, "erase": 0.0})
  config["optimizer"].update(
    {
      "learning_rate": 1e-4,
      "min_learning_rate": 0.0,
      "warmup_fraction": 0.0,
      "weight_decay": 0.0,
      "grad_clip_norm": 10.0,
    }
  )
  return config
