"""Sphinx configuration: `sphinx-build -W -b html docs html`. Nothing is fetched from the network."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

import crnn_cli  # noqa: E402

project = "crnn"
author = "The crnn authors"
project_copyright = "The crnn authors, code under Apache-2.0"
release = crnn_cli.__version__
version = release

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "repository_pages",
    "cli_reference",
    "api_reference",
]
exclude_patterns = ["_build", "html", "_generated/api.md", "_generated/options_of_all.md", "jupyter_execute"]
templates_path: list[str] = []
smartquotes = False  # an option starts with two hyphens
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
myst_update_mathjax = False

# The notebook runs in every build, once the API that it calls is there; an error in it fails the build.
has_api = "load" in getattr(crnn_cli, "__all__", ())
nb_execution_mode = "force" if has_api else "off"
suppress_warnings = [] if has_api else ["myst-nb.lexer"]
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # would be loaded from the network
nb_merge_streams = True

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Returns"]  # ours says what comes back in words; the type is in the signature

html_theme = "pydata_sphinx_theme"
html_title = f"crnn {release}"
html_static_path = ["_static"]
html_css_files = ["crnn.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
}
html_sidebars = {"limits": [], "glossary": [], "models": []}

copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"
