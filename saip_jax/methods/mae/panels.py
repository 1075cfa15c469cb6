"""Cells of panels that show a masked reconstruction, for MAE and the methods that build on it."""

import jax
import numpy as np

from saip_jax.methods.mae.autoencoder import MaskDraws, MaskedAutoencoder
from saip_jax.pictures import gray, paint, picture


def painted_images(autoencoder: MaskedAutoencoder, params, images: jax.Array, masks: MaskDraws) -> dict[str, jax.Array]:
  """Returns what `painted_row` shows: the images of `pictures.paint`, and "hidden" (B, h, w), 1 for hidden patches."""
  out = autoencoder.forward(params["backbone"], params["mae"], images, masks)
  hidden = (1.0 - masks.seen).reshape(-1, *autoencoder.grid)
  return paint(images, out.prediction, masks.seen, autoencoder.patch) | {"hidden": hidden}


def painted_row(painted, i: int) -> list[tuple[str, np.ndarray]]:
  """Returns the cells of sample i: the seen patches, the mask, and the reconstruction without and with the seen."""
  return [
    ("seen", picture(painted["seen"][i])),
    ("hidden", gray(painted["hidden"][i], painted["seen"][i].shape[:2])),
    ("reconstruction", picture(painted["painted"][i])),
    ("with the seen", picture(painted["together"][i])),
  ]
