"""SAIP whose reconstruction hides body parts, as HAP does, at demo size, for two CPU cores.

  saip pretrain --config=saip_parts_demo --workdir=runs/saip_parts_demo

This is `saip_demo` with HAP's masks in CSR. In any SAIP recipe, `--config.method.csr.masks.blocks=True` adds the
section. The data must have keypoints.

Hardware: two CPU cores, as `saip_demo`.
"""

from saip_demo import get_config as saip_demo


def get_config():
  config = saip_demo()
  config["method"]["csr"]["masks"] = {"blocks": True, "most_parts": 6, "part_fraction": (1.0, 1.0)}
  return config
