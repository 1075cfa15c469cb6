"""DINO+MAE at demo size: DINO and reconstruction of hidden patches, for two CPU cores.

  saip pretrain --config=dino_mae_demo --workdir=runs/dino_mae_demo

Hardware: two CPU cores, about eight minutes (7 images/s and one compilation of a minute, on a busy machine). Expected,
mean of the last 20 updates: dino 6.66, as without reconstruction; mae 0.78, from 1.29.
Patches of the first global view are hidden; all else is as in `dino_demo`.
"""

from dino_demo import get_config as dino_demo


def get_config():
  config = dino_demo()
  config["method"]["mae"]["weight"] = 1.0
  return config
