"""CroCo-Human at the size of `saip_nano`, a baseline for it.

  saip pretrain --config=croco_human_nano --workdir=runs/croco_human_nano

Size, optimizer and decoder are those of `saip_nano`. Half of the pairs are views of one instant, half two instants of a
motion. `scripts/bench_methods.py` compares them at equal images and at equal time.

Hardware: two CPU cores, two minutes at 372 images/s and one compilation of half a minute.
"""

from croco_human_demo import get_config as croco_human_demo
from saip_nano import get_config as saip_nano


def get_config():
  config = saip_nano()
  people = lambda composition: {"source": "people", "people_composition": composition, "people_count": 2048}
  config["data"].update({"source": "mixture", "mixture": {"views": people("views"), "clips": people("clips")}})
  config["method"] = croco_human_demo()["method"]
  config["method"]["mae"].update({"width": 64, "depth": 1, "heads": 2})
  return config
