r"""SAIP as published: ViT-Ti/16 at 256x128 on 1 M person crops, 300 epochs, batch 2048.

  saip pretrain --config=saip_vit_tiny --workdir=W \
    --config.data.path=LUP1M --config.data.scene_path=SCENES

Hardware: the published run used 8 GPUs x 64 images x 4 accumulated micro-steps; `accumulate=4` keeps that. An image
takes about 75 GFLOP (85 with `--config.method.fidelity=improved`), 300 M images take 2.2e19 operations. Not timed on an
accelerator; at an assumed 150 TFLOP/s sustained, the run takes 41 hours. Two CPU cores reach 1.5 images/s (float32,
batch 8): enough for a look, not for training.

LUP1M has 1 M images: an epoch is 488 updates, the warm-up takes 10 epochs and the run 300. For another number of
images set `total_steps`; the warm-up follows it. Initial losses: csm_rep 10.6 (it rises towards log 65,536 = 11.1
within about 20 updates, while the center fills), csm_att 0, csr 1.8, css_inst and css_roi 0.7 to 0.9. A css below 0.445
means that the search beats a constant guess.
"""

from ml_collections import ConfigDict


def get_config():
  return ConfigDict(
    {
      "seed": 0,
      "batch_size": 2048,  # images per update, all devices together
      "accumulate": 4,  # micro-steps per update; teacher and center move at each
      "total_steps": 300 * 488,
      "checkpoint_every": 5 * 488,  # 80 s on a pod; a save stops the loop for less than half a second
      "keep_last": 3,
      "keep_every": 20 * 488,
      "panel_every": 4880,
      "log_every": 1,
      "precision": "bfloat16",  # published: float16 with loss scaling
      "data": {
        "source": "folder",
        "path": None,
        "scene_path": None,  # None: scenes come from other images of the same source
        "canvas_hw": (320, 160),
        "scene_canvas_hw": (256, 256),
        "people_count": 2048,
        "workers": 0,
        "threads": 8,
        "max_damaged_fraction": 0.01,
      },
      "model": {"backbone": "vit_tiny", "image_hw": (256, 128)},
      "method": {
        "name": "saip",
        "fidelity": "official",
        "behavior": {},  # single deviations from the fidelity, see saip_jax/methods/saip/behavior.py
        "local_crops": 7,
        "crop_aspect": (0.4, 0.6),
        "global_area": (0.8, 1.0),
        "local_area": (0.05, 0.8),
        "rescale_factors": (0.75, 0.875, 1.125, 1.25),
        "teacher_momentum": 0.996,  # per micro-step, constant
        "csm": {
          "weight": 1.0,
          "prototypes": 65536,
          "hidden": 2048,
          "bottleneck": 256,
          "temp_student": 0.1,
          "temp_teacher": 0.04,
          "center_momentum": 0.9,  # per micro-step
        },
        "csr": {"weight": 1.0, "scale": 1.25, "mask_ratio": 0.75, "width": 512, "depth": 8, "heads": 16},
        "css": {
          "weight": 1.0,
          "scene_size": 224,
          "scene_area": (0.2, 1.0),
          "scene_aspect": (3 / 4, 4 / 3),
          "paste_opacity": 0.7,
          "width": 512,
          "depth": 2,
          "heads": 16,
        },
      },
      "optimizer": {
        "learning_rate": 2e-3,  # 2.5e-4 x 2048 / 256
        "min_learning_rate": 0.0,
        "warmup_fraction": 10 / 300,
        "b1": 0.9,
        "b2": 0.95,
        "eps": 1e-8,
        "weight_decay": 0.05,
        "grad_clip_norm": None,
      },
    }
  )
