r"""SAIP with TinyViT-5M at 256x128: matching and search, without attention maps and reconstruction.

  saip pretrain --config=saip_tinyvit_5m --workdir=W \
    --config.data.path=LUP1M --config.data.scene_path=SCENES

The objectives are those of the released variant, whose code does not run. As released, crops are rescaled by 0.75 to
1.125 only. With `--config.method.fidelity=improved` the teacher's running statistics follow the student's.

Hardware: as `saip_vit_tiny`, which gives all settings that this file does not change. Batch statistics are
taken over all devices together, one set for each kind of view. 5.74 M parameters (45.1 M with the heads), 59.4 GFLOP
per image and step (59.6 improved), 0.8 of ViT-Ti's time where arithmetic is the limit. Not timed on an accelerator.
"""

from saip_vit_tiny import get_config as saip_vit_tiny


def get_config():
  config = saip_vit_tiny()
  config["model"]["backbone"] = "tinyvit_5m"
  config["method"]["rescale_factors"] = (0.75, 0.875, 1.0, 1.125)
  config["method"]["csm"]["attention_weight"] = 0.0  # its attention is limited to windows
  config["method"]["csr"]["weight"] = 0.0  # its convolutions need whole images
  return config
