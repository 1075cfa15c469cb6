r"""SAIP with ConvNeXt-Femto, a ConvNet of 5 M parameters, at 256x128: matching and search.

  saip pretrain --config=saip_convnext_femto --workdir=W \
    --config.data.path=LUP1M --config.data.scene_path=SCENES

These are the objectives of the paper for convolutional encoders. `--config.method.csr.weight=1.0` adds reconstruction:
hidden pixels are zero, and hidden cells are set to zero again before every convolution.

Hardware: as `saip_vit_tiny`, which gives all settings that this file does not change. 4.83 M parameters
(44.2 M with the heads), 31.7 GFLOP per image and step with either fidelity, 0.44 of ViT-Ti's time where arithmetic is
the limit. Not timed on an accelerator.
"""

from saip_vit_tiny import get_config as saip_vit_tiny


def get_config():
  config = saip_vit_tiny()
  config["model"]["backbone"] = "convnext_femto"
  config["method"]["csm"]["attention_weight"] = 0.0  # it has no attention
  config["method"]["csr"]["weight"] = 0.0
  return config
