"""Pictures of SAIP at work: its views, what it reconstructs, where it searches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from saip_jax.backbones.patches import patchify, unpatchify
from saip_jax.reporting.panels import Panel
from saip_jax.views.geometry import rescale_nearest
from saip_jax.views.photometric import denormalise


@functools.partial(jax.jit, static_argnums=0)
def _compute(method, params, extra, batch, key):
  """Returns views, network outputs, and the reconstruction in pixels, all on the given batch."""
  views, draws = method.views_and_draws(batch, key)
  out = method.forward(params, extra["teacher"], views, draws)
  grid, patch = method.csr_grid, method.backbone.patch
  pixels = patchify(rescale_nearest(views.globals[:, 1], method.csr_hw), patch)  # (B, L, P)
  # The network predicts patches with mean 0 and deviation 1: give each its own back.
  mean, std = jnp.mean(pixels, -1, keepdims=True), jnp.std(pixels, -1, ddof=1, keepdims=True)
  seen = (draws.restore_ids < draws.keep_ids.shape[1])[..., None]
  painted = out.reconstruction.astype(jnp.float32) * std + mean
  images = {
      "target": pixels,
      "seen": jnp.where(seen, pixels, 0.0),
      "painted": painted,
      "together": jnp.where(seen, pixels, painted),
  }
  images = {name: unpatchify(patches, grid, patch) for name, patches in images.items()}
  return views, out, images, method.scored_patches(draws).reshape(-1, *grid)


def make_panels(method, params, extra, batch, key: jax.Array) -> dict[str, Panel]:
  """Returns the panels `views`, `reconstruction` and `search`, a row per sample.

  Args:
    method: a `saip_jax.methods.saip.Saip`.
    params: its parameters.
    extra: its teacher and centre.
    batch: fields of `Saip.batch_spec`; every sample gets a row.
    key: key of the views and masks.
  """
  views, out, images, scored = jax.device_get(_compute(method, params, extra, batch, key))
  picture = lambda image: np.clip(np.asarray(denormalise(image), np.float32), 0, 1)
  panels = {"views": [], "reconstruction": [], "search": []}
  for i in range(len(views.scene)):
    h, w = np.asarray(batch["image_hw"])[i]
    crops = [(f"local {j + 1}", picture(crop)) for j, crop in enumerate(views.crops[i, :-1])]
    panels["views"].append([
        ("image", np.asarray(batch["image"])[i, :h, :w]),
        ("anchor", picture(views.globals[i, 0])),
        ("augmented", picture(views.globals[i, 1])),
        *crops,
        ("region", picture(views.crops[i, -1])),
        ("scene", picture(views.scene[i])),
    ])
    panels["reconstruction"].append([
        ("anchor", picture(views.globals[i, 0])),
        ("target", picture(images["target"][i])),
        ("seen", picture(images["seen"][i])),
        ("scored", _grey(scored[i], images["target"][i].shape[:2])),
        ("reconstruction", picture(images["painted"][i])),
        ("with the seen", picture(images["together"][i])),
    ])
    scene = picture(views.scene[i])
    panels["search"].append([
        ("scene", scene),
        ("find: anchor", picture(views.globals[i, 0])),
        ("where it is", _heat(scene, views.inst_mask[i])),
        ("search", _heat(scene, _sigmoid(out.inst_logits[i]))),
        ("find: local crop", picture(views.crops[i, -2])),
        ("where it is", _heat(scene, views.roi_mask[i])),
        ("search", _heat(scene, _sigmoid(out.roi_logits[i]))),
    ])
  return {name: Panel(rows) for name, rows in panels.items()}


def _sigmoid(logits: np.ndarray) -> np.ndarray:
  return 0.5 * (1 + np.tanh(0.5 * logits))


def _grey(values: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
  """Enlarges a grid of 0..1 to pixels as a grey image."""
  cells = np.kron(values, np.ones((hw[0] // values.shape[0], hw[1] // values.shape[1])))
  return np.repeat(cells[..., None], 3, axis=-1).astype(np.float32)


def _heat(image: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Lays a grid of 0..1 over an image: dark blue where 0, bright red where 1."""
  heat = _grey(values, image.shape[:2])
  colour = heat * np.array([1.0, 0.15, 0.05]) + (1 - heat) * np.array([0.0, 0.05, 0.35])
  return (0.45 * image + 0.55 * colour).astype(np.float32)
