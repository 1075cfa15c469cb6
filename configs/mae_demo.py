"""MAE at demo size, on built-in people, for two CPU cores.

  saip pretrain --config=mae_demo --workdir=runs/mae_demo

Hardware: two CPU cores, about two minutes (50 images/s and one compilation of half a minute, on a busy machine). Data,
size, optimizer and number of updates are those of `saip_demo`. Expected, mean of the last 20 updates: loss
0.80, from 1.32. The reconstructions have the colors of the image, not yet its shapes.
"""

from saip_demo import get_config as saip_demo


def get_config():
  config = saip_demo()
  config["method"] = {
    "name": "mae",
    "crop_area": (0.2, 1.0),
    "crop_aspect": (0.4, 0.6),  # that of the images; the published 3/4 to 4/3 would squash them
    "mae": {"mask_ratio": 0.75, "width": 128, "depth": 2, "heads": 4},
  }
  return config
