r"""Fine-tuning on Fashionpedia: ViT-Ti/16 at 896x896, the clothing of each pixel.

  saip evaluate --checkpoint=W --task=segmentation --data=fashionpedia:DIR --finetune=finetune_segmentation
  saip pretrain --config=finetune_segmentation --config.init_from=W --workdir=F --config.data.path=DIR

Hardware: 8 accelerators of 16 GB, one image on each. Not timed on one.

As published (SAIP's downstream repository, after KE-RCNN): boxes, masks and 294 attributes of 46 categories by an
R-CNN; AdamW; learning rate 1e-4; weight decay 0.05; 32 epochs; 896 pixels; scales of 0.5 to 1.25.

Deviations: classes of pixels only, smaller pieces drawn over larger ones, so that a mean IoU is measured and no AP; the
decoder of `finetune_parsing`; a cosine in place of steps at 26 and 30 epochs; images squashed to the input.
"""

from finetune_parsing import get_config as finetune_parsing

_EPOCH = 45_623 // 8


def get_config():
  config = finetune_parsing()
  config["batch_size"] = 8
  config["total_steps"] = 32 * _EPOCH
  config["checkpoint_every"] = 2 * _EPOCH
  config["data"].update({"source": "fashionpedia", "canvas_hw": (896, 896)})
  config["model"]["image_hw"] = (896, 896)
  config["method"].update({"task": "segmentation", "classes": 47, "flip_pairs": ()})
  config["method"]["views"]["scale"] = (0.8, 2.0)  # sides of a view: images at 1.25 to 0.5 of their size
  config["optimizer"].update({"learning_rate": 1e-4, "warmup_fraction": 500 / (32 * _EPOCH), "weight_decay": 0.05})
  return config
