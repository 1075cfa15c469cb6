"""Measures the built-in people: how fast they are rendered, how large they are, how hard re-identification is.

    python scripts/bench_people.py                   # renders 2,000 crops of 250 identities
    python scripts/bench_people.py --path=DIR        # a set made by `saip prepare people --out=DIR --count=10000`

Hardness is the retrieval of test identities across cameras by color alone (mAP, as defined by Market-1501): histograms
of horizontal bands, compared directly and after the linear map that best separates the training identities. One
process, no jax. The last line is JSON.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from input_pipeline.people.compositions import render_picture
from input_pipeline.people.dataset import PeopleSource
from input_pipeline.people.prepare import prepare_people
from input_pipeline.people.records import encode_picture
from input_pipeline.people.spec import SetSpec
from input_pipeline.records import decode_record

BANDS, BINS = 6, 8


def measure_rendering(spec: SetSpec, seconds: float) -> float:
  """Returns images per second of this core: rendered, labeled and encoded."""
  render_picture(spec, 0)
  done, start = 0, time.perf_counter()
  while time.perf_counter() - start < seconds:
    encode_picture(render_picture(spec, done))
    done += 1
  return done / (time.perf_counter() - start)


def measure_sizes(path: pathlib.Path) -> dict[str, int]:
  """Returns the mean bytes per image on disk, in total and by file; the annotations are the rest."""
  source = PeopleSource(path)
  numbers = np.linspace(0, len(source) - 1, min(len(source), 500)).astype(int)
  files = [decode_record(source.record_bytes(i))[1] for i in numbers]
  parts = {name: round(np.mean([len(file[name]) for file in files])) for name in files[0]}
  return parts | {"in_all": round(sum(file.stat().st_size for file in path.iterdir()) / len(source))}


def color_histograms(source: PeopleSource) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the roots of each band's histograms of hue, chroma and value (N, D); identities (N,); cameras (N,)."""
  features, identities, cameras = [], [], []
  for i in range(len(source)):
    annotations, files = decode_record(source.record_bytes(i))
    image = cv2.imdecode(np.frombuffer(files["image.jpg"], np.uint8), cv2.IMREAD_COLOR)
    bands = np.array_split(
      cv2.cvtColor(cv2.resize(image, (48, 96), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2HSV), BANDS
    )
    counts = [np.histogram(band[..., c], BINS, (0, 181 if c == 0 else 256))[0] for band in bands for c in range(3)]
    features.append(np.sqrt(np.concatenate(counts)))
    identities.append(annotations["people"][0]["identity"])
    cameras.append(annotations["camera"])
  return np.array(features), np.array(identities), np.array(cameras)


def learn_linear_map(features: np.ndarray, identities: np.ndarray) -> np.ndarray:
  """Returns the map of linear discriminant analysis, which whitens the variation within an identity."""
  means = {k: features[identities == k].mean(0) for k in np.unique(identities)}
  within = features - np.array([means[k] for k in identities])
  values, vectors = np.linalg.eigh(np.cov(within.T) + 1e-2 * np.eye(features.shape[1]))
  return vectors / np.sqrt(values)


def mean_average_precision(features: np.ndarray, identities: np.ndarray, cameras: np.ndarray) -> float:
  """Returns the mAP: each image is a query among the images of other cameras, by cosine."""
  features = features / np.linalg.norm(features, axis=1, keepdims=True)
  precisions = []
  for query, row in enumerate(features @ features.T):
    valid = (identities != identities[query]) | (cameras != cameras[query])
    hits = (identities == identities[query])[valid][np.argsort(-row[valid], kind="stable")]
    if hits.any():
      precisions.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
  return float(np.mean(precisions))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--path", help="a prepared set of crops")
  parser.add_argument("--seconds", type=float, default=10.0, help="length of each timing (10)")
  options = parser.parse_args()
  figures = {
    "crops_per_second": measure_rendering(SetSpec("crops", (256, 128), 0, 250), options.seconds),
    "scenes_per_second": measure_rendering(SetSpec("scenes", (480, 640), 0, 120), options.seconds),
  }
  with tempfile.TemporaryDirectory() as folder:
    path = (
      pathlib.Path(options.path)
      if options.path
      else prepare_people(pathlib.Path(folder) / "people", SetSpec("crops", (256, 128), 0, 250), 2000)
    )
    figures["bytes_per_picture"] = measure_sizes(path)
    train, test = (color_histograms(PeopleSource(path, split)) for split in ("train", "test"))
  figures["test_identities"] = len(np.unique(test[1]))
  figures["map_histogram"] = mean_average_precision(*test)
  figures["map_histogram_linear"] = mean_average_precision(
    (test[0] - train[0].mean(0)) @ learn_linear_map(*train[:2]), *test[1:]
  )
  print(json.dumps(figures))


if __name__ == "__main__":
  main()
