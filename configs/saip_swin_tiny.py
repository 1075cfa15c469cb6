r"""SAIP with Swin-T at 256x128: matching and search, as in the paper for hierarchical encoders.

  saip pretrain --config=saip_swin_tiny --workdir=W \
    --config.data.path=LUP1M --config.data.scene_path=SCENES

Hardware: as `saip_vit_tiny`, which gives all settings that this file does not change. 27.5 M parameters
(68.0 M with the heads), 114 GFLOP per image and step with either fidelity, 1.6 of ViT-Ti's time where arithmetic is the
limit. Not timed on an accelerator.
"""

from saip_vit_tiny import get_config as saip_vit_tiny


def get_config():
  config = saip_vit_tiny()
  config["model"]["backbone"] = "swin_tiny"
  config["method"]["csm"]["attention_weight"] = 0.0  # its attention is limited to windows
  config["method"]["csr"]["weight"] = 0.0  # it needs whole images
  return config
