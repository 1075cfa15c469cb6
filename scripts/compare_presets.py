"""Compares ways of pre-training on the built-in people: prints a Markdown table, mean +- deviation over seeds.

  python scripts/compare_presets.py --out=runs/presets --seeds=3 --config.total_steps=200 \\
      --preset="official=configs/saip_demo.py" \\
      --preset="improved=configs/saip_demo.py --config.method.fidelity=improved"

`saip pretrain` runs each preset from each seed; then frozen features of a set of built-in people are measured. Identity
mAP: retrieval among test identities by `Features.cls`; a query is the first picture of a person by a camera, the others
are the gallery. Keypoint error and PCK@0.1, in crop heights: ridge regression of the 17 joints from `Features.cls` and
`Features.tokens` (mean-pooled to 8x4 cells or fewer), fitted on train identities, measured on the visible joints of
test identities. Beside them: each network at its start, colour histograms of four stripes, and the mean pose. What is
finished is kept in --out: the same command goes on where it stopped. New code needs a new --out.
"""

import argparse
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import shlex
import subprocess
import sys

import jax
import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from input_pipeline.sources.table import open_source  # noqa: E402
from saip_jax.config import apply_overrides, load_recipe, parse_config  # noqa: E402
from saip_jax.evaluation.keypoints import keypoint_scores  # noqa: E402
from saip_jax.evaluation.retrieval import evaluate_retrieval  # noqa: E402
from saip_jax.evaluation.ridge import fit_ridge  # noqa: E402
from saip_jax.evaluation.squash import squashed_batches  # noqa: E402
from saip_jax.interop.weights import LoadedBackbone, Preprocessing, load_backbone  # noqa: E402
from saip_jax.methods import METHODS  # noqa: E402
from saip_jax.training.checkpoint import checkpoint_steps  # noqa: E402
from saip_jax.typed import to_dict  # noqa: E402

BATCH, CELLS_HW, STRIPES, BINS = 64, (8, 4), 4, 8


class People:
  """One split of the built-in people: pictures, identities (n,), cameras (n,), keypoints (n, 17, 3), size (w, h)."""

  def __init__(self, split: str, count: int):
    self.source = open_source("people", None, split=split, cache_dir="", people_count=count)
    facts = [self.source.annotations(i)[0] for i in range(len(self.source))]
    self.identities = np.array([f["people"][0]["identity"] for f in facts])
    self.cameras = np.array([f["camera"] for f in facts])
    self.keypoints = np.array([f["people"][0]["keypoints"] for f in facts])
    self.size = np.array(Image.open(io.BytesIO(self.source.read(0))).size)


def features_of_backbone(backbone: LoadedBackbone, people: People) -> tuple[np.ndarray, np.ndarray]:
  """Returns (n, D) cls, and (n, cells * D) tokens pooled to at most `CELLS_HW`."""

  @jax.jit
  def encode(images_u8):
    with jax.default_matmul_precision("highest"):
      found = backbone.module.apply(backbone.variables, backbone.preprocessing(images_u8), reads=("cls", "tokens"))
    rows, columns = (np.array_split(np.arange(n), min(n, most)) for n, most in zip(found.grid, CELLS_HW))
    grid = found.tokens.reshape(len(images_u8), *found.grid, -1)
    cells = [grid[:, r[0]:r[-1] + 1, c[0]:c[-1] + 1].mean((1, 2)) for r in rows for c in columns]
    return found.cls, jax.numpy.concatenate(cells, axis=1)

  batches = squashed_batches(people.source, backbone.preprocessing.image_hw, BATCH)
  parts = [[np.asarray(a) for a in encode(batch.images_u8)] for batch in batches]
  cls, cells = (np.concatenate(part)[:len(people.source)] for part in zip(*parts))
  return cls, cells


def features_of_colours(image_hw: tuple[int, int], people: People) -> tuple[np.ndarray, np.ndarray]:
  """Returns (n, STRIPES * BINS^3) roots of the joint RGB histograms of horizontal stripes, for both probes."""
  rows = []
  for batch in squashed_batches(people.source, image_hw, BATCH):
    codes = (batch.images_u8.astype(np.int64) * BINS // 256) @ np.array([BINS**2, BINS, 1])
    rows += [np.concatenate([np.bincount(s.reshape(-1), minlength=BINS**3) for s in np.array_split(c, STRIPES)])
             for c in codes]
  found = np.sqrt(np.array(rows[:len(people.source)], np.float32))
  return found, found


def probe_scores(features, train: People, test: People) -> dict[str, float]:
  """Returns the scores of one way to get features.

  Args:
    features: People -> (features of the image, features of places), each (n, width).
    train: whom the keypoint probe is fitted on.
    test: who is measured.
  """
  cls, cells = features(test)
  train_features, test_features = np.concatenate(features(train), 1), np.concatenate((cls, cells), 1)
  scores = {}
  if np.ptp(cls):  # the mean pose has no features to rank by
    query = np.zeros(len(cls), bool)
    query[np.unique(np.stack([test.identities, test.cameras], 1), axis=0, return_index=True)[1]] = True
    sides = [(cls[rows], test.identities[rows] + 1, test.cameras[rows]) for rows in (query, ~query)]
    found = evaluate_retrieval(*sides[0], *sides[1])
    scores |= {"mAP": found.mAP, "mINP": found.mINP, "CMC@1": found.cmc[1], "queries": found.queries}
  targets, known = train.keypoints[..., :2] / train.size, np.repeat(train.keypoints[..., 2] > 0, 2, axis=1)
  probe = fit_ridge(train_features, targets.reshape(len(known), -1), known, groups=train.identities)
  places = probe.predict(test_features).reshape(len(cls), -1, 2) * test.size
  found = keypoint_scores(places, test.keypoints[..., :2], test.keypoints[..., 2] == 2, np.full(len(cls), test.size[1]))
  return scores | {"keypoint error": found.error, "ridge": probe.strength} | {f"PCK@{k}": v for k, v in found.pck.items()}


def digest_of(*values) -> str:
  """Returns a short name of JSON-able values."""
  return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def start_of(config) -> LoadedBackbone:
  """Returns the backbone that a run starts from."""
  method = METHODS[config.method.name].build(dataclasses.replace(config, precision="float32"))
  params = jax.jit(lambda key: method.export_params(*method.init(key), "student"))(jax.random.key(config.seed))
  return LoadedBackbone(method.backbone, params, Preprocessing(config.model.image_hw))


def parse_preset(text: str, common: list[str]) -> tuple[str, str, list[str]]:
  """Returns name, recipe and settings of "NAME=FILE --config.key=value ..."; settings for all presets come first."""
  name, equals, rest = text.partition("=")
  if not (name and equals and rest.strip()):
    raise ValueError(f'--preset="{text}": expected "NAME=FILE --config.key=value ..."')
  file, *settings = shlex.split(rest)
  return name, file, [*common, *settings]


def pretrain(file: str, settings: list[str], workdir: pathlib.Path, total_steps: int) -> None:
  """Runs `saip pretrain` in a process of its own, which gives the device back; it goes on where it stopped."""
  command = [sys.executable, "-m", "saip_jax", "pretrain", f"--config={file}", f"--workdir={workdir}", *settings]
  path = os.pathsep.join(filter(None, [sys.path[0], os.environ.get("PYTHONPATH")]))
  if subprocess.run(command, stdout=sys.stderr, env=os.environ | {"PYTHONPATH": path}).returncode:
    raise ValueError(f"failed: {shlex.join(command)}")
  if checkpoint_steps(workdir)[-1] < total_steps:
    raise ValueError(f"{workdir} was stopped before update {total_steps}; the same command goes on")


def table(rows: dict[str, list[dict]]) -> str:
  """Returns the Markdown table of name -> scores of each seed."""
  columns = {"mAP": "identity mAP, %", "keypoint error": "keypoint error, % of height", "PCK@0.1": "PCK@0.1, %"}
  lines = [f"| preset | {' | '.join(columns.values())} | seeds |", "|---|" + "---:|" * (len(columns) + 1)]
  for name, seeds in rows.items():
    values = [np.array([100 * scores.get(column, np.nan) for scores in seeds]) for column in columns]
    spread = lambda v: f" +- {v.std(ddof=1):.2f}" if len(v) > 1 else ""
    cells = ["" if np.isnan(v).any() else f"{v.mean():.2f}{spread(v)}" for v in values]
    lines.append(f"| {name} | {' | '.join(cells)} | {len(seeds)} |")
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--preset", action="append", required=True, help='"NAME=FILE --config.key=value ..."; repeat it')
  parser.add_argument("--out", required=True, type=pathlib.Path, help="folder for runs and rows")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--people", type=int, default=2048, help="pictures measured, all splits together")
  parser.add_argument("--which", choices=["student", "teacher"], default="student")
  args, common = parser.parse_known_args()
  presets = [parse_preset(text, common) for text in args.preset]
  train, test = People("train", args.people), People("test", args.people)
  rows: dict[str, list[dict]] = {}

  def add(name: str, seed: int, key: str, features) -> None:
    file = args.out / "rows" / f"{digest_of(name, seed, key, test.source.identity)}.json"
    if not file.exists():
      print(f"measuring {name}, seed {seed}", file=sys.stderr, flush=True)
      row = {"row": name, "seed": seed, "of": key, "scores": probe_scores(features(), train, test)}
      file.parent.mkdir(parents=True, exist_ok=True)
      file.with_suffix(".part").write_text(json.dumps(row, indent=2))
      os.replace(file.with_suffix(".part"), file)
    rows.setdefault(name, []).append(json.loads(file.read_text())["scores"])

  runs = []
  for name, file, settings in presets:
    for seed in range(args.seeds):
      of_seed = [*settings, f"--config.seed={seed}"]
      config = parse_config(apply_overrides(load_recipe(file), of_seed))
      workdir = args.out / f"{name}_seed{seed}_{digest_of(to_dict(config))}"
      runs.append((name, config, workdir, lambda f=file, s=of_seed, w=workdir, c=config: pretrain(f, s, w, c.total_steps)))
  for *_, train_run in runs:  # all before this process takes the device
    train_run()
  for name, config, workdir, _ in runs:
    features = lambda: lambda people, b=load_backbone(workdir, args.which): features_of_backbone(b, people)
    add(name, config.seed, f"{workdir.name}/{args.which}", features)
  for name, config, _, _ in runs:
    start = start_of(config)
    add(f"{name}, no pre-training", config.seed, "start", lambda: lambda people: features_of_backbone(start, people))
  for height, width in sorted({config.model.image_hw for _, config, _, _ in runs}):
    add(f"colour histogram {height}x{width}", 0, "colours", lambda: lambda p: features_of_colours((height, width), p))
  add("mean pose", 0, "mean", lambda: lambda people: (np.zeros((len(people.source), 1)),) * 2)
  print(table(rows))


if __name__ == "__main__":
  try:
    main()
  except ValueError as error:
    sys.exit(f"compare_presets: error: {error}")
