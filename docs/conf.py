"""Build the documentation site: `make docs`."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import make_commands  # noqa: E402  # beside this file
import make_configuration  # noqa: E402

project = "mrqm"
author = "The mrqm developers"
project_copyright = author
release = version = installed_version("mrqm")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.mermaid",
]
source_suffix = {".md": "markdown"}
default_role = "code"  # `word` in docstrings
html_theme = "furo"
html_title = "mrqm"
html_show_copyright = False
myst_enable_extensions = ["colon_fence"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
highlight_language = "none"  # of blocks that name no language
mermaid_fullscreen = False
mermaid_height = mermaid_width = "auto"
mermaid_init_config = {"startOnLoad": False, "flowchart": {"useMaxWidth": False}}

for name, page in (("configuration", make_configuration.render()), ("commands", make_commands.render())):
    path = HERE / "reference" / f"{name}.md"
    if not path.is_file() or path.read_text() != page:  # an unchanged page is not built again
        path.write_text(page)
