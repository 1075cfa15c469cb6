"""SAIP at demo size: the same objectives on built-in people, for two CPU cores.

  saip pretrain --config=saip_demo --workdir=runs/demo

Hardware: two CPU cores, about five minutes (17 images/s and one compilation of 40 s). Half-size views, 1,024
prototypes, small decoders; the encoder is ViT-Ti/16 with 128x64 positions. Expected, mean of the last 20 updates: csr
0.76 (from 1.30), css_inst 0.18 (from 0.83), css_roi 0.23 (from 0.88). csm_rep starts below log K while the center is
still zero, then rises towards it; 200 updates of so small a batch do not bring it down again.

`--config.monitor_every=100 --config.monitor_images=128` measures what frozen features tell about identities,
attributes and parts during the run. Each of the three measurements takes as long as 1.2 updates; see
saip_jax/evaluation/monitors.py.

For a folder of your own photos add `--config.data.source=folder --config.data.path=PHOTOS`.
"""

from ml_collections import ConfigDict


def get_config():
  return ConfigDict(
    {
      "batch_size": 16,
      "accumulate": 1,
      "total_steps": 200,
      "checkpoint_every": 50,
      "keep_last": 2,
      "panel_every": 100,
      "precision": "float32",
      "data": {
        "source": "people",  # rendered once, on first use, and cached
        "canvas_hw": (256, 128),
        "people_count": 512,
        "threads": 2,
      },
      "model": {"backbone": "vit_tiny", "image_hw": (128, 64)},
      "method": {
        "name": "saip",
        "fidelity": "official",
        "behavior": {},  # single deviations from the fidelity, see saip_jax/methods/saip/behavior.py
        "local_crops": 3,
        "crop_aspect": (0.4, 0.6),
        "global_area": (0.8, 1.0),
        "local_area": (0.05, 0.8),
        "rescale_factors": (0.75, 0.875, 1.125, 1.25),
        "teacher_momentum": 0.98,  # the published 0.996 remembers 250 micro-steps, more than this run has
        "csm": {
          "weight": 1.0,
          "prototypes": 1024,
          "hidden": 512,
          "bottleneck": 32,
          "temp_student": 0.1,
          "temp_teacher": 0.04,
          "center_momentum": 0.9,
        },
        "csr": {"weight": 1.0, "scale": 1.25, "mask_ratio": 0.75, "width": 128, "depth": 2, "heads": 4},
        "css": {
          "weight": 1.0,
          "scene_size": 112,
          "scene_area": (0.2, 1.0),
          "scene_aspect": (3 / 4, 4 / 3),
          "paste_opacity": 0.7,
          "width": 128,
          "depth": 2,
          "heads": 4,
        },
      },
      "optimizer": {
        "learning_rate": 5e-4,
        "min_learning_rate": 0.0,
        "warmup_fraction": 0.1,
        "b1": 0.9,
        "b2": 0.95,
        "eps": 1e-8,
        "weight_decay": 0.05,
        "grad_clip_norm": 3.0,
      },
    }
  )
