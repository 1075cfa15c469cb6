"""Draws one picture of what SAIP learns, from a run of it on built-in people: docs/pictures/overview.png.

  python scripts/draw_overview.py --workdir=RUN --out=docs/pictures/overview.png [--sample=0] [--people 0 1 2]

The people are of the test split, which the run never saw. The cells are those of the panels that training draws, and
the colors of features those of `saip report`. `--panels` writes the panels of two of the people there too.
docs/pictures/README.md has the commands that made the run.
"""

import argparse
import dataclasses
import io
import pathlib
import sys
from collections.abc import Sequence

import jax
import numpy as np
from PIL import Image

REPO = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from input_pipeline.storage import cache_folder  # noqa: E402
from saip_jax.evaluation.encoders import open_encoder  # noqa: E402
from saip_jax.pictures import Panel, save_panel  # noqa: E402
from saip_jax.pretraining import parts_of  # noqa: E402
from saip_jax.recipes import parse_config  # noqa: E402
from saip_jax.reporting.encoder_pictures import feature_colors  # noqa: E402
from saip_jax.run_folder.files import CHECKPOINTS  # noqa: E402
from saip_jax.run_folder.folder import read_config  # noqa: E402
from saip_jax.run_folder.integrity import newest_to_read  # noqa: E402
from saip_jax.run_folder.reading import read_model  # noqa: E402

SIZE = (1600, 700)  # pixels, width and height
MOST_BYTES = 600_000
CANDIDATES, COLORED = 16, 6
_DPI, _INK, _FAINT = 100, "#1f2933", "#5b6672"
Cell = tuple[str, np.ndarray]


def panels_of(workdir: pathlib.Path) -> tuple[dict[str, Panel], np.ndarray, np.ndarray]:
  """Returns the panels of a run on people that it never saw, images (n, H, W, 3) uint8, and colors of their features.

  Raises:
    ValueError: no run of SAIP with all three objectives.
  """
  config = parse_config(read_config(workdir))
  if config.method.name != "saip":
    raise ValueError(f"{workdir} is a run of {config.method.name}: expected one of saip")
  config = dataclasses.replace(
    config, batch_size=CANDIDATES, accumulate=1, data=dataclasses.replace(config.data, split="test")
  )
  method, open_data, _ = parts_of(config)
  batches = open_data(pathlib.Path(cache_folder())).batches()
  rows = next(batches)
  batches.close()
  batch = {name: rows[name] for name in method.batch_spec(CANDIDATES)}
  params, method_state = read_model(workdir / CHECKPOINTS / str(newest_to_read(workdir)[0]))
  panels = method.panels(params, method_state | method.frozen, batch, jax.random.key(config.seed))
  missing = {"views", "reconstruction", "search"} - panels.keys()
  if missing:
    raise ValueError(f"{workdir} has no panel {', '.join(sorted(missing))}: train with csm, csr and css")
  encoder = open_encoder(str(workdir)).with_cells()
  resized = lambda image: Image.fromarray(image).resize(encoder.image_hw[::-1], Image.Resampling.BICUBIC)
  images = np.stack([resized(row[0][1]) for row in panels["views"].rows])
  return panels, images, feature_colors(encoder.apply(images)[1])[0]


def draw(
  panels: dict[str, Panel], images: np.ndarray, colors: np.ndarray, sample: int, people: Sequence[int] = range(COLORED)
) -> bytes:
  """Returns the PNG.

  Args:
    panels: those of SAIP.
    images: (n, H, W, 3) uint8.
    colors: (n, h, w, 3) uint8, of their features.
    sample: row of the panels to show.
    people: rows of the images to show.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(SIZE[0] / _DPI, SIZE[1] / _DPI), dpi=_DPI, facecolor="white")
  canvas = FigureCanvasAgg(figure)

  def show(x: float, y: float, height: float, cell: Cell, smooth: bool = True) -> float:
    """Draws a cell with its left upper corner at x, y in pixels; returns its right edge."""
    caption, image = cell
    width = height * image.shape[1] / image.shape[0]
    place = (x / SIZE[0], 1 - (y + height) / SIZE[1], width / SIZE[0], height / SIZE[1])
    axes = figure.add_axes(place)
    axes.imshow(image, aspect="auto", interpolation="bicubic" if smooth else "nearest")
    axes.set_axis_off()
    say(x + width / 2, y + height + 14, caption, 11, ha="center")
    return x + width

  def say(x: float, y: float, text: str, size: float, color: str = _INK, **options) -> None:
    figure.text(x / SIZE[0], 1 - y / SIZE[1], text, fontsize=size, color=color, va="center", **options)

  _, (_, anchor), (_, augmented), *locals_, (_, instance), (_, scene) = panels["views"].rows[sample]
  top, tall = 74, 250
  say(24, 28, "1  Match", 15, weight="bold")
  say(24, 52, "Crops of all scales get the same feature as the whole image.", 11, _FAINT)
  x = show(24, top, tall, ("anchor", anchor))
  x = show(x + 10, top, tall, ("other colors", augmented))
  for i, (_, crop) in enumerate(locals_[:4]):
    show(x + 14 + (i % 2) * 70, top + (i // 2) * 128, 102, ("crop", crop))
  show(x + 158, top + tall - 102, 102, ("half size", instance))

  (_, target), (_, seen), _, _, (_, together) = panels["reconstruction"].rows[sample][1:]
  left = 560
  say(left, 28, "2  Reconstruct", 15, weight="bold")
  say(left, 52, "Three of four patches are hidden; the anchor helps.", 11, _FAINT)
  x = show(left, top, tall, ("what it sees", seen))
  x = show(x + 10, top, tall, ("what it fills in", together))
  show(x + 10, top, tall, ("the truth", target))

  _, (_, find), _, (_, found) = panels["search"].rows[sample][:4]
  left = 990
  say(left, 28, "3  Search", 15, weight="bold")
  say(left, 52, "Where in the scene is the person of the anchor? Red: here.", 11, _FAINT)
  x = show(left, top + tall - 140, 140, ("find", find))
  x = show(x + 10, top, tall, ("scene", scene))
  show(x + 10, top, tall, ("found", found), smooth=False)

  say(24, 386, "Features of people that it never saw", 15, weight="bold")
  say(24, 410, "Each image, and the features of its cells: equal colors are equal features.", 11, _FAINT)
  x, high = 24, min(240, ((SIZE[0] - 30) / len(people) - 22) * images.shape[1] / images.shape[2] / 2)
  for i in people:
    x = show(x, 430, high, ("", images[i])) + 4
    x = show(x, 430, high, ("", colors[i]), smooth=False) + 18
  canvas.draw()
  return png(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))


def png(picture: Image.Image) -> bytes:
  """Returns a picture as PNG of 256 colors, a third of the bytes."""
  file = io.BytesIO()
  colors = picture.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
  colors.save(file, "png", optimize=True)
  return file.getvalue()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--workdir", required=True, type=pathlib.Path, help="folder of a run of SAIP")
  parser.add_argument("--out", type=pathlib.Path, default=REPO / "docs" / "pictures" / "overview.png")
  parser.add_argument("--sample", type=int, default=0, help=f"which of {CANDIDATES} people to show above")
  parser.add_argument("--people", type=int, nargs="+", default=range(COLORED), help="those to show below")
  parser.add_argument("--panels", type=pathlib.Path, help="folder for the panels of two of the people")
  args = parser.parse_args()
  if not all(0 <= i < CANDIDATES for i in (args.sample, *args.people)):
    raise ValueError(f"--sample and --people are {args.sample}, {list(args.people)}: expected 0 to {CANDIDATES - 1}")
  panels, images, colors = panels_of(args.workdir)
  data = draw(panels, images, colors, args.sample, args.people)
  if len(data) > MOST_BYTES:
    raise ValueError(f"the picture has {len(data):,} bytes, more than {MOST_BYTES:,}: choose another --sample")
  args.out.write_bytes(data)
  if args.panels:
    for name, panel in panels.items():
      path = args.panels / f"{name}.png"
      save_panel(path, Panel(panel.rows[args.sample :][:2]))
      path.write_bytes(png(Image.open(path)))


if __name__ == "__main__":
  try:
    main()
  except ValueError as error:
    sys.exit(f"draw_overview: error: {error}")
