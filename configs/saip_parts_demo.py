"""SAIP whose reconstruction hides body parts, as HAP does: configs/saip_demo.py with HAP's masks in CSR.

  saip pretrain --config=configs/saip_parts_demo.py --workdir=runs/saip_parts_demo

In any SAIP recipe, --config.method.csr.masks.blocks=True adds the section. The data must have keypoints.

Hardware: two CPU cores, as configs/saip_demo.py.
"""

from saip_demo import get_config as saip_demo


def get_config():
  config = saip_demo()
  config["method"]["csr"]["masks"] = {"blocks": True, "most_parts": 6, "part_fraction": (1.0, 1.0)}
  return config
