"""Figures on pages: blocks that name the files which have their figures, and measured figures in other blocks.

`<!-- numbers: results/a.md results/b/*.json -->` before a table, a list or a paragraph names the files, from the root
of the repository. Each figure of the block has to be in one of them: as it is written, or in JSON after rounding.
"""

import json
import pathlib
import re
from collections.abc import Iterator

from tests.support.docs_pages import REPO, tables

_MARK = re.compile(r"<!-- numbers: (.+?) -->\s*")
_NUMERAL = re.compile(r"(?<![\w.@/:-])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w/@])")
_WORDS = "two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|twenty|thirty"
_UNITS = (
  r"(?:images|crops|scenes)/s|(?:a|per) second|ms|s|seconds?|minutes?|hours?|[KMG]i?B|kB|[GT]FLOP|M parameters"
  r"|(?:million )?cycles|images a second"
)
_SCORES = r"(?:mAP|AP|mA|mIoU|PCK|MFU|MPJPE|cosine|F1)"
_MEASURED = (
  re.compile(rf"(?:(?<![\w.,@-])\d[\d,.]*|\b(?:{_WORDS}))[ -](?:{_UNITS})(?![\w=(])"),  # 5 ms, five minutes
  re.compile(rf"\b{_SCORES}\b[^|.;:\n]{{0,30}}? \d+\.\d+"),  # an mAP of 4.4
  re.compile(r"\d \+- \d"),
  re.compile(r"\b\d+\.\d+ ?%"),
  re.compile(rf"\b(?:twice|(?:{_WORDS}|[\d.]+) times) (?:slower|faster|as|the|longer)\b"),
  re.compile(r"\b(?:agree|equal|differ|loss|output|gradient)\w*\b[^|.\n]{0,60} \d(?:\.\d+)?e-\d"),  # losses to 2e-7
)
_HEADS = re.compile(rf"\b(?:ms|s|seconds|[KMG]i?B|images/s|[GT]?FLOP|cycles|parameters|error|time|score|{_SCORES})\b")


def blocks(text: str) -> Iterator[tuple[list[str], str]]:
  """Yields (files that it names, text) of each paragraph, list or table of a page; cells of notebooks are left out."""
  files: list[str] = []
  for block in re.split(r"\n\s*\n", re.sub(r"^```\{code-cell\}.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)):
    if mark := _MARK.match(block):
      files, block = mark[1].split(), block[mark.end() :]
    if block:
      yield files, block
      files = []


def figures(text: str) -> list[str]:
  """Returns the numbers of a text, those in words if a unit follows; code and the targets of links do not count."""
  text = re.sub(r"`[^`\n]*`|\]\([^)]*\)", " ", text)
  return _numerals(text) + re.findall(rf"\b({_WORDS})[ -](?:{_UNITS})\b", text)


def unproven(block: str, files: list[str]) -> list[str]:
  """Returns the figures of a block that none of the files has, and the cells that differ from a table of theirs."""
  words, numbers, measured = set[str](), list[float](), dict[tuple[str, str], str]()
  for path in (path for pattern in files for path in _found(pattern)):
    text = path.read_text("utf-8")
    if path.suffix == ".json":
      numbers.extend(_numbers(json.loads(text)))
    else:
      words |= {*_numerals(text), *re.findall(rf"\b(?:{_WORDS})\b", text)}
      measured |= {key: cell for table in tables(text) for key, cell in table.items()}
  missing = [figure for figure in figures(block) if figure not in words and not _rounds_to(figure, numbers)]
  cells = (item for table in tables(block) for item in table.items())
  return missing + [f"{key}: {cell}" for key, cell in cells if measured.get(key, cell) != cell]


def measured_figures(block: str) -> list[str]:
  """Returns what looks measured in a block: figures with a unit, a score or a spread, and columns of such figures."""
  prose = re.sub(r"\]\([^)]*\)", "]", block)
  found = [match[0] for pattern in _MEASURED for match in pattern.finditer(prose)]
  if block.startswith("|"):
    for (row, head), cell in (item for table in tables(block) for item in table.items()):
      if _HEADS.search(head) and figures(cell):
        found.append(f"{head}, {row}: {cell}")
  return found


def _numerals(text: str) -> list[str]:
  return _NUMERAL.findall(re.sub(r"(?<=\d),(?=\d{3}\b)", "", text))


def _found(pattern: str) -> list[pathlib.Path]:
  paths = sorted(REPO.glob(pattern))
  assert paths, f"{pattern}: no such file"
  return paths


def _numbers(value) -> Iterator[float]:
  """Yields all numbers of a JSON value."""
  if isinstance(value, dict | list):
    for item in value.values() if isinstance(value, dict) else value:
      yield from _numbers(item)
  elif isinstance(value, int | float) and not isinstance(value, bool):
    yield value


def _rounds_to(figure: str, numbers: list[float]) -> bool:
  decimals = len(figure.partition(".")[2])
  return any(f"{number:.{decimals}f}" == figure for number in numbers)
