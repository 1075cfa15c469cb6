"""Writes the drawings of the documentation as SVG: `python scripts/draw_docs.py [FOLDER]`, docs/drawings by default."""

import argparse
import pathlib

from drawings_of_methods import DRAWINGS as METHODS
from svg_canvas import FAINT, WIDTH, Canvas

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "docs" / "drawings"
FLOORS = (  # of the house, from the roof down; a package imports from its own floor or from below
  ("the commands", ("cli", "commands", "dry_run")),
  ("a whole run; its page", ("pretraining", "reporting")),
  ("measuring; replaying", ("evaluation", "replay")),
  ("recipes; starting a run", ("recipes", "running", "initial")),
  ("methods; ahead of time", ("methods", "aot")),
  ("the loop; PyTorch weights", ("training", "interop")),
  ("decoders; panels", ("heads", "pictures")),
  ("encoders; disk; settings", ("backbones", "run_folder", "config")),
  ("pure functions", ("losses", "views", "masking")),
  ("data in numpy, no JAX", ("input_pipeline",)),
)


def data_flow() -> Canvas:
  c = Canvas(560, "How an image gets from a data set into the training step")
  rows = (
    ("Source", "data", "folder, tar, LMDB, ArrayRecord, built-in people: encoded bytes by position"),
    ("Order", "data", "shuffle and repeat, from the seed alone: the same for any number of hosts"),
    ("Decode", "data", "on the host, into a canvas of uint8 pixels; damaged images are replaced and listed"),
    ("Batch", "data", "each host takes its rows; a bounded number wait"),
    ("Views", "student", "on the accelerator, in the step: crops, colors, blur, scenes, masks"),
    ("Step", "student", "losses, gradients, optimizer, teacher"),
    ("Records", "loss", "metrics one step late, panels, checkpoints"),
  )
  for i, (name, kind, _) in enumerate(rows):
    y = 24 + 76 * i
    c.box(24, y, 110, 50, name, kind)
    if i + 1 < len(rows):
      c.arrow((79, y + 50), (79, y + 74))
  for i, (_, _, text) in enumerate(rows):
    lines = _wrapped(text, 54)
    c.text(152, 49 + 76 * i - 9.5 * (len(lines) - 1), "\n".join(lines), anchor="start")
  c.rect(8, 319, WIDTH - 16, 140, "none", "#2f669f", dashed=True)
  c.text(584, 446, "one compiled program", anchor="end", color=FAINT)
  return c


def _wrapped(text: str, columns: int) -> list[str]:
  lines = [""]
  for word in text.split():
    if lines[-1] and len(lines[-1]) + 1 + len(word) > columns:
      lines.append("")
    lines[-1] = f"{lines[-1]} {word}".strip()
  return lines


def step() -> Canvas:
  c = Canvas(600, "One update: views, student and teacher, losses, optimizer, moving averages")
  c.box(24, 24, 250, 52, "Batch\nuint8 images, their indices", "data")
  c.box(326, 24, 250, 52, "Key\nseed, micro-step, index", "data")
  c.arrow((149, 76), (149, 104))
  c.arrow((451, 76), (451, 104))
  c.box(24, 106, 552, 52, "method.views\ncrops, colors, scenes, masks: a function of the key", "head")
  c.arrow((149, 158), (149, 186), kind="student")
  c.arrow((451, 158), (451, 186), kind="teacher")
  c.box(24, 188, 250, 52, "Student\nencoder and heads, trained", "student")
  c.box(326, 188, 250, 52, "Teacher\nno gradient flows here", "teacher")
  c.arrow((149, 240), (149, 268), kind="student")
  c.arrow((451, 240), (451, 268), kind="teacher")
  c.box(24, 270, 552, 52, "method.objectives\nweighted sum of the losses; each is logged unweighted", "loss")
  c.arrow((149, 322), (149, 366), kind="student")
  c.text(160, 344, "gradients, mean of the micro-steps", anchor="start")
  c.box(24, 368, 250, 52, "Optimizer\ngroups of parameters", "student")
  c.arrow((149, 420), (149, 448), kind="student")
  c.box(24, 450, 250, 52, "New parameters\nof the student", "student")
  c.box(326, 450, 250, 52, "method.after_update\nteacher, center, banks", "teacher")
  c.arrow((274, 476), (324, 476))
  c.arrow((451, 322), (451, 448), dashed=True)
  c.text(462, 384, "batch means", anchor="start")
  c.arrow((451, 502), (451, 530), kind="teacher", head=False)
  c.arrow((149, 502), (149, 530), kind="student", head=False)
  c.box(24, 530, 552, 46, "State, saved as a whole", "data", 16)
  return c


def house() -> Canvas:
  pitch = 52
  c = Canvas(40 + pitch * len(FLOORS), "The packages of saip_jax in floors: imports point down")
  c.text(24, 20, "Imports point down, or stay on a floor.", anchor="start", color=FAINT)
  kinds = ("head", "head", "head", "data", "student", "student", "teacher", "teacher", "loss", "data")
  for i, ((what, rooms), kind) in enumerate(zip(FLOORS, kinds)):
    y, gap = 38 + pitch * i, 6
    width = (360 - gap * (len(rooms) - 1)) / len(rooms)
    for k, room in enumerate(rooms):
      c.box(24 + k * (width + gap), y, width, 40, room, kind, 16)
    c.text(396, y + 20, what, anchor="start")
  return c


DRAWINGS = {f.__name__: f for f in (data_flow, step, house)} | METHODS


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder", nargs="?", type=pathlib.Path, default=FOLDER, help="where the files go")
  folder = parser.parse_args().folder
  folder.mkdir(parents=True, exist_ok=True)
  for name, draw in DRAWINGS.items():
    (folder / f"{name}.svg").write_text(draw().svg(), "utf-8")


if __name__ == "__main__":
  main()
