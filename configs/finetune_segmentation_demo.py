r"""Fine-tuning on clothes at demo size, on built-in people, for two CPU cores.

  saip evaluate --checkpoint=W --task=segmentation --data=people --finetune=finetune_segmentation_demo
  saip pretrain --config=finetune_segmentation_demo --config.init_from=W --workdir=F

Hardware: two CPU cores, a few minutes. Built-in people have clothes and parts in one list, that of LIP, so this is
parsing by another name. Real data are photos, e.g. `--data=ccp:DIR`.
"""

from finetune_parsing_demo import get_config as finetune_parsing_demo


def get_config():
  config = finetune_parsing_demo()
  config["method"]["task"] = "segmentation"
  return config
