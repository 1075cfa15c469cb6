"""The training methods, by name: pre-training, and fine-tuning with labels."""

from saip_jax.methods.base import Method
from saip_jax.methods.croco_human.method import CrocoHuman
from saip_jax.methods.dino.method import Dino
from saip_jax.methods.finetune.method import Finetune
from saip_jax.methods.hap.method import Hap
from saip_jax.methods.hcmoco.method import Hcmoco
from saip_jax.methods.mae.method import Mae
from saip_jax.methods.saip.method import Saip

METHODS: dict[str, type[Method]] = {
  "saip": Saip,
  "mae": Mae,
  "dino": Dino,
  "hap": Hap,
  "croco_human": CrocoHuman,
  "hcmoco": Hcmoco,
  "finetune": Finetune,
}
