"""Names of body and clothing parts, in the order of the data set Look into Person (LIP), and their mirror images."""

import numpy as np

LIP_PARTS = (
  "Background",
  "Hat",
  "Hair",
  "Glove",
  "Sunglasses",
  "Upper-clothes",
  "Dress",
  "Coat",
  "Socks",
  "Pants",
  "Jumpsuits",
  "Scarf",
  "Skirt",
  "Face",
  "Left-arm",
  "Right-arm",
  "Left-leg",
  "Right-leg",
  "Left-shoe",
  "Right-shoe",
)
"""LIP's 20 classes: a pixel's class is an index here. Neck is face, hands are arms; left is the person's own."""

LABELS = {name: label for label, name in enumerate(LIP_PARTS)}
"""Part name -> class."""


def _mirrored(name: str) -> str:
  return name.replace("Left-", "Right-") if name.startswith("Left-") else name.replace("Right-", "Left-")


FLIPPED_PARTS = np.array([LABELS[_mirrored(name)] for name in LIP_PARTS], np.uint8)
"""(20,) class -> its class in the mirrored image."""
