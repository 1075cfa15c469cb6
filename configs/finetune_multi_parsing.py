r"""Fine-tuning on CIHP: ViT-Ti/16 at 512x768, the class and the person of each pixel.

  saip evaluate --checkpoint=W --task=multi_parsing --data=cihp:DIR --finetune=finetune_multi_parsing
  saip pretrain --config=finetune_multi_parsing --config.init_from=W --workdir=F --config.data.path=DIR

Hardware: 8 accelerators of 16 GB, 4 photos on each. Not timed on one.

As published: scores only; the recipe is not part of SAIP's downstream repository. Here: the numbers of
`finetune_parsing`, with the losses of Panoptic-DeepLab for centers and the offsets to them; photos are squashed to the
input.
"""

from finetune_parsing import get_config as finetune_parsing

_EPOCH = 28_280 // 32


def get_config():
  config = finetune_parsing()
  config["batch_size"] = 32
  config["total_steps"] = 150 * _EPOCH
  config["checkpoint_every"] = 10 * _EPOCH
  config["data"].update({"source": "cihp", "canvas_hw": (512, 768), "whole_photos": True})
  config["model"]["image_hw"] = (512, 768)
  config["method"]["task"] = "multi_parsing"
  config["optimizer"]["learning_rate"] = 7e-4 * 32 / 96
  return config
