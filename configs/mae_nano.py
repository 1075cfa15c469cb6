"""MAE at the size of `saip_nano`, a baseline for it.

  saip pretrain --config=mae_nano --workdir=runs/mae_nano

Data, size, optimizer and decoder are those of `saip_nano`; the mean gray of a patch is no target, as in the published
MAE. `scripts/bench_methods.py` compares them at equal images and at equal time.

Hardware: two CPU cores, a minute at 866 images/s and one compilation of half a minute.
"""

from saip_nano import get_config as saip_nano


def get_config():
  config = saip_nano()
  config["method"] = {
    "name": "mae",
    "crop_area": (0.2, 1.0),
    "crop_aspect": (0.4, 0.6),
    "mae": {"mask_ratio": 0.75, "width": 64, "depth": 1, "heads": 2},
  }
  return config
