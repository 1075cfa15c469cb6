r"""Fine-tuning on 3-D joints at demo size, on built-in people, for two CPU cores.

  saip evaluate --checkpoint=W --task=joints3d --data=people --finetune=finetune_joints3d_demo
  saip pretrain --config=finetune_joints3d_demo --config.init_from=W --workdir=F

Hardware: two CPU cores, a few minutes.
"""

from finetune_wholebody_demo import get_config as finetune_wholebody_demo


def get_config():
  config = finetune_wholebody_demo()
  config["method"]["task"] = "joints3d"
  return config
