"""Sphinx's settings for the manual; `tools/run docs` builds it."""

import os
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import inventory  # noqa: E402 (from the folder above)

project = "pychrony"
author = "The pychrony developers"
copyright = author
# Where the manuals of other versions are: tools/site.sh, which builds them all, says so.
others = [entry.split("=") for entry in os.environ.get("PYCHRONY_OTHER_MANUALS", "").split()]
# Not as `release`, which the man page would show, although it is the same in all versions.
html_context = {"installed": metadata.version("pychrony"), "others": others}
today = " "
# Otherwise --critical becomes a dash and a word; and the man page could not be made of pages that
# were read for the site.
smartquotes = False

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "command",
    "docstrings",
    "drawing",
    "metrics",
    "pictures",
]
exclude_patterns = ["_ext"]
nitpicky = True
nitpick_ignore_regex = [("py:class", r"prometheus_client\..*")]  # it has no inventory

myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline", "attrs_block"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_display_short_literal_types = True
toc_object_entries_show_parents = "hide"

# No build uses the network: the few names from Python's own manual are listed here.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", str(inventory.write(HERE / "_ext/python.txt")))
}

copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = "pychrony"
templates_path = ["_templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "version.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_theme_options = {
    "source_repository": "https://github.com/arunderwood/pychrony/",
    "source_branch": "main",
    "source_directory": "docs/",
}

man_pages = [("reference/command", "pychrony", metadata.metadata("pychrony")["Summary"], author, 1)]
