"""Panels of SAIP: its views, its reconstruction, and its search."""

import functools

import jax
import numpy as np

from saip_jax.pictures import Panel, decoded, gray, heat, paint, picture


@functools.partial(jax.jit, static_argnums=0)
def _compute(method, params, method_state, batch, key):
  """Returns views, network outputs, and the reconstruction in pixels or None, all on the given batch."""
  views = method.views(batch, key)
  networks, draws = method.networks, views.draws
  out = networks.forward(params, method_state, views)
  if out.reconstruction is None:
    return views, out, None
  seen = draws.restore_ids < draws.keep_ids.shape[1]
  images = paint(networks.enlarged(views), out.reconstruction, seen, networks.backbone.stride)
  return views, out, images | {"scored": draws.scored.reshape(-1, *networks.csr_grid)}


def make_panels(method, params, method_state, batch, key: jax.Array) -> dict[str, Panel]:
  """Returns the panels `views` and, for objectives that are trained, `reconstruction` and `search`, a row per sample.

  Args:
    method: a `saip_jax.methods.saip.method.Saip`.
    params: trained parameters.
    method_state: teacher and center.
    batch: fields of `Saip.batch_spec`.
    key: key of the views and masks.
  """
  views, out, images = jax.device_get(_compute(method, params, method_state, batch, key))
  samples = range(len(views.globals))
  panels = {"views": [_view_row(method, views, batch, i) for i in samples]}
  if images is not None:
    panels["reconstruction"] = [_reconstruction_row(views, images, i) for i in samples]
  if out.inst_logits is not None:
    other = method.config.resolved.scene_second == "other"
    panels["search"] = [_search_row(views, out, i, (i + 1) % len(samples) if other else i) for i in samples]
  return {name: Panel(rows) for name, rows in panels.items()}


def _view_row(method, views, batch, i: int):
  locals_ = views.crops[i, :-1]
  names = ["local"] if len(locals_) == 1 else [f"local {j + 1}" for j in range(len(locals_))]
  return [
    ("image", decoded(batch, i)),
    ("anchor", picture(views.globals[i, 0])),
    ("augmented", picture(views.globals[i, 1])),
    *((name, picture(crop)) for name, crop in zip(names, locals_)),
    ("instance", picture(views.crops[i, -1])),
    *([] if views.scene is None else [("scene", picture(views.scene[i]))]),
  ]


def _reconstruction_row(views, images, i: int):
  return [
    ("anchor", picture(views.globals[i, 0])),
    ("target", picture(images["target"][i])),
    ("seen", picture(images["seen"][i])),
    ("scored", gray(images["scored"][i], images["target"][i].shape[:2])),
    ("reconstruction", picture(images["painted"][i])),
    ("with the seen", picture(images["together"][i])),
  ]


def _search_row(views, out, i: int, roi_of: int):
  """Returns the cells of one scene; its RoI is the one of sample `roi_of`."""
  scene = picture(views.scene[i])
  return [
    ("scene", scene),
    ("find: anchor", picture(views.globals[i, 0])),
    ("where it is", heat(scene, views.inst_mask[i])),
    ("search", heat(scene, _sigmoid(out.inst_logits[i]))),
    ("find: local crop", picture(views.crops[roi_of, -2])),
    ("where it is", heat(scene, views.roi_mask[i])),
    ("search", heat(scene, _sigmoid(out.roi_logits[i]))),
  ]


def _sigmoid(logits: np.ndarray) -> np.ndarray:
  return 0.5 * (1 + np.tanh(0.5 * logits))
