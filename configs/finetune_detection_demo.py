r"""Fine-tuning on detection at demo size, on built-in people in streets, for two CPU cores.

  saip evaluate --checkpoint=W --task=detection --data=people --people-count=512 \
      --finetune=finetune_detection_demo
  saip pretrain --config=finetune_detection_demo --config.init_from=W --workdir=F

Hardware: two CPU cores, about ten minutes. From random weights with `--config.method.layer_decay=1.0`, 120 updates of 8
photos reach AP@0.5 7.9 % and JI 12.4 %; a linear probe on the same weights, frozen, reaches 5.7 % and 10.6 %.
"""

from finetune_reid_demo import get_config as finetune_reid_demo


def get_config():
  config = finetune_reid_demo()
  config["batch_size"] = 16
  config["data"].update({"people_count": 512, "whole_photos": True, "pictures_per_identity": 0})
  config["model"]["image_hw"] = (256, 128)
  config["method"].update({"task": "detection", "classes": 1})
  config["method"]["views"].update({"scale": (0.7, 1.1), "shift": 24, "erase": 0.0})
  config["optimizer"]["grad_clip_norm"] = 10.0
  return config
