r"""CroCo-Human: ViT-B/16 at 224x224 on pairs of images of one person: two views or two poses.

  saip pretrain --config=croco_human --workdir=W --config.data.path=PAIRS

Hardware: not timed on an accelerator; CroCo's own run took 10 days on 4 A100 for 400 epochs of 1.8 M pairs.

PAIRS: square crops of persons with a partner each, made by `saip prepare ... --pairs=FILE`. Other sources:
`--config.data.source=multiview`, a folder for each camera, or `video`, a folder for each clip. `data.pairs` sets what
makes a pair.

The paper (Armando et al. 2024) gives: both kinds of pairs, the loss L_pose + L_view, the networks of CroCo, masks of a
fixed ratio that favor the person. It leaves open what these settings choose: the mask ratio (`method.mae.mask_ratio`;
0.9 is CroCo's); how much the masks favor the person (`method.masks`: uniform as in CroCo; `mode="foreground"` needs
silhouettes, `preference` is a guess); the positions (`method.positions`: "cosine" as in CroCo; "rope" as in CroCo v2,
with `model.backbone="vit_base_rope"`); the initial weights (`init_from`); epochs and numbers of pairs; the time between
the frames of a pair (`data.pairs.gap`).

As in CroCo: decoder of 8 blocks of width 512; crops of 224 from 256 pixels, each image with its own crop and colors,
not mirrored; AdamW 0.9, 0.95; weight decay 0.05; learning rate 1.5e-4 x batch / 256, 40 of 400 epochs of warm-up.
Deviations: a cosine to the end of the run, where CroCo stops in the middle of one; 100 epochs of 1 M pairs; a class
token in encoder and decoder, as in MAE.

To start from an encoder of MAE: `--config.init_from=MAE_VIT_BASE.pth`. Its positions are the same waves.
"""

from saip_vit_tiny import get_config as saip_vit_tiny


def get_config():
  config = saip_vit_tiny()
  config["batch_size"], config["accumulate"], config["total_steps"] = 256, 1, 100 * 3906
  config["checkpoint_every"], config["keep_every"], config["panel_every"] = 3906, 10 * 3906, 3906
  config["data"].update({"source": "arrayrecord", "canvas_hw": (256, 256)})
  config["model"].update({"backbone": "vit_base", "image_hw": (224, 224)})
  config["method"] = {
    "name": "croco_human",
    "crop_area": (0.765625, 0.765625),  # (224 / 256) ** 2
    "crop_aspect": (1.0, 1.0),
    "jitter": (0.4, 0.4, 0.4),
    "positions": "cosine",
    "second_image": True,
    "mae": {"mask_ratio": 0.9, "width": 512, "depth": 8, "heads": 16},
    "masks": {"mode": "uniform", "preference": 1.0},
  }
  config["optimizer"].update(
    {"learning_rate": 1.5e-4, "warmup_fraction": 40 / 400, "b1": 0.9, "b2": 0.95, "weight_decay": 0.05}
  )
  return config
