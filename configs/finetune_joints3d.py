r"""Fine-tuning on 3DPW: ViT-Ti/16 at 256x192 predicts the 24 joints of SMPL in 3-D.

  saip evaluate --checkpoint=W --task=joints3d --data=joints3d:DIR --finetune=finetune_joints3d
  saip pretrain --config=finetune_joints3d --config.init_from=W --workdir=F --config.data.path=DIR

Hardware: one accelerator of 16 GB. Not timed on one.

As published: HAP is measured through 3DCrowdNet, which fits a body model and learns from several data sets; SAIP has no
recipe. Here: a regression of joints relative to the root by their mean distance, with the numbers of
`finetune_keypoints` at a batch of 128, for 30 epochs. Data with other joints set `method.classes` and
`method.flip_pairs`, which `saip evaluate --finetune` reads from the data.
"""

from finetune_keypoints import get_config as finetune_keypoints

_EPOCH = 22_735 // 128


def get_config():
  config = finetune_keypoints()
  config["batch_size"] = 128
  config["total_steps"] = 30 * _EPOCH
  config["checkpoint_every"] = 5 * _EPOCH
  config["data"].update({"source": "joints3d", "split": "train"})
  config["method"].update(
    {
      "task": "joints3d",
      "classes": 24,
      "flip_pairs": ((1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17), (18, 19), (20, 21), (22, 23)),
    }
  )
  config["optimizer"].update({"learning_rate": 5e-4 * 128 / 512, "warmup_fraction": 1 / 30})
  return config
