r"""SAIP with ConvNeXt-Femto, the 5 M-class ConvNet, at 256x128: matching and search, as the paper has it for
convolutional encoders.

  saip pretrain --config=configs/saip_convnext_femto.py --workdir=W \
    --config.data.path=LUP1M --config.data.scene_path=SCENES

Hardware: as configs/saip_vit_tiny.py, of which everything but what stands below is taken. 4.83 M parameters
(44.2 M with the heads), 31.7 GFLOP per image and step with either fidelity, 0.44 of ViT-Ti's time where operations are
what counts; not timed on an accelerator.

`--config.method.csr.weight=1.0` adds reconstruction: hidden pixels are zero, and hidden cells are set to zero again
before every convolution.
"""

from saip_vit_tiny import get_config as saip_vit_tiny


def get_config():
  config = saip_vit_tiny()
  config["model"]["backbone"] = "convnext_femto"
  config["method"]["csm"]["attention_weight"] = 0.0  # it has no attention
  config["method"]["csr"]["weight"] = 0.0
  return config
