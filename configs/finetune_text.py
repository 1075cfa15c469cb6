r"""Fine-tuning on CUHK-PEDES: ViT-Ti/16 at 384x128 and a small text transformer, 60 epochs.

  saip evaluate --checkpoint=W --task=text --data=cuhkpedes:DIR --finetune=finetune_text
  saip pretrain --config=finetune_text --config.init_from=W --workdir=F --config.data.path=DIR

Hardware: one accelerator of 16 GB. Not timed on one.

As published (SAIP's downstream repository, after IRRA): CLIP's text encoder; three losses; temperature 0.02; images
mirrored, padded, cropped and erased; Adam with epsilon 1e-3; learning rate 1e-4; weight decay 4e-5; batches of 128; 60
epochs with 5 of warm-up.

Deviations: the text encoder is trained from scratch with two losses, so scores stay below the published ones (see
`saip_jax/methods/finetune/text.py`); new layers learn no faster than others (5 x); images are normalized with the mean
and deviation of ImageNet. ICFG-PEDES differs in `method.classes` only: 3102.
"""

from finetune_reid import get_config as finetune_reid

_EPOCH = 34_054 // 128


def get_config():
  config = finetune_reid()
  config["batch_size"] = 128
  config["total_steps"] = 60 * _EPOCH
  config["checkpoint_every"] = 10 * _EPOCH
  config["data"].update({"source": "cuhkpedes", "canvas_hw": (384, 128), "pictures_per_identity": 0})
  config["model"]["image_hw"] = (384, 128)
  config["method"].update({"task": "text", "classes": 11_003})
  config["optimizer"].update(
    {"learning_rate": 1e-4, "min_learning_rate": 0.0, "warmup_fraction": 5 / 60, "eps": 1e-3, "weight_decay": 4e-5}
  )
  return config
