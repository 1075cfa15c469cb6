"""The HTML elements of a report: one self-contained file without external resources."""

import html
from collections.abc import Mapping, Sequence

RUN_COLORS = 8
"""Number of runs with distinct colors."""


def escape(value) -> str:
  """Returns a value as escaped text for the page or an attribute."""
  return html.escape(str(value), quote=True)


def swatch(run: int) -> str:
  """Returns a mark in the color of a run."""
  return f'<i class="swatch run{run}"></i>'


def legend(names: Mapping[int, str]) -> str:
  """Returns the legend of colors and names of runs."""
  items = "".join(f"<span>{swatch(i)}{escape(name)}</span>" for i, name in names.items())
  return f'<p class="legend">{items}</p>'


def facts(items: Mapping[str, str]) -> str:
  """Returns names and values, plain text, as a list."""
  return "<dl>" + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in items.items()) + "</dl>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a table; its cells are HTML. A wide table scrolls horizontally."""
  line = lambda cells, tag: "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"
  body = "".join(line(cells, "td") for cells in rows)
  return f'<div class="wide"><table><thead>{line(header, "th")}</thead><tbody>{body}</tbody></table></div>'


def details(summary: str, body: str, opened: bool = False) -> str:
  """Returns a collapsible element; the summary is plain text, the body HTML."""
  return f"<details{' open' * opened}><summary>{escape(summary)}</summary>{body}</details>"


def missing(text: str, command: str | None = None) -> str:
  """Returns a note about missing content, and the command that creates it."""
  return f'<p class="missing">{escape(text)}' + (f" <code>{escape(command)}</code>" if command else "") + "</p>"


def document(title: str, sections: Mapping[str, str]) -> str:
  """Returns the page.

  Args:
    title: plain text.
    sections: heading, plain text -> HTML.
  """
  anchors = {heading: f"s{i}" for i, heading in enumerate(sections)}
  links = "".join(f'<a href="#{anchor}">{escape(heading)}</a>' for heading, anchor in anchors.items())
  body = "".join(
    f'<section id="{anchors[heading]}"><h2>{escape(heading)}</h2>{content}</section>'
    for heading, content in sections.items()
  )
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
    f"<body><header><h1>{escape(title)}</h1><nav>{links}</nav></header>\n<main>{body}</main>"
    f"<script>{_SCRIPT}</script></body></html>\n"
  )


# Browsers that enforce it fetch nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_LIGHT = ("#1f5fbf", "#c2500a", "#1a7f4b", "#9a35b0", "#b8860b", "#0c8599", "#c2255c", "#5f6368")
_DARK = ("#74a9ff", "#ff9a52", "#5fd39a", "#d48bea", "#e6bd45", "#4fd0e3", "#ff85ad", "#b3b8bf")
_runs = lambda colors: "".join(f".run{i}{{--run:{color}}}" for i, color in enumerate(colors))

_STYLE = (
  """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5b6470; --line: #dde1e6; --ground: #f6f7f9; --card: #fff;
  --right: #1a8a4a; --wrong: #d03030 }
"""
  + _runs(_LIGHT)
  + """
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #9aa4b0; --line: #343a42; --ground: #14171a; --card: #1d2126;
    --right: #3fbf78; --wrong: #ff6464 }
"""
  + _runs(_DARK)
  + """
}
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
header, main { max-width: 1240px; margin: 0 auto; padding: 0 16px }
h1 { font-size: 1.5rem; margin: 20px 0 4px; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 0 0 10px }
h3 { font-size: 1rem; margin: 18px 0 8px }
p { margin: 6px 0 10px; max-width: 90ch }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px; margin: 14px 0 }
nav { display: flex; flex-wrap: wrap; gap: 2px 16px }
a { color: inherit }
small, .soft { color: var(--soft); font-size: .85rem }
code, pre { font: .84rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere;
  white-space: pre-wrap }
.missing { border-left: 3px solid var(--line); padding-left: 10px; color: var(--soft) }
.missing code { color: var(--ink) }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); gap: 8px 20px; margin: 0 }
dt { color: var(--soft); font-size: .82rem }
dd { margin: 0; overflow-wrap: anywhere }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: 5px 18px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 500; color: var(--soft); font-size: .85rem; white-space: nowrap }
td { white-space: nowrap }
td:first-child { white-space: normal; min-width: 170px; overflow-wrap: anywhere }
details { margin: 8px 0 }
summary { cursor: pointer }
details > :not(summary) { margin-top: 8px }
.legend { display: flex; flex-wrap: wrap; gap: 2px 18px; padding: 6px 0; margin: 0; max-width: none;
  overflow-wrap: anywhere }
.curves > .legend { position: sticky; top: 0; z-index: 1; background: var(--card) }
.swatch { display: inline-block; width: 14px; height: 4px; border-radius: 2px; background: var(--run);
  margin-right: 6px; vertical-align: middle; flex: none }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 18px 20px }
figure { margin: 0; min-width: 0 }
.chart figcaption { font-size: .88rem }
.at { color: var(--soft) }
.values { display: flex; flex-wrap: wrap; gap: 0 14px; font-variant-numeric: tabular-nums; min-height: 1.5em }
svg { display: block; width: 100%; height: auto; touch-action: pan-y }
svg text { fill: var(--soft); font-size: 11px }
svg .grid { stroke: var(--line) }
svg .cursor { stroke: var(--soft); stroke-dasharray: 3 3 }
svg polyline { fill: none; stroke: var(--run); stroke-width: 1.7; stroke-linejoin: round }
svg polygon { fill: var(--run); opacity: .16 }
svg circle { fill: var(--run) }
.wide > img.panel { max-width: max(100%, 600px); border-radius: 6px; display: block }
.rows { display: flex; flex-wrap: wrap; gap: 14px 28px }
.row { display: flex; flex-wrap: wrap; gap: 6px }
.row figure { width: 74px; text-align: center; font-size: .74rem; line-height: 1.3; color: var(--soft) }
.row img { width: 100%; display: block; border-radius: 4px }
.cells { image-rendering: pixelated }
.right img, .wrong img { border: 4px solid var(--right) }
.wrong img { border-color: var(--wrong) }
.query { margin-right: 10px }
@media (max-width: 480px) {
  header, main { padding: 0 8px }
  section { padding: 12px 10px }
  .row figure { width: 62px }
}
"""
)

# Shows the values of the lines of a chart at the step under the pointer.
_SCRIPT = """
for (const chart of document.querySelectorAll(".chart")) {
  const svg = chart.querySelector("svg"), cursor = chart.querySelector(".cursor"), at = chart.querySelector(".at");
  const lines = JSON.parse(chart.dataset.lines);
  const [left, right, last] = ["left", "right", "last"].map(name => +chart.dataset[name]);
  const values = [...chart.querySelectorAll(".value")], rest = values.map(v => v.textContent);
  svg.addEventListener("pointermove", e => {
    const box = svg.getBoundingClientRect(), x = (e.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    const step = Math.min(Math.max((x - left) / (right - left), 0), 1) * last;
    let nearest = Infinity;
    values.forEach(v => {
      const [steps, mean, low, high] = lines[v.dataset.run];
      let i = steps.findIndex(s => s[1] >= step);
      if (i < 0) i = steps.length - 1;
      if (i > 0 && step - steps[i - 1][1] < steps[i][0] - step) i--;
      const range = values.length == 1 && low[i] < high[i];  // with several runs the text must not grow
      v.textContent = mean[i] + (range ? ` (${low[i]} to ${high[i]})` : "");
      const [a, b] = steps[i], off = Math.abs((a + b) / 2 - step);
      if (off < nearest) {
        nearest = off;
        at.textContent = (a < b ? "steps " + a + " to " : "step ") + b;
        const place = left + (right - left) * (a + b) / 2 / last;
        cursor.setAttribute("x1", place);
        cursor.setAttribute("x2", place);
      }
    });
  });
  svg.addEventListener("pointerleave", () => {
    values.forEach((v, i) => v.textContent = rest[i]);
    at.textContent = "";
    cursor.setAttribute("x1", -9);
    cursor.setAttribute("x2", -9);
  });
}
"""
