"""Sphinx configuration: pages with mathematics, tutorials that run, the docstrings of the code they speak of."""

import shutil
import sys
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for the extension beside this file

project = "Tandem"
author = "The Tandem authors"
release = version_of("tandem-queueing")
version = release

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "generated",
    "published_figures",
]
exclude_patterns = ["_build", "_generated"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Only pages with a kernel in their head are run: the tutorials.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 60
nb_execution_show_tb = True
nb_merge_streams = True
nb_ipywidgets_js = {}  # a page loads nothing from the network

autodoc_typehints = "description"
autodoc_member_order = "bysource"
default_role = "code"  # docstrings write `name` for code
toc_object_entries = False  # a navigation tree of every class would be copied into every page
suppress_warnings = ["ref.python"]  # a type may have the name of another; the link goes to the first
# extras that a build of the pages can do without
EXTRAS = (
    "polars",
    "pooch",
    "joblib",
    "ray",
    "optuna",
    "gymnasium",
    "sklearn",
    "stable_baselines3",
    "torch",
    "vllm",
)
autodoc_mock_imports = [name for name in EXTRAS if find_spec(name) is None]

html_theme = "furo"
html_static_path = ["_static"]
html_title = f"Tandem {release}"

# MathJax stands beside the pages: the part of the package that turns TeX into HTML, and its fonts.
MATHJAX = "sphinx-mathjax-offline"
MATHJAX_FILES = ["tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2"]
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}  # the menu would load parts that are not there


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
    app.connect("build-finished", copy_mathjax)
