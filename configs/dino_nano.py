"""DINO at the size of `saip_nano`, a baseline for it.

  saip pretrain --config=dino_nano --workdir=runs/dino_nano

Data, size, optimizer, momentum of the teacher and prototypes are those of `saip_nano`. `scripts/bench_methods.py`
compares them at equal images and at equal time.

Hardware: two CPU cores, four minutes at 227 images/s and one compilation of half a minute.
"""

from dino_demo import get_config as dino_demo
from saip_nano import get_config as saip_nano


def get_config():
  config = saip_nano()
  config["method"] = dino_demo()["method"]
  config["method"].update({"prototypes": 256, "bottleneck": 64})
  config["method"]["mae"].update({"width": 64, "depth": 1, "heads": 2})
  return config
