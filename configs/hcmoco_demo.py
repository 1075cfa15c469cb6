"""HCMoCo at demo size, on built-in people, their depth and their joints, for two CPU cores.

  saip pretrain --config=hcmoco_demo --workdir=runs/hcmoco_demo

Hardware: two CPU cores, about two minutes (about 40 images/s and one compilation of 30 s). Data and number of updates
are those of `saip_demo`; the encoder is a ConvNeXt at 96x48, whose finest map has 24x12 cells. Expected, mean
of the last 20 updates: sample 13.6 (from 19; 6 log 16 = 16.6 with equal features), dense 6.65 (from 10.4), nodes 1.66
(from 5.8), joints 5.66 (from 12.6).

In the panel, the maps of both modalities get the same colors. They mostly tell the place in the image, which both share
through their common crop. Negatives come from the batch: banks (`method.negatives=bank`, a row for each image) need
more visits to each image than this run has.
"""

from saip_demo import get_config as saip_demo


def get_config():
  config = saip_demo()
  config["model"], config["remat"] = {"backbone": "convnext_femto", "image_hw": (96, 48)}, "none"
  config["method"] = {
    "name": "hcmoco",
    "crop_area": (0.3, 1.0),
    "crop_aspect": (0.4, 0.6),
    "width": 128,
    "skeleton_blocks": 2,
    "temperature": 0.07,
    "negatives": "batch",
    "bank": {
      "size": 352,  # training images among the 512
      "draws": 256,
      "momentum": 0.5,
    },
    "places": 100,
    "weights": {"sample": 1.0, "dense": 1.0, "nodes": 1.0, "joints": 1.0},
  }
  config["optimizer"]["learning_rate"] = 2e-3
  return config
