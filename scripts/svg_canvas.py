"""A canvas for the drawings of scripts/draw_docs.py: boxes, arrows, and small pictures of persons, as plain SVG.

A drawing is 600 units wide and its text at least 15 high, so that it can be read at 400 pixels too. It has a light
background of its own, for pages in the dark.
"""

import html
from collections.abc import Collection, Sequence

WIDTH, TEXT, SMALL = 600, 17, 15
FONT = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, 'DejaVu Sans', sans-serif"
INK, FAINT, PAPER = "#1f2933", "#5b6672", "#fcfcfa"
COLORS = {  # kind -> fill, line
  "data": ("#eceff1", "#6b7780"),
  "student": ("#dbe8f8", "#2f669f"),
  "teacher": ("#fde8d0", "#a85d12"),
  "expert": ("#ece2f6", "#6b459c"),
  "head": ("#fdf6cf", "#8a7410"),
  "loss": ("#dff1df", "#2f7434"),
}
_LINE_HEIGHT = 1.25
_SKIN, _SHIRT, _TROUSERS, _WALL, _FLOOR = "#c98f66", "#b5483a", "#34507a", "#cfe0d8", "#a9bfa9"
_PERSON = (  # in a field of 50 x 100
  '<rect width="50" height="72" fill="{wall}"/><rect y="72" width="50" height="28" fill="{floor}"/>'
  '<g stroke-linecap="round" fill="none"><path d="M21 56 L18 92 M29 56 L33 92" stroke="{trousers}" stroke-width="7"/>'
  '<path d="M19 30 L12 52 M31 30 L39 50" stroke="{shirt}" stroke-width="5"/>'
  '<path d="M25 31 L25 53" stroke="{shirt}" stroke-width="15"/></g>'
  '<circle cx="25" cy="15" r="7.5" fill="{skin}"/>'
)
_JOINTS = ((25, 15), (25, 26), (18, 29), (32, 29), (14, 40), (36, 40), (12, 52), (39, 50), (21, 55), (29, 55), (19, 74))
_JOINTS += ((31, 74), (18, 92), (33, 92))
_BONES = ((0, 1), (1, 2), (1, 3), (2, 4), (4, 6), (3, 5), (5, 7), (1, 8), (1, 9), (8, 10), (10, 12), (9, 11), (11, 13))
_LOOKS = {  # of a picture of a person
  "rgb": (_WALL, _FLOOR, _TROUSERS, _SHIRT, _SKIN),
  "colors": ("#d9d0ea", "#b9aed0", "#2f5d50", "#7c3fa0", "#b98a70"),
  "depth": ("#1d1d1d", "#3c3c3c", "#b4b4b4", "#d6d6d6", "#c6c6c6"),
  "other": ("#cfe0d8", "#a9bfa9", "#5a4632", "#e0a526", "#8a5a3c"),
}


def _n(value: float) -> str:
  return f"{value:.1f}".rstrip("0").rstrip(".")


class Canvas:
  """A drawing that grows by calls; `svg` returns it.

  Args:
    height: units.
    title: what it shows, for readers that do not see it.
  """

  def __init__(self, height: float, title: str):
    self.height, self._parts = height, []
    self._title = title

  def svg(self) -> str:
    """Returns the file."""
    arrowheads = "".join(
      f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
      f'orient="auto-start-reverse"><path d="M0 0.5 L10 5 L0 9.5 z" fill="{color}"/></marker>'
      for name, color in (("head", INK), *((f"head-{kind}", line) for kind, (_, line) in COLORS.items()))
    )
    start = (
      f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_n(self.height)}" width="{WIDTH}" '
      f'height="{_n(self.height)}" role="img" font-family="{FONT}" fill="{INK}">'
    )
    frame = f'<rect x="1" y="1" width="{WIDTH - 2}" height="{_n(self.height - 2)}" rx="10" fill="{PAPER}" '
    return "\n".join(
      [start, f"<title>{html.escape(self._title)}</title>", f"<defs>{arrowheads}</defs>"]
      + [frame + 'stroke="#d5d9d6"/>', *self._parts, "</svg>", ""]
    )

  def text(self, x: float, y: float, text: str, size: float = SMALL, anchor: str = "middle", bold=False, color=INK):
    """Draws lines of text, the first with its middle at y."""
    weight = ' font-weight="600"' if bold else ""
    for i, line in enumerate(text.split("\n")):
      at = y + i * size * _LINE_HEIGHT + 0.35 * size
      self._parts.append(
        f'<text x="{_n(x)}" y="{_n(at)}" font-size="{_n(size)}" text-anchor="{anchor}"{weight} '
        f'fill="{color}">{html.escape(line, quote=False)}</text>'
      )

  def box(self, x: float, y: float, width: float, height: float, text: str, kind: str, size: float = TEXT):
    """Draws a box with lines of text, the first bold if there are several."""
    fill, line = COLORS[kind]
    self._parts.append(
      f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="7" fill="{fill}" stroke="{line}" '
      'stroke-width="1.5"/>'
    )
    lines = text.split("\n")
    sizes = [size] + [SMALL] * (len(lines) - 1)
    at = y + height / 2 - sum(s * _LINE_HEIGHT for s in sizes) / 2
    for i, (each, line_size) in enumerate(zip(lines, sizes)):
      self.text(x + width / 2, at + line_size * _LINE_HEIGHT / 2, each, line_size, bold=i == 0)
      at += line_size * _LINE_HEIGHT

  def arrow(self, *points: tuple[float, float], kind: str | None = None, dashed=False, head=True):
    """Draws a line through points, with a head at its end."""
    path = "M" + " L".join(f"{_n(x)} {_n(y)}" for x, y in points)
    color = COLORS[kind][1] if kind else INK
    marker = f' marker-end="url(#head{"-" + kind if kind else ""})"' if head else ""
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    self._parts.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.8"{dash}{marker}/>')

  def person(
    self,
    x: float,
    y: float,
    height: float,
    part: Sequence[float] = (0, 0, 50, 100),
    look: str = "rgb",
    width: float | None = None,
    mirrored=False,
  ):
    """Draws a picture of a person, half as wide as high unless a width is given.

    Args:
      part: left, top, width, height of the shown part of a field of 50 x 100.
      look: a key of `_LOOKS`, or "skeleton".
    """
    width = height / 2 if width is None else width
    box = " ".join(map(_n, part))
    if look == "skeleton":
      bones = " ".join("M{} {} L{} {}".format(*_JOINTS[a], *_JOINTS[b]) for a, b in _BONES)
      dots = "".join(f'<circle cx="{u}" cy="{v}" r="2.4" fill="{COLORS["expert"][1]}"/>' for u, v in _JOINTS)
      inner = f'<rect width="50" height="100" fill="#fff"/><path d="{bones}" stroke="{INK}" stroke-width="1.5"/>{dots}'
    else:
      names = ("wall", "floor", "trousers", "shirt", "skin")
      inner = _PERSON.format(**dict(zip(names, _LOOKS[look])))
    if mirrored:
      inner = f'<g transform="translate(50 0) scale(-1 1)">{inner}</g>'
    place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
    self._parts.append(f'<svg {place} viewBox="{box}" preserveAspectRatio="xMidYMid slice">{inner}</svg>')
    self._parts.append(f'<rect {place} fill="none" stroke="{INK}" stroke-width="1.2"/>')

  def cells(self, x: float, y: float, cell: float, rows: int, columns: int, hidden: Collection[tuple[int, int]]):
    """Draws a grid over a picture, with some cells hidden."""
    for row, column in sorted(hidden):
      self._parts.append(
        f'<rect x="{_n(x + column * cell)}" y="{_n(y + row * cell)}" width="{_n(cell)}" height="{_n(cell)}" '
        'fill="#59616a"/>'
      )
    lines = [f"M{_n(x + i * cell)} {_n(y)} v{_n(rows * cell)}" for i in range(columns + 1)]
    lines += [f"M{_n(x)} {_n(y + i * cell)} h{_n(columns * cell)}" for i in range(rows + 1)]
    self._parts.append(f'<path d="{" ".join(lines)}" stroke="#fff" stroke-width="0.8" fill="none"/>')

  def rect(self, x: float, y: float, width: float, height: float, fill: str = "none", line: str = INK, dashed=False):
    """Draws a plain rectangle."""
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    self._parts.append(
      f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" fill="{fill}" stroke="{line}" '
      f'stroke-width="1.5"{dash}/>'
    )
