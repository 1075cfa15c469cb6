r"""Fine-tuning on COCO keypoints: ViT-Ti/16 at 256x192 with ViTPose's classic decoder.

  saip pretrain --config=finetune_keypoints --config.init_from=W --workdir=F \
      --config.data.path=coco/annotations/person_keypoints_train2017.json
  saip evaluate --checkpoint=W --task=keypoints --data=coco:coco/annotations/person_keypoints_train2017.json \
      --hold-out --finetune=finetune_keypoints

Hardware: a host of 8 accelerators, 64 persons on each. Not timed on one.

As published (SAIP's downstream repository, after ViTPose): two deconvolutions of 256 channels; UDP heat maps of sigma
2; AdamW; learning rate 5e-4 at a batch of 512; weight decay 0.1; layer decay 0.75; 210 epochs; gradients clipped at
norm 1; 500 updates of warm-up.

Deviations: a cosine in place of steps at 170 and 200 epochs; scales of 0.75 to 1.25 and shifts, but no rotations and no
half bodies; patches without a padding of 2; crops squashed to the input; no test on the mirror image.
"""

from finetune_reid import get_config as finetune_reid

_EPOCH = 149_813 // 512


def get_config():
  config = finetune_reid()
  config["batch_size"] = 512
  config["total_steps"] = 210 * _EPOCH
  config["checkpoint_every"] = 10 * _EPOCH
  config["data"].update({"source": "coco", "split": None, "canvas_hw": (288, 216), "pictures_per_identity": 0})
  config["model"]["image_hw"] = (256, 192)
  config["method"].update(
    {
      "task": "keypoints",
      "classes": 17,
      "flip_pairs": ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
      "layer_decay": 0.75,
    }
  )
  config["method"]["views"].update({"scale": (0.75, 1.25), "shift": 16, "flip": 0.5, "erase": 0.0})
  config["optimizer"].update(
    {
      "learning_rate": 5e-4,
      "min_learning_rate": 0.0,
      "warmup_fraction": 500 / (210 * _EPOCH),
      "weight_decay": 0.1,
      "grad_clip_norm": 1.0,
    }
  )
  return config
