"""README and documentation: links lead somewhere, commands and settings exist."""

import importlib
import inspect
import re
import shlex

import pytest

from saip_jax.cli import main, make_parser
from saip_jax.recipes import apply_overrides, load_recipe, parse_config, recipe_files
from tests.support.docs_pages import DOCS, REPO, broken_links, pages, reference_pages, saip_commands, setting_words

PAGES = pages()
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))


@pytest.fixture(scope="module")
def reference():
  return reference_pages()


@pytest.fixture(scope="module")
def generated(reference, tmp_path_factory):
  folder = tmp_path_factory.mktemp("generated")
  reference.write_reference_pages(folder)
  return {path.name for path in folder.iterdir()}


def check_command(arguments: list[str]) -> None:
  """Parses a command line as `saip` does, and the settings with the recipe that it names."""
  if {"--help", "--version", "..."} & set(arguments):
    return
  options, settings = make_parser().parse_known_args(arguments)
  recipe = getattr(options, "config", None) or getattr(options, "finetune", None)
  if recipe is None:
    assert not settings, f"unknown: {settings}"
  elif recipe.removeprefix("configs/").removesuffix(".py") in recipe_files():
    parse_config(apply_overrides(load_recipe(recipe), settings))
  else:
    apply_overrides({}, settings)  # a recipe of the reader
  if options.command == "evaluate" and "$" not in options.task:
    from saip_jax.evaluation.evaluate import named_tasks

    named_tasks(options.task, options.protocol)


@by_page
def test_links_lead_somewhere(page, generated):
  assert not broken_links(page, page.read_text("utf-8"), generated)


@by_page
def test_commands_parse(page):
  for arguments in saip_commands(page.read_text("utf-8")):
    try:
      check_command(arguments)
    except (SystemExit, ValueError, AssertionError) as error:
      pytest.fail(f"saip {shlex.join(arguments)}: {error}")


@by_page
def test_settings_exist(page, reference):
  names = reference.setting_names()
  sections = {name.rpartition(".")[0] for name in names}
  for word in setting_words(page.read_text("utf-8")):
    known = re.sub(r"(\.[A-Z]+)+(\.\w+)?$", "", f"config.{word}")  # NAME stands for any
    assert known in names | sections, f"--config.{word}"


def test_the_checks_find_errors(tmp_path):
  page = tmp_path / "page.md"
  text = "# A head\n\n[a](page.md#a-head) [b](page.md#none) [c](none.md) `[d](e)` [f](https://example.com)\n"
  page.write_text(text)
  assert broken_links(page, text, set()) == ["page.md#none", "none.md"]
  text = "```bash\nfor t in a b; do\n  saip report W \\\n    --out=o  # why\ndone\nX=1 saip doctor P | head\n```\n"
  assert list(saip_commands(text)) == [["report", "W", "--out=o"], ["doctor", "P"]]
  assert setting_words("`config.a.b=3` and `--config.c=1`, config.d, `config.json`") == {"a.b", "c"}
  for wrong in ("report W --nothing", "pretrain --config=saip_demo --workdir=W --config.nothing=1", "evaluate"):
    with pytest.raises((SystemExit, ValueError, AssertionError)):
      check_command(wrong.split())


def test_every_command_shows_an_example_that_parses(reference):
  for name, parser in reference.command_parsers().items():
    (example,) = re.findall(r"example:\n  saip (.*)\n", parser.format_help())
    check_command(shlex.split(example))
    assert name.split()[0] == example.split()[0]


@pytest.mark.compile
def test_help_and_errors_of_every_command_name_its_page(reference, capsys):
  for name, parser in reference.command_parsers().items():
    example, page = re.search(r"example:\n  saip (.*)\n(?:.*\n)*documentation: (.*)\n$", parser.format_help()).groups()
    assert (REPO / page).is_file(), page
    assert main([*shlex.split(example), "--nothing"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"saip {name.split()[0]}: error: ") and "--nothing" in error and error.count("\n") == 1
    assert error.endswith(f" (help: {page})\n")


def test_the_readme_is_short_and_starts_with_the_set_up():
  lines = (REPO / "README.md").read_text("utf-8").splitlines()
  first_screen = "\n".join(lines[:40])
  assert len(lines) <= 120
  assert "./scripts/quickstart.sh" in first_screen and "./scripts/test.sh" in first_screen


def test_no_page_is_longer_than_five_screens():
  assert {
    page.name: n for page in PAGES if DOCS in page.parents and (n := len(page.read_text().splitlines())) > 260
  } == {}


def test_every_record_has_a_page():
  for record in (REPO / "results").glob("*.md"):
    page = DOCS / "results" / record.name
    assert page.is_file() and f"../../results/{record.name}" in page.read_text("utf-8"), f"make {page}"


@pytest.mark.compile
def test_every_function_that_pages_use_has_an_example():
  """Those that Python blocks import from the package, or call as `saip_jax.NAME(`."""
  used = set[tuple[str, str]]()
  for page in PAGES:
    for block in re.findall(r"```(?:python|\{code-cell\}[^\n]*)\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
      imports = re.findall(r"^from ((?:saip_jax|input_pipeline)[\w.]*) import ([\w, ]+)$", block, re.MULTILINE)
      used |= {(module, name) for module, names in imports for name in names.split(", ")}
      used |= {("saip_jax", name) for name in re.findall(r"\bsaip_jax\.(\w+)\(", block)}
  functions = {name: getattr(importlib.import_module(module), name) for module, name in used}
  functions = {name: value for name, value in functions.items() if inspect.isfunction(value)}
  assert {"load_backbone", "open_recipe", "pretrain"} <= functions.keys()
  assert [name for name, function in functions.items() if ">>> " not in (function.__doc__ or "")] == []
