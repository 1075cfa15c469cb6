r"""Fine-tuning on text-to-image retrieval at demo size, for two CPU cores.

  saip evaluate --checkpoint=W --task=text --data=people --finetune=finetune_text_demo
  saip pretrain --config=finetune_text_demo --config.init_from=W --workdir=F

Hardware: two CPU cores, a few minutes.
"""

from finetune_reid_demo import get_config as finetune_reid_demo


def get_config():
  config = finetune_reid_demo()
  config["data"]["pictures_per_identity"] = 0
  config["method"]["task"] = "text"
  config["method"]["views"]["erase"] = 0.0
  return config
