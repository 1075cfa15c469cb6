"""Figures of the README and the documentation: records, recipes and scripts have them."""

import importlib.util
import re

import pytest

from input_pipeline.sources.kinds import SOURCE_KINDS
from tests.support.docs_numbers import blocks, measured_figures, unproven
from tests.support.docs_pages import REPO, pages

RECORDS = REPO / "results"  # pages that scripts write
PAGES = [page for page in pages() if RECORDS not in page.parents]
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPO)))
ALLOWED = {  # what looks measured and is not -> why
  "1/8 s apart": "a setting of the clips",
  "shards of about 256 MB": "a setting",
  "AP^p at 0.5": "the threshold of the measure",
  "cosine from 0.03 to 3e-5": "a published setting",
  "encoder of 5 M parameters": "the paper's words",
  "to it to 1e-9": "tests/evaluation/test_metrics_coco.py asserts it",
  "scikit-learn to 1e-9": "tests/evaluation/test_metrics_*.py assert it",
  "to 1e-4 on random": "tests/interop/test_published_layouts.py asserts it",
  "a difference above 1e-4": "the limit of `saip export`",
}


@by_page
def test_figures_are_those_of_the_files_that_a_block_names(page):
  for files, block in blocks(page.read_text("utf-8")):
    assert not files or not unproven(block, files), f"{files}:\n{block}"


@by_page
def test_no_measured_figure_without_a_file(page):
  for files, block in blocks(page.read_text("utf-8")):
    for phrase in ALLOWED:
      block = re.sub(r"\s+".join(map(re.escape, phrase.split())), "", block)
    assert files or not measured_figures(block), f"no `<!-- numbers: FILE -->` above:\n{block}"


def test_every_exception_is_used():
  text = " ".join(" ".join(page.read_text("utf-8") for page in PAGES).split())
  assert [phrase for phrase in ALLOWED if phrase not in text] == []


def test_the_checks_find_errors(tmp_path):
  record = "results/experts.md"
  head = "| preset | reid:nearest mAP |\n|---|---:|\n"
  for right in ("| SAIP | 4.15 % +- 0.19 % |", "| of ours | **4.15 %** |"):
    assert unproven(head + right, [record]) == []
  for wrong in ("| SAIP | 4.44 % +- 0.11 % |", "| of ours | 4.16 % |", "about 41.5 %, of twenty seconds"):
    assert unproven(head + wrong, [record])
  assert unproven("2.4 and 22.8", ["results/speed/*.json"]) == [] and unproven("2.5", ["results/speed/*.json"]) == [
    "2.5"
  ]
  text = f"<!-- numbers: {record} -->\n\n{head}\n\nIt took\n5.1 ms.\n\n```{{code-cell}}\n1 ms\n\n2 ms\n```\n"
  assert [(files, measured_figures(block)) for files, block in blocks(text)][1] == ([], ["5.1 ms"])
  measured = ("about five minutes", "3,000 images/s per core", "an mAP of 4.4", "1 +- 0.5", "3.1 %", "outputs to 7e-7")
  for phrase in (*measured, "ten times slower", "| a | memory GiB |\n|---|---|\n| b | 2.4 |\n"):
    assert measured_figures(phrase), phrase
  for phrase in (
    "ViT-Ti/16 at 256x128",
    "batch 2048, 300 epochs",
    "a learning rate of 1e-4",
    "[a](b_5_ms.md)",
    "at 0.05 to 0.4",
  ):
    assert not measured_figures(phrase), phrase


def test_counts_of_the_readme_are_those_of_the_program():
  from saip_jax.evaluation.tasks import TASKS

  text = (REPO / "README.md").read_text("utf-8")
  assert f"{len(SOURCE_KINDS)} kinds" in text and f"{len(TASKS)} tasks" in text
  quantities = re.search(r"(\d+) quantities agree", text)
  assert quantities and f"{quantities[1]} of {quantities[1]} quantities" in (RECORDS / "parity.txt").read_text("utf-8")


@pytest.mark.compile
def test_the_record_of_work_is_that_of_the_program():
  spec = importlib.util.spec_from_file_location("count_work", REPO / "scripts" / "count_work.py")
  script = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(script)
  assert script.row("mae", 64) in (RECORDS / "work.md").read_text("utf-8").splitlines()
