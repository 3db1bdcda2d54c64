"""Sphinx configuration: markdown pages with mathematics, and the docstrings of the code they speak of."""

from importlib.metadata import version as version_of

project = "Tandem"
author = "The Tandem authors"
release = version_of("tandem-queueing")
version = release

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"

autodoc_typehints = "description"
autodoc_member_order = "bysource"
default_role = "code"  # docstrings write `name` for code

html_theme = "furo"
html_title = f"Tandem {release}"


def keep_bars(_app, _what, _name, _obj, _options, lines):
    """Docstrings write |x| for the modulus; reStructuredText would look for a substitution called x."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", keep_bars)
