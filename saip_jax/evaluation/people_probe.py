"""What frozen features tell of the built-in people: who they are, and where their joints lie."""

import io
from typing import Callable

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from input_pipeline.sources.table import open_source
from saip_jax.evaluation.keypoints import keypoint_scores
from saip_jax.evaluation.retrieval import evaluate_retrieval
from saip_jax.evaluation.ridge import fit_ridge
from saip_jax.evaluation.squash import squashed_batches
from saip_jax.interop.weights import LoadedBackbone

_BATCH = 64
_MOST_CELLS = (8, 4)  # rows and columns that tokens are pooled to: enough to place a joint, few enough for a ridge
_STRIPES, _BINS = 4, 8


class People:
  """One split of the default set of built-in people, with its labels.

  Args:
    split: "train", "val" or "test".
    count: pictures of the set, all splits together; rendered on first use.

  Attributes:
    source: the pictures.
    identities: (n,) int, from 0.
    cameras: (n,) int.
    keypoints: (n, 17, 3) x, y in pixels and COCO's v.
    size: (2,) width and height of every picture in pixels.
  """

  def __init__(self, split: str, count: int):
    self.source = open_source("people", None, split=split, cache_dir="", people_count=count)
    facts = [self.source.annotations(i)[0] for i in range(len(self.source))]
    self.identities = np.array([f["people"][0]["identity"] for f in facts])
    self.cameras = np.array([f["camera"] for f in facts])
    self.keypoints = np.array([f["people"][0]["keypoints"] for f in facts])
    self.size = np.array(Image.open(io.BytesIO(self.source.read(0))).size)


Extract = Callable[[People], tuple[np.ndarray, np.ndarray]]
"""A way to get features: people -> (n, D) of whole images, to tell persons apart, and (n, E) of places in them."""


def backbone_features(backbone: LoadedBackbone) -> Extract:
  """Features of a network: `cls`, and `tokens` averaged over 8x4 cells, or as they are on a smaller grid."""

  @jax.jit
  def encode(variables, images_u8):
    with jax.default_matmul_precision("highest"):
      found = backbone.module.apply(variables, backbone.preprocessing(images_u8), reads=("cls", "tokens"))
    rows, columns = (np.array_split(np.arange(n), min(n, most)) for n, most in zip(found.grid, _MOST_CELLS))
    grid = found.tokens.reshape(len(images_u8), *found.grid, -1)
    cells = [grid[:, r[0]:r[-1] + 1, c[0]:c[-1] + 1].mean((1, 2)) for r in rows for c in columns]
    return found.cls, jnp.concatenate(cells, axis=1)

  def extract(people: People) -> tuple[np.ndarray, np.ndarray]:
    batches = squashed_batches(people.source, backbone.preprocessing.image_hw, _BATCH)
    parts = [[np.asarray(a) for a in encode(backbone.variables, batch.images_u8)] for batch in batches]
    cls, cells = (np.concatenate(part)[:len(people.source)] for part in zip(*parts))
    return cls, cells

  return extract


def colour_features(image_hw: tuple[int, int]) -> Extract:
  """Features without a network: roots of the joint RGB histograms, 8 bins a channel, of four horizontal stripes."""

  def extract(people: People) -> tuple[np.ndarray, np.ndarray]:
    rows = []
    for batch in squashed_batches(people.source, image_hw, _BATCH):
      codes = (batch.images_u8.astype(np.int64) * _BINS // 256) @ np.array([_BINS**2, _BINS, 1])  # (B, H, W)
      rows += [np.concatenate([np.bincount(stripe.reshape(-1), minlength=_BINS**3)
                               for stripe in np.array_split(image, _STRIPES)]) for image in codes]
    found = np.sqrt(np.array(rows[:len(people.source)], np.float32))
    return found, found

  return extract


def no_features(people: People) -> tuple[np.ndarray, np.ndarray]:
  """The same for every picture: a probe predicts the mean pose, and nobody can be told apart."""
  return (np.zeros((len(people.source), 1)),) * 2


def probe_people(extract: Extract, train: People, test: People) -> dict[str, float]:
  """Measures features by two protocols without a parameter to tune.

  Retrieval among the people of `test`: a query is the first picture of a person by a camera, the gallery all others, as
  in `saip prepare people --export=market1501`. Keypoints: ridge regression from both kinds of features together, fitted
  on all joints inside the pictures of `train`, its strength chosen on a fifth of these people; measured on the visible
  joints of `test`, distances in heights of the picture.

  Args:
    extract: the features.
    train: whom the keypoint probe is fitted on.
    test: other people.

  Returns:
    "mAP", "mINP", "CMC@1", "queries", "keypoint_error", "PCK@0.05", "PCK@0.1", "ridge_strength"; 0 to 1.
  """
  cls, cells = extract(test)
  query = np.zeros(len(cls), bool)
  query[np.unique(np.stack([test.identities, test.cameras], 1), axis=0, return_index=True)[1]] = True
  of = lambda rows: (cls[rows], test.identities[rows] + 1, test.cameras[rows])  # 0 would be a distractor
  found = evaluate_retrieval(*of(query), *of(~query))

  targets = train.keypoints[..., :2] / train.size
  known = np.repeat(train.keypoints[..., 2] > 0, 2, axis=1)
  probe = fit_ridge(np.concatenate(extract(train), 1), targets.reshape(known.shape), known, train.identities)
  places = probe.predict(np.concatenate((cls, cells), 1)).reshape(len(cls), -1, 2) * test.size
  joints = keypoint_scores(
      places, test.keypoints[..., :2], test.keypoints[..., 2] == 2, np.full(len(cls), test.size[1]))
  return {
      "mAP": found.mAP, "mINP": found.mINP, "CMC@1": found.cmc[1], "queries": found.queries,
      "keypoint_error": joints.error, "PCK@0.05": joints.pck[0.05], "PCK@0.1": joints.pck[0.1],
      "ridge_strength": probe.strength,
  }
