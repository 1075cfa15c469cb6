r"""Fine-tuning on whole-body landmarks made small, on built-in people, for two CPU cores.

  saip evaluate --checkpoint=W --task=wholebody --data=people --finetune=configs/finetune_wholebody_demo.py
  saip pretrain --config=configs/finetune_wholebody_demo.py --config.init_from=W --workdir=F

Hardware: two CPU cores, some minutes. These people have 28 landmarks, 11 more than COCO's joints: neck, top of the
head, chin, chest, pelvis, fingertips, heels and toes.
"""

import pathlib
import runpy

_FINGERTIPS, _HEELS, _TOES = (22, 23), (24, 25), (26, 27)


def get_config():
  config = runpy.run_path(str(pathlib.Path(__file__).with_name("finetune_keypoints_demo.py")))["get_config"]()
  config["method"].update({"task": "wholebody", "classes": 28})
  config["method"]["flip_pairs"] += (_FINGERTIPS, _HEELS, _TOES)
  return config
