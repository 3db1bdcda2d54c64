"""Sphinx configuration: markdown pages with mathematics, and the docstrings of the code they speak of."""

from importlib.metadata import version as version_of
from pathlib import Path

from queueing.proofs.claim import claims_in

project = "Tandem"
author = "The Tandem authors"
release = version_of("tandem-queueing")
version = release

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build", "_generated"]

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


def write_claims(app):
    """The table of all claims, from the registry, for docs/claims.md."""
    lines = ["| claim | statement | kind | source |", "|---|---|---|---|"]
    for claim in claims_in("queueing", "policies"):
        cells = [f"`{claim.name}`", claim.statement, str(claim.kind), claim.source]
        lines.append("| " + " | ".join(cell.replace("|", r"\|").replace("*", r"\*") for cell in cells) + " |")
    table = Path(app.srcdir) / "_generated" / "claims.md"
    table.parent.mkdir(exist_ok=True)
    table.write_text("\n".join(lines) + "\n")


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", write_claims)
    app.connect("autodoc-process-docstring", keep_bars)
