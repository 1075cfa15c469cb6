r"""Fine-tuning on parsing of several persons at demo size, for two CPU cores.

  saip evaluate --checkpoint=W --task=multi_parsing --data=people --people-count=512 \
      --finetune=finetune_multi_parsing_demo
  saip pretrain --config=finetune_multi_parsing_demo --config.init_from=W --workdir=F

Hardware: two CPU cores, about ten minutes. The photos show built-in people in streets.
"""

from finetune_detection_demo import get_config as finetune_detection_demo


def get_config():
  config = finetune_detection_demo()
  config["method"].update({"task": "multi_parsing", "classes": 20, "flip_pairs": ((14, 15), (16, 17), (18, 19))})
  return config
