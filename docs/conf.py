"""Build the documentation site: `make docs`."""

from importlib.metadata import version as installed_version

project = "mrqm"
author = "The mrqm developers"
release = version = installed_version("mrqm")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.mermaid",
]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = "mrqm"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_numpy_docstring = False
copybutton_prompt_text = "$ "
