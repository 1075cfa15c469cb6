r"""MAE, a baseline of SAIP: ViT-Ti/16 at 256x128 on the same 1 M person crops (LUP1M), 300 epochs.

  saip pretrain --config=mae --workdir=W --config.data.path=LUP1M

Hardware: as `saip_vit_tiny`, at 0.3 of its work: 22 GFLOP per image and step, nine tenths of them in the
decoder. Not timed on an accelerator. For a ConvNet: `--config.model.backbone=convnext_femto`, masked in cells of 32
pixels.

As published (He et al. 2022, on ImageNet; on persons as the baseline of HAP): mask ratio 0.75; decoder of 8 blocks of
width 512; normalized patches; crops of 0.2 to 1 of the area with an aspect of 3/4 to 4/3, mirrored, without color
augmentation; AdamW 0.9, 0.95; weight decay 0.05, also of class and mask token; learning rate 1.5e-4 x batch / 256; 40
epochs of warm-up.

Deviations, to compare with SAIP: its encoder, data, 300 epochs and batch of 2048 (published: ViT-B and larger, 800 or
1600 epochs, 4096); learned positions (published: fixed sine and cosine waves, `method.positions=cosine`).
"""

from saip_vit_tiny import get_config as saip_vit_tiny


def get_config():
  config = saip_vit_tiny()
  config["accumulate"] = 1
  config["method"] = {
    "name": "mae",
    "crop_area": (0.2, 1.0),
    "crop_aspect": (3 / 4, 4 / 3),
    "mae": {"mask_ratio": 0.75, "width": 512, "depth": 8, "heads": 16},
    "positions": "learned",
  }
  config["optimizer"].update(
    {
      "learning_rate": 1.2e-3,  # 1.5e-4 x 2048 / 256
      "warmup_fraction": 40 / 300,
      "b1": 0.9,
      "b2": 0.95,
      "weight_decay": 0.05,
    }
  )
  return config
