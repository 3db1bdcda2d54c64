"""Sphinx configuration: pages with mathematics, tutorials that run, the docstrings of the code they speak of."""

import shutil
from importlib.metadata import version as version_of
from importlib.util import find_spec
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

# Only pages with a kernel in their head are run: the tutorials.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 60
nb_execution_show_tb = True
nb_merge_streams = True
nb_ipywidgets_js = {}  # a page loads nothing from the network

autodoc_typehints = "description"
autodoc_member_order = "bysource"
default_role = "code"  # docstrings write `name` for code
# extras that a build of the pages can do without
autodoc_mock_imports = [
    name
    for name in (
        "torch",
        "triton",
        "safetensors",
        "gguf",
        "tokenizers",
        "transformers",
        "vllm",
        "ray",
        "optuna",
    )
    if find_spec(name) is None
]

html_theme = "furo"
html_title = f"Tandem {release}"

# MathJax stands beside the pages: the part of the package that turns TeX into HTML, and its fonts.
MATHJAX = "sphinx-mathjax-offline"
MATHJAX_FILES = ["tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2"]
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}  # the menu would load parts that are not there


def keep_bars(_app, _what, _name, _obj, _options, lines):
    """Docstrings write |x| for the modulus; reStructuredText would look for a substitution called x."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def write_if_changed(path: Path, text: str):
    """A file that is newer is read again, and what depends on it is built again."""
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def write_claims(app):
    """The table of all claims, from the registry, for docs/claims.md."""
    lines = ["| claim | statement | kind | source |", "|---|---|---|---|"]
    for claim in claims_in("queueing", "policies"):
        cells = [f"`{claim.name}`", claim.statement, str(claim.kind), claim.source]
        lines.append("| " + " | ".join(cell.replace("|", r"\|").replace("*", r"\*") for cell in cells) + " |")
    write_if_changed(Path(app.srcdir) / "_generated" / "claims.md", "\n".join(lines) + "\n")


def copy_mathjax(app, exception):
    """MathJax into the built pages."""
    if exception is not None or app.builder.format != "html":
        return
    source = Path(find_spec(MATHJAX).submodule_search_locations[0]) / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in MATHJAX_FILES:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", write_claims)
    app.connect("autodoc-process-docstring", keep_bars)
    app.connect("build-finished", copy_mathjax)
