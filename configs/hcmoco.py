r"""HCMoCo as published, first stage: samples contrasted as a whole between modalities.

  saip pretrain --config=hcmoco --workdir=STAGE1 --config.data.path=RGBD --config.method.bank.size=N
  saip pretrain --config=hcmoco_stage2 --workdir=STAGE2 --config.data.path=RGBD \
    --config.method.bank.size=N --config.init_from=STAGE1

Hardware: the published run used 4 GPUs x 56 images; two HRNet-W18 at 320x320. Not timed on an accelerator. Here an
update is 4 micro-steps of 56 images: batch statistics and contrasted joints are those of 56 images, as published.

N is the number of images; the memory banks have a row for each. The published set, NTU RGB+D and COCO or MPII, has
about 82,000, of which those of COCO or MPII have no depth. Here any mixture (`config.data.mixture`) of parts with and
without depth will do; at equal weights half of a batch has depth, as published. `saip prepare ... --depth=DIR` stores
depth. Of COCO's keypoints 13 are read.

As published: 16,384 negatives; temperature 0.07; banks with momentum 0.5; SGD with momentum 0.9; weight decay 1e-4 of
all parameters; a cosine from 0.03 to 3e-5 in 100 epochs, no warm-up; float32; no mirroring and no color augmentation.
The published encoders start from ImageNet: `--config.init_from=FILE --config.init_heads=False` takes weights of
HRNet-W18, such as timm's, for both images and depth. Those weights were trained with maps that are enlarged by
repeating cells; HCMoCo's networks interpolate and keep 0.99 of their running statistics, as
`model.backbone=hrnet_w18_bilinear` does.

Deviations: crops of 0.2 to 1 of the image, anywhere in it; a learning rate that falls at each update (published: at
each epoch). `method.as_published=True` gives the other behavior of the released code: negatives are drawn for each
sample and may include its own row; banks also move for samples without depth; joints are contrasted with missing
joints, invisible ones or themselves, and not at all without a sample that has depth. In both, the last of several
copies of an image in a batch counts for the banks.
"""

from saip_vit_tiny import get_config as saip_vit_tiny


def get_config():
  config = saip_vit_tiny()
  config["batch_size"], config["accumulate"], config["total_steps"] = 224, 4, 100 * 366
  config["checkpoint_every"], config["keep_every"], config["panel_every"] = 366, 20 * 366, 3660
  config["precision"] = "float32"
  config["data"]["source"], config["data"]["canvas_hw"] = "arrayrecord", (384, 384)
  config["model"] = {"backbone": "hrnet_w18_bilinear", "image_hw": (320, 320)}
  config["method"] = {
    "name": "hcmoco",
    "crop_area": (0.2, 1.0),
    "crop_aspect": (1.0, 1.0),
    "width": 128,
    "skeleton_blocks": 4,
    "temperature": 0.07,
    "negatives": "bank",
    "bank": {"size": 82000, "draws": 16384, "momentum": 0.5},
    "places": 400,
    "weights": {"sample": 1.0, "dense": 0.0, "nodes": 0.0, "joints": 0.0},
    "as_published": False,
  }
  config["optimizer"].update(
    {
      "name": "sgd",
      "learning_rate": 0.03,
      "min_learning_rate": 3e-5,
      "warmup_fraction": 0.0,
      "b1": 0.9,
      "weight_decay": 1e-4,
    }
  )
  return config
