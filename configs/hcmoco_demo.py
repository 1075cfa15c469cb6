"""HCMoCo made small, on built-in people, their depth and their joints, for two CPU cores.

  saip pretrain --config=configs/hcmoco_demo.py --workdir=runs/hcmoco_demo

Hardware: two CPU cores.
"""

import pathlib
import runpy


def get_config():
  config = runpy.run_path(str(pathlib.Path(__file__).with_name("saip_demo.py")))["get_config"]()
  config["model"], config["remat"] = {"backbone": "convnext_femto", "image_hw": (96, 48)}, "none"
  config["method"] = {
      "name": "hcmoco",
      "crop_area": (0.3, 1.0),
      "crop_aspect": (0.4, 0.6),
      "width": 128,
      "skeleton_blocks": 2,
      "temperature": 0.07,
      "negatives": "bank",
      "bank": {
          "size": 352,  # images that 512 people leave for training
          "draws": 256,
          "momentum": 0.5,
      },
      "places": 100,
      "weights": {
          "sample": 1.0,
          "dense": 1.0,
          "nodes": 1.0,
          "joints": 1.0,
      },
  }
  config["optimizer"]["learning_rate"] = 2e-3
  return config
