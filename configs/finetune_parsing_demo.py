r"""Fine-tuning on parsing at demo size, on built-in people, for two CPU cores.

  saip evaluate --checkpoint=W --task=parsing --data=people --finetune=finetune_parsing_demo
  saip pretrain --config=finetune_parsing_demo --config.init_from=W --workdir=F

Hardware: two CPU cores, a few minutes. From random weights with `--config.method.layer_decay=1.0`, 150 updates of 16 of
352 images reach a mean IoU of 6.6 %; a linear probe on the same weights, frozen, reaches 4.8 %.
"""

from finetune_reid_demo import get_config as finetune_reid_demo


def get_config():
  config = finetune_reid_demo()
  config["data"]["pictures_per_identity"] = 0
  config["method"].update({"task": "parsing", "classes": 20, "flip_pairs": ((14, 15), (16, 17), (18, 19))})
  config["method"]["views"].update({"scale": (0.9, 1.1), "shift": 4, "erase": 0.0})
  return config
