r"""HAP as published: ViT-B/16 at 256x128 on 2.1 M person crops with keypoints, 400 epochs.

  saip pretrain --config=hap --workdir=W --config.data.path=LUPERSON --config.init_from=MAE_VIT_BASE.pth

Hardware: the published run used 16 GPUs x 256 images without accumulation. `accumulate=1` keeps that, as the alignment
compares each image with all others of its micro-step. Not timed on an accelerator. Compiled for v5e-8, a batch of 4,096
fits only with `--config.accumulate=4` (25.2, 19.3 and 9.4 of 15.75 GiB a chip with 1, 2 and 4).

The published run starts from MAE's ViT-B encoder of ImageNet (`init_from`: any weights in a published layout). From
scratch its authors lose 2 points of mAP on Market-1501 and 5 on MSMT17. The keypoints are COCO's 17 joints of each
crop, as `saip prepare ... --keypoints=DIR --joints=coco` stores them. An image without keypoints is masked in blocks
only; `method.masks.most_parts=0` needs no keypoints.

As published: mask ratio 0.5; crops of 0.8 to 1 of the area, mirrored, without color augmentation; AdamW 0.9, 0.95;
weight decay 0.05; learning rate 1.5e-4 x batch / 256, 40 epochs of warm-up; alignment weight 0.05 at temperature 0.2.
Parts are hidden whole, as the paper says. The released code hides up to 0.3 of each part
(`method.masks.part_fraction=(0.0,0.3)`), and by mistake only in the first few images of each batch
(`method.masks.cap_bug=True`).

Deviations: where chosen parts overlap, a patch has the priority of the part chosen first (released code: of the last).
Positions are learned (published: fixed ones, `method.positions=cosine`; in the encoder those of its initial weights).

An epoch of 2,090,121 images, half of LUPerson, is 510 updates; for another number of images set `total_steps`.
"""

from saip_vit_tiny import get_config as saip_vit_tiny


def get_config():
  config = saip_vit_tiny()
  config["batch_size"], config["accumulate"], config["total_steps"] = 4096, 1, 400 * 510
  config["checkpoint_every"], config["keep_every"], config["panel_every"] = 510, 20 * 510, 5100
  config["data"]["source"] = "arrayrecord"
  config["model"]["backbone"] = "vit_base"
  config["method"] = {
    "name": "hap",
    "crop_area": (0.8, 1.0),
    "crop_aspect": (3 / 8, 2 / 3),
    "mae": {"mask_ratio": 0.5, "width": 512, "depth": 8, "heads": 16},
    "masks": {"blocks": True, "most_parts": 6, "part_fraction": (1.0, 1.0), "min_score": 0.0, "cap_bug": False},
    "align": {"weight": 0.05, "temperature": 0.2},
    "positions": "learned",
  }
  config["optimizer"].update(
    {
      "learning_rate": 2.4e-3,  # 1.5e-4 x 4096 / 256
      "warmup_fraction": 40 / 400,
      "b1": 0.9,
      "b2": 0.95,
      "weight_decay": 0.05,
    }
  )
  return config
