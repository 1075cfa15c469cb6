"""The drawings of the documentation: made by the script, up to date, readable, and true to the packages."""

import importlib.util
import itertools
import pathlib
import runpy
import sys
import types
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import ImageFont

REPO = pathlib.Path(__file__).resolve().parents[2]
FOLDER = REPO / "docs" / "drawings"
_SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def script():
  sys.path.insert(0, str(REPO / "scripts"))
  try:
    return types.SimpleNamespace(**runpy.run_path(str(REPO / "scripts" / "draw_docs.py")))
  finally:
    sys.path.remove(str(REPO / "scripts"))


@pytest.fixture(scope="module")
def font():
  """DejaVu Sans, the widest of the fonts that the drawings name; matplotlib brings it."""
  folder = pathlib.Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data" / "fonts" / "ttf"
  return lambda size, bold: ImageFont.truetype(folder / f"DejaVuSans{'-Bold' * bold}.ttf", size)


def _texts(svg: str, font):
  """Returns (text, left, top, right, bottom) of every line of text."""
  for element in ElementTree.fromstring(svg).iter(f"{_SVG}text"):
    size, x, y = (float(element.get(name)) for name in ("font-size", "x", "y"))
    width = font(100, element.get("font-weight") is not None).getlength(element.text) * size / 100
    left = x - width * {"start": 0, "middle": 0.5, "end": 1}[element.get("text-anchor")]
    yield element.text, left, y - 0.75 * size, left + width, y + 0.2 * size


def test_the_files_are_those_that_the_script_writes(script):
  assert {path.name for path in FOLDER.iterdir()} == {f"{name}.svg" for name in script.DRAWINGS}
  for name, draw in script.DRAWINGS.items():
    path = FOLDER / f"{name}.svg"
    assert path.read_text("utf-8") == draw().svg(), f"{path} is not up to date: run python scripts/draw_docs.py"


def test_no_text_leaves_the_drawing_or_meets_another(script, font):
  for name, draw in script.DRAWINGS.items():
    canvas = draw()
    texts = list(_texts(canvas.svg(), font))
    for text, left, top, right, bottom in texts:
      assert left > 4 and right < script.WIDTH - 4 and top > 2 and bottom < canvas.height - 2, f"{name}: {text!r}"
    for (one, *a), (other, *b) in itertools.combinations(texts, 2):
      apart = a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
      assert apart, f"{name}: {one!r} and {other!r} overlap"


def test_text_stays_in_its_box(script, font):
  """Text whose middle is inside a box with round corners is inside it as a whole."""
  count = 0
  for name, draw in script.DRAWINGS.items():
    svg = draw().svg()
    frame, *rects = (r for r in ElementTree.fromstring(svg).iter(f"{_SVG}rect") if r.get("rx"))
    for text, left, top, right, bottom in _texts(svg, font):
      for rect in rects:
        x, y, width, height = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        if x < (left + right) / 2 < x + width and y < (top + bottom) / 2 < y + height:
          count += 1
          assert x + 4 < left and right < x + width - 4 and y < top and bottom < y + height, f"{name}: {text!r}"
  assert count > 100


def test_the_house_is_the_one_that_stands(script):
  """Every import between packages goes to the same floor or down; every package of more than one file is drawn."""
  sys.path.insert(0, str(REPO / "scripts"))
  import count_structure

  sys.path.remove(str(REPO / "scripts"))
  known = count_structure.modules(REPO)
  rooms = count_structure.rooms(
    {name: count_structure.imports_of(path, known) - {name} for name, path in known.items()}
  )
  floor = {room: i for i, (_, row) in enumerate(script.FLOORS) for room in row}
  short = lambda room: room.removeprefix("saip_jax.")
  drawn = {
    (short(a), short(b)) for a, targets in rooms.items() for b in targets if {short(a), short(b)} <= floor.keys()
  }
  assert len(drawn) > 60
  assert [(a, b) for a, b in drawn if floor[a] > floor[b]] == []
  packages = {path.parent.name for path in (REPO / "saip_jax").glob("*/__init__.py")}
  assert packages <= floor.keys() and floor.keys() - packages <= {short(room) for room in rooms}
