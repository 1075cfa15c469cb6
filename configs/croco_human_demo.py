"""CroCo-Human at demo size, on built-in people in two views or two poses, for two CPU cores.

  saip pretrain --config=croco_human_demo --workdir=runs/croco_human_demo

Hardware: two CPU cores, up to ten minutes (9 images/s and one compilation of two minutes, on a very busy machine). Half
of the pairs are views of one instant by two cameras, half are two instants of a motion. Optimizer and number of updates
are those of `saip_demo`. Expected, mean of the last 20 updates: view 0.78 (from 1.27), pose 0.71 (from 1.28).

On people never trained on, the second image of another person raises the error of hidden patches from 0.75 to 0.77 in
pairs of views and from 0.68 to 0.70 in pairs of poses. So the network looks up the surroundings in the second image,
not yet the person. scripts/compare_pairs.py measures that.
"""

from saip_demo import get_config as saip_demo


def get_config():
  config = saip_demo()
  people = lambda composition: {"source": "people", "people_composition": composition, "people_count": 512}
  config["data"].update({"source": "mixture", "mixture": {"views": people("views"), "clips": people("clips")}})
  config["method"] = {
    "name": "croco_human",
    "crop_area": (0.765625, 0.765625),
    "crop_aspect": (0.5, 0.5),  # that of the images
    "jitter": (0.4, 0.4, 0.4),
    "positions": "cosine",
    "second_image": True,
    "mae": {"mask_ratio": 0.75, "width": 128, "depth": 2, "heads": 4},
    "masks": {"mode": "uniform", "preference": 1.0},
  }
  return config
