"""HAP at the size of `saip_nano`, a baseline for it.

  saip pretrain --config=hap_nano --workdir=runs/hap_nano

Data, size, optimizer and decoder are those of `saip_nano`. `scripts/bench_methods.py` compares them at equal images and
at equal time.

Hardware: two CPU cores, two minutes at 371 images/s and one compilation of half a minute.
"""

from hap_demo import get_config as hap_demo
from saip_nano import get_config as saip_nano


def get_config():
  config = saip_nano()
  config["method"] = hap_demo()["method"]
  config["method"]["mae"].update({"width": 64, "depth": 1, "heads": 2})
  return config
