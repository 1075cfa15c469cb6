"""HCMoCo at the size of `saip_nano`, a baseline for it.

  saip pretrain --config=hcmoco_nano --workdir=runs/hcmoco_nano

Data, size and optimizer are those of `saip_nano`; depth has an encoder of its own. `scripts/bench_methods.py` compares
them at equal images and at equal time.

Hardware: two CPU cores, four minutes at 194 images/s and one compilation of half a minute.
"""

from hcmoco_demo import get_config as hcmoco_demo
from saip_nano import get_config as saip_nano


def get_config():
  config = saip_nano()
  config["method"] = hcmoco_demo()["method"]
  config["method"]["places"] = 16
  return config
