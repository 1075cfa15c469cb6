r"""Fine-tuning on keypoints at demo size, on built-in people, for two CPU cores.

  saip evaluate --checkpoint=W --task=keypoints --data=people --finetune=finetune_keypoints_demo
  saip pretrain --config=finetune_keypoints_demo --config.init_from=W --workdir=F

Hardware: two CPU cores, a few minutes. From random weights with `--config.method.layer_decay=1.0`, 300 updates of 16 of
352 images reach PCK@0.1 72.4 %. 150 updates reach no more than a linear probe on the same weights, frozen: 63.7 %.
"""

from finetune_reid_demo import get_config as finetune_reid_demo


def get_config():
  config = finetune_reid_demo()
  config["data"]["pictures_per_identity"] = 0
  config["method"].update(
    {
      "task": "keypoints",
      "classes": 17,
      "flip_pairs": ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    }
  )
  config["method"]["views"].update({"scale": (0.9, 1.1), "shift": 4, "erase": 0.0})
  return config
