"""Settings of the documentation's site; `scripts/docs.sh` builds it."""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from reference_pages import write_reference_pages  # noqa: E402

import saip_jax  # noqa: E402

project = "saip_jax"
author = "saip_jax contributors"
copyright = author
version = release = saip_jax.__version__
extensions = [
  "myst_nb",
  "sphinx.ext.autodoc",
  "sphinx.ext.autosummary",
  "sphinx.ext.napoleon",
  "sphinx.ext.viewcode",
  "sphinx_copybutton",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb_checkpoints", "pictures/README.md"]

html_theme = "sphinx_book_theme"
html_title = "saip_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
  "show_navbar_depth": 1,
  "use_download_button": False,
  "navbar_persistent": [],  # the sidebar has a field for searching
}

default_role = "literal"  # docstrings have names in single backquotes
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have shapes and units
autosummary_generate = True
toc_object_entries_show_parents = "hide"
copybutton_exclude = ".linenos, .gp, .go"
suppress_warnings = ["misc.highlighting_failure"]  # lines of a shell in cells of Python

# Tutorials are executed on request, see scripts/docs.sh; their outputs are not committed.
nb_execution_mode = "force" if os.environ.get("SAIP_DOCS_EXECUTE") else "off"
nb_execution_timeout = 900
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True


def setup(app):
  app.connect("builder-inited", lambda _: write_reference_pages(HERE / "reference" / "generated"))
