"""The pages of the documentation taken apart: links, headings, commands, settings, tables."""

import importlib.util
import pathlib
import re
import shlex
from collections.abc import Iterator

REPO = pathlib.Path(__file__).resolve().parents[2]
DOCS = REPO / "docs"
GENERATED = DOCS / "reference" / "generated"


def pages() -> list[pathlib.Path]:
  """Returns all files of Markdown that a reader meets, but those that a build writes."""
  written = [path for path in sorted(DOCS.rglob("*.md")) if not {"generated", "api", "_build"} & set(path.parts)]
  return [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "results").glob("*.md")), *written]


def reference_pages():
  """Returns the module `docs/reference_pages.py`."""
  spec = importlib.util.spec_from_file_location("reference_pages", DOCS / "reference_pages.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def prose(text: str) -> str:
  """Returns Markdown without its fenced blocks."""
  return re.sub(r"^(```+|:::+)[^\n]*\n.*?^\1 *$", "", text, flags=re.DOTALL | re.MULTILINE)


def broken_links(page: pathlib.Path, text: str, generated: set[str]) -> list[str]:
  """Returns the links and pictures of a page whose file, or heading in it, is not there.

  Args:
    page: its file.
    text: its text.
    generated: names of the files that a build writes into `GENERATED`.
  """
  broken = []
  for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(text))):
    if re.match(r"[a-z]+:", link):
      continue
    place, _, anchor = link.partition("#")
    file = (page.parent / place).resolve() if place else page
    if file.parent == GENERATED and file.name in generated:
      continue
    if not file.exists() or anchor and anchor not in anchors(file):
      broken.append(link)
  return broken


def anchors(file: pathlib.Path) -> set[str]:
  """Returns the names of the headings of a page, and of the page that it includes."""
  text = file.read_text("utf-8")
  for included in re.findall(r"^```\{include\} (\S+)", text, flags=re.MULTILINE):
    text += "\n" + (file.parent / included).read_text("utf-8")
  headings = re.findall(r"^#+ (.*)$", prose(text), flags=re.MULTILINE)
  return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def saip_commands(text: str) -> Iterator[list[str]]:
  """Yields the arguments of each call of `saip` in the blocks of shell commands of a page."""
  shell = r"^```(?:bash|sh|shell)\n(.*?)^```"
  cells = r"^```\{code-cell\}[^\n]*\n(?::[^\n]*\n)*%%bash[^\n]*\n(.*?)^```"
  for block in re.findall(f"{shell}|{cells}", text, flags=re.DOTALL | re.MULTILINE):
    lines = re.sub(r"(^|\s)#.*$", "", "".join(block).replace("\\\n", " "), flags=re.MULTILINE)
    lexer = shlex.shlex(lines, posix=True, punctuation_chars=";|&<>\n")
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t", "", True
    command: list[str] = []
    for token in [*lexer, "\n"]:
      if not set(token) <= set(";|&<>\n"):
        command.append(token)
        continue
      while command and (command[0] in ("do", "then") or re.fullmatch(r"\w+=\S*", command[0])):
        command = command[1:]
      if command[:1] == ["saip"]:
        yield command[1:]
      command = []


def setting_words(text: str) -> set[str]:
  """Returns the names of settings on a page: behind --config., and in code within sentences."""
  flags = re.findall(r"--config\.([a-z]\w*(?:\.\w+)*)", text)
  inline = [
    re.findall(r"^config\.([a-z]\w*(?:\.\w+)*)(?:=.*)?$", code) for code in re.findall(r"`([^`\n]+)`", prose(text))
  ]
  return {*flags, *(name for names in inline for name in names if name not in ("json", "py"))}


def tables(text: str) -> Iterator[dict[tuple[str, str], str]]:
  """Yields each table of a page as (first cell of the row, head of the column) -> cell, without bold."""
  for table in re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.MULTILINE):
    head, _, *rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    yield {(row[0], name): cell for row in rows for name, cell in zip(head[1:], row[1:], strict=True)}
