r"""Fine-tuning on parsing of several persons at demo size, on built-in people in streets, for two CPU cores.

  saip evaluate --checkpoint=W --task=multi_parsing --data=people --people-count=512 \
      --finetune=configs/finetune_multi_parsing_demo.py
  saip pretrain --config=configs/finetune_multi_parsing_demo.py --config.init_from=W --workdir=F

Hardware: two CPU cores, about ten minutes.
"""

from finetune_detection_demo import get_config as finetune_detection_demo


def get_config():
  config = finetune_detection_demo()
  config["method"].update({"task": "multi_parsing", "classes": 20, "flip_pairs": ((14, 15), (16, 17), (18, 19))})
  return config
