r"""Fine-tuning on whole-body landmarks at demo size, on built-in people, for two CPU cores.

  saip evaluate --checkpoint=W --task=wholebody --data=people --finetune=finetune_wholebody_demo
  saip pretrain --config=finetune_wholebody_demo --config.init_from=W --workdir=F

Hardware: two CPU cores, a few minutes. These people have 28 landmarks, 11 more than COCO's joints: neck, top of the
head, chin, chest, pelvis, fingertips, heels and toes.
"""

from finetune_keypoints_demo import get_config as finetune_keypoints_demo

_FINGERTIPS, _HEELS, _TOES = (22, 23), (24, 25), (26, 27)


def get_config():
  config = finetune_keypoints_demo()
  config["method"].update({"task": "wholebody", "classes": 28})
  config["method"]["flip_pairs"] += (_FINGERTIPS, _HEELS, _TOES)
  return config
