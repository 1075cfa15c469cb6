"""Measures the value of a second image for CroCo-Human on the built-in people, and writes a page of the records.

  python scripts/compare_pairs.py --work=runs/pairs --out=results/pairs --seeds=3

Arms: no second image (MAE on the same images), pairs of other views, of other poses, and both, of equally many images.
Scores on people never trained on: the error of hidden patches, of all and of those of the person, with the true second
image and with that of another person; and the error of 3-D joints that a linear layer reads from the frozen encoder.
Every record is a file in --out; what exists is not run again. The page is written beside the folder.
"""

import argparse
import dataclasses
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from bench_methods import stated  # extends sys.path
from compare_presets import Run, initial_backbone, plan_runs, pretrain

from input_pipeline.pipeline import build_train_data
from input_pipeline.settings import PAIR_KINDS, DataConfig, PairsConfig
from input_pipeline.storage import cache_folder
from saip_jax.evaluation.encoders import encoder_of, open_encoder
from saip_jax.evaluation.evaluate import measure
from saip_jax.evaluation.splits import Data
from saip_jax.interop.weights import open_weights
from saip_jax.losses.reconstruction import masked_mse
from saip_jax.masking.foreground import patch_shares
from saip_jax.methods import METHODS

COMPOSITIONS = dict(zip(PAIR_KINDS, ("views", "clips")))  # the composition with pairs of each kind
BATCH = 64


def arms(people: int) -> dict[str, str]:
  """Returns the settings of each arm, with `people` images in total."""

  def mixture(first: str, second: str, count: int) -> str:
    parts = {"views": first, "clips": second}  # names in the demo
    return " ".join(
      f"--config.data.mixture.{name}.people_composition={shown} --config.data.mixture.{name}.people_count={count}"
      for name, shown in parts.items()
    )

  both = mixture("views", "clips", people // 2)
  return {
    "none": f"{both} --config.method.second_image=False",
    **{kind: mixture(shown, shown, people) for kind, shown in COMPOSITIONS.items()},
    "both": both,
  }


def held_out_pairs(kind: str, config, people: int, batches: int) -> list[dict[str, np.ndarray]]:
  """Returns batches of pairs of one kind, with silhouettes, of people never trained on."""
  settings = DataConfig(
    source="people",
    split="test",
    canvas_hw=config.data.canvas_hw,
    people_count=people,
    people_composition=COMPOSITIONS[kind],
    pairs=PairsConfig(kinds=(kind,)),
    threads=2,
    max_damaged_fraction=0.0,
  )
  fields = ("image", "image_hw", "index", "partner", "partner_hw", "pair_type", "foreground", "has_foreground")
  data = build_train_data(settings, fields=fields, batch_size=BATCH, seed=0, cache_dir=cache_folder())
  found = data.batches()
  try:
    return [next(found) for _ in range(batches)]
  finally:
    found.close()


def errors(run: Run, pairs: dict[str, list[dict[str, np.ndarray]]]) -> dict[str, float]:
  """Returns the mean squared errors of hidden patches of uncropped images: "view all true", "view all other", ..."""
  whole = dataclasses.replace(run.config.method, crop_area=(1.0, 1.0), jitter=(0.0, 0.0, 0.0))
  method = METHODS["croco_human"].build(dataclasses.replace(run.config, precision="float32", method=whole))
  params = open_weights(run.workdir).student
  cell = run.config.data.canvas_hw[0] // method.autoencoder.grid[0]  # canvas pixels per patch

  @jax.jit
  def measured(params, batch):
    views = method.views(batch, jax.random.key(0))
    draws = views.masks
    of_person = jax.vmap(lambda mask: patch_shares(mask.astype(jnp.float32), cell) > 0.5)(batch["foreground"])
    counted = {"all": ~draws.seen, "person": ~draws.seen & of_person}
    partners = {"true": views.partners, "other": jnp.roll(views.partners, 1, axis=0)}
    outs = {
      name: method.autoencoder.forward(params["backbone"], params["mae"], views.replace(partners=p))
      for name, p in partners.items()
    }
    return {
      f"{what} {partner}": masked_mse(out.prediction, out.target, patches.astype(jnp.float32))
      for what, patches in counted.items()
      for partner, out in outs.items()
    }

  found = {kind: [jax.device_get(measured(params, batch)) for batch in batches] for kind, batches in pairs.items()}
  return {
    f"{kind} {name}": float(np.mean([scores[name] for scores in batches]))
    for kind, batches in found.items()
    for name in batches[0]
  }


def table(rows: dict[str, list[dict[str, float]]]) -> str:
  """Returns Markdown from arm -> scores of each seed."""
  shown = [f"{kind} {what}" for kind in PAIR_KINDS for what in ("all", "person")]
  titles = [f"{name}: error, more with another" for name in shown]
  spread = lambda v, form: f"{v.mean():{form}}" + (f" +- {v.std(ddof=1):{form.strip('+')}}" if len(v) > 1 else "")
  lines = [f"| second image | {' | '.join(titles)} | MPJPE, mm | seeds |", "|---|" + "---:|" * (len(shown) + 2)]
  for arm, seeds in rows.items():
    column = lambda name: np.array([scores[name] for scores in seeds])
    cells = [
      f"{spread(column(f'{name} true'), '.3f')}, {spread(column(f'{name} other') - column(f'{name} true'), '+.4f')}"
      if f"{name} true" in seeds[0]
      else ""
      for name in shown
    ]
    lines.append(f"| {arm} | {' | '.join(cells)} | {spread(column('MPJPE_mm'), '.1f')} | {len(seeds)} |")
  return "\n".join(lines)


def page(rows: dict[str, list[dict[str, float]]], recipe: str, updates: int) -> str:
  """Returns the page, from row -> scores of each seed."""
  parts = [
    "# What a second image is worth",
    "Made by `scripts/compare_pairs.py`; no figure is typed. Mean squared error of hidden patches of people never"
    " trained on, of all patches and of those of the person; `more with another` is how much the second image of"
    " another person adds to it. Pairs of views are one instant by two cameras, pairs of poses two instants by one."
    f" `{recipe}`, {updates:,} updates. Cells: mean +- deviation over seeds.",
    table(rows),
  ]
  return "\n\n".join(parts) + "\n"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--work", required=True, type=pathlib.Path, help="folder of the runs")
  parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the records")
  parser.add_argument("--recipe", default="croco_human_nano")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--people", type=int, default=4096, help="images of the training set, all splits")
  parser.add_argument("--probed", type=int, default=2048, help="images of the set for joints, all splits")
  parser.add_argument("--batches", type=int, default=8, help=f"batches of {BATCH} held-out pairs, of each kind")
  args, common = parser.parse_known_args()
  runs = [
    run
    for arm, settings in arms(args.people).items()
    for run in plan_runs(f"{arm}={args.recipe} {settings}", common, args.seeds, args.work)
  ]
  for run in runs:  # before this process takes the device
    pretrain(run)

  pairs = {kind: held_out_pairs(kind, runs[0].config, args.people, args.batches) for kind in PAIR_KINDS}
  data = Data.parse("people", cache_dir=cache_folder(), people_count=args.probed)
  joints = lambda encoder: measure(encoder, "joints3d", data)["scores"]
  rows: dict[str, list[dict[str, float]]] = {}

  def add(row: str, name: str, scores, run: Run | None = None) -> None:
    facts = {"row": row, "people": args.people, "probed": args.probed, "batches": args.batches}
    facts |= {"recipe": run.recipe, "settings": run.settings} if run else {}
    record = stated(args.out / f"{name}.json", facts, lambda: {"scores": scores()})
    rows.setdefault(row, []).append(record["scores"])

  for run in runs:
    add(run.preset, run.workdir.name, lambda: errors(run, pairs) | joints(open_encoder(str(run.workdir))), run)
  for run in runs[-args.seeds :]:
    add("no pre-training", f"{run.workdir.name}_start", lambda: joints(encoder_of(initial_backbone(run), {})), run)
  add("mean pose", "constant", lambda: joints(open_encoder("constant", image_hw=runs[0].config.model.image_hw)))
  args.out.with_suffix(".md").write_text(page(rows, args.recipe, runs[0].config.total_steps))


if __name__ == "__main__":
  try:
    main()
  except ValueError as error:
    sys.exit(f"compare_pairs: error: {error}")
