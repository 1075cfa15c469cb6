"""DINO+MAE at the size of `saip_nano`: `dino_nano` and reconstruction of hidden patches.

  saip pretrain --config=dino_mae_nano --workdir=runs/dino_mae_nano

Hardware: two CPU cores, four minutes at 211 images/s and one compilation of a minute.
"""

from dino_nano import get_config as dino_nano


def get_config():
  config = dino_nano()
  config["method"]["mae"]["weight"] = 1.0
  return config
