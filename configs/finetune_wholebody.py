r"""Fine-tuning on COCO-WholeBody: ViT-Ti/16 at 256x192 predicts 133 heat maps, 210 epochs.

  saip evaluate --checkpoint=W --task=wholebody --data=coco:annotations/coco_wholebody_train_v1.0.json --hold-out \
      --finetune=finetune_wholebody
  saip pretrain --config=finetune_wholebody --config.init_from=W --workdir=F \
      --config.data.path=annotations/coco_wholebody_train_v1.0.json

Hardware: a host of 8 accelerators, 64 persons on each. Not timed on one.

As published (SAIP's downstream repository): the head of `finetune_keypoints` with 133 maps; Adam; learning
rate 5e-4; 256 persons on each GPU; 210 epochs; no class token.

Deviations: a batch of 512; the unbiased maps and all other settings of that recipe; the class token is there, though
no head reads it.
"""

from finetune_keypoints import get_config as finetune_keypoints

_BODY = tuple((left, left + 1) for left in range(1, 17, 2))
_FEET = tuple((left, left + 3) for left in range(17, 20))
_FACE = tuple(
  (23 + left, 23 + right)
  for left, right in (  # in the order of 300-W
    *((k, 16 - k) for k in range(8)),
    *((k, 43 - k) for k in range(17, 22)),
    (31, 35),
    (32, 34),
    *((k, 81 - k) for k in range(36, 40)),
    (40, 47),
    (41, 46),
    (48, 54),
    (49, 53),
    (50, 52),
    (55, 59),
    (56, 58),
    (60, 64),
    (61, 63),
    (65, 67),
  )
)
_HANDS = tuple((left, left + 21) for left in range(91, 112))


def get_config():
  config = finetune_keypoints()
  config["method"].update(
    {"task": "wholebody", "classes": 133, "flip_pairs": _BODY + _FEET + _FACE + _HANDS, "layer_decay": 1.0}
  )
  config["optimizer"]["weight_decay"] = 0.0
  return config
