"""HAP at demo size, on built-in people and their keypoints, for two CPU cores.

  saip pretrain --config=hap_demo --workdir=runs/hap_demo

Hardware: two CPU cores, about three minutes (20 to 37 images/s on a busy machine and one compilation of 30 s). Data,
size, optimizer and number of updates are those of `saip_demo`. Expected, mean of the last 20 updates: mae 0.87
(from 1.29), align 0.44 (from 1.2; 0.8 log 16 = 2.2 with equal features). A crop shows 5.8 of the six parts of a body on
average.
"""

from saip_demo import get_config as saip_demo


def get_config():
  config = saip_demo()
  config["method"] = {
    "name": "hap",
    "crop_area": (0.8, 1.0),
    "crop_aspect": (3 / 8, 2 / 3),
    "mae": {"mask_ratio": 0.5, "width": 128, "depth": 2, "heads": 4},
    "masks": {"blocks": True, "most_parts": 6, "part_fraction": (1.0, 1.0), "min_score": 0.0, "cap_bug": False},
    "align": {"weight": 0.05, "temperature": 0.2},
  }
  return config
