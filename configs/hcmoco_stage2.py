r"""HCMoCo as published, second stage: all losses, from the weights and banks of the first.

  saip pretrain --config=hcmoco_stage2 --workdir=STAGE2 --config.data.path=RGBD \
    --config.method.bank.size=N --config.init_from=STAGE1

Hardware: that of `hcmoco`. All settings but the losses are those of that file too; the learning rate starts at
0.03 again.
"""

from hcmoco import get_config as hcmoco


def get_config():
  config = hcmoco()
  config["method"]["weights"] = {"sample": 1.0, "dense": 1.0, "nodes": 1.0, "joints": 1.0}
  return config
