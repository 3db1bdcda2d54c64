"""Sphinx configuration: pages with mathematics, tutorials that run, the docstrings of the code they speak of."""

import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path
from pkgutil import walk_packages

from sphinx.ext.autodoc.mock import mock

import gpu
import policies
import queueing
import validation
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
toc_object_entries = False  # a navigation tree of every class would be copied into every page
suppress_warnings = ["ref.python"]  # a type may have the name of another; the link goes to the first
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


def lay_out(app, _what, _name, _obj, _options, lines):
    """Docstrings are laid out for the reader of the source: in the reference all but the claim stands as it is."""
    if app.env.current_document.docname.startswith("api/") and "" in lines:
        first = lines.index("")
        body = [re.sub(r":\w+:`~?([^`]*)`", r"\1", line) for line in lines[first + 1 :]]
        lines[first:] = (
            ["", ".. code-block:: text", "", *("   " + line for line in body), ""] if any(body) else []
        )
    else:
        first = len(lines)
    # |x| is a modulus; reStructuredText would look for a substitution called x
    lines[:first] = [line.replace("|", r"\|") for line in lines[:first]]


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


def modules_by_package() -> Iterator[tuple[str, list[str]]]:
    """Each package with the modules that lie in it directly, itself first."""
    for root in (queueing, policies, gpu, validation):
        found = {root.__name__: [root.__name__]}
        for module in walk_packages(root.__path__, root.__name__ + "."):
            if module.ispkg:
                found[module.name] = [module.name]
            else:
                found[module.name.rpartition(".")[0]].append(module.name)
        yield from found.items()


def taken_over(name: str) -> list[str]:
    """Names that a module exports and another defines: they are shown there."""
    with mock(autodoc_mock_imports):
        names = vars(import_module(name))
    return [each for each in names.get("__all__", ()) if getattr(names.get(each), "__module__", name) != name]


def write_reference(app):
    """One page per package, docs/api/PACKAGE.md: every documented name of every module.

    A module that has a page of its own is indexed there, and links lead to the page with the derivation.
    """
    pages = sorted(Path(app.srcdir).glob("**/*.md"))
    told = {
        (name if kind == "module" else name.rpartition(".")[0]): page.relative_to(app.srcdir)
        for page in pages
        if page.parent.name != "api"
        for kind, name in re.findall(r"^\.\. auto(\w+):: (\S+)", page.read_text(), re.MULTILINE)
    }
    for package, modules in modules_by_package():
        lines = [f"# {package}", ""]
        for module in modules:
            lines += [f"## {module}", ""]
            lines += [f"See [its page](../{told[module]}).", ""] if module in told else []
            lines += ["```{eval-rst}", f".. automodule:: {module}", "   :members:"]
            lines += [f"   :exclude-members: {', '.join(names)}"] if (names := taken_over(module)) else []
            lines += ["   :no-index:"] if module in told else []
            lines += ["```", ""]
        write_if_changed(Path(app.srcdir) / "api" / f"{package}.md", "\n".join(lines))


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
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-process-docstring", lay_out, priority=100)
    app.connect("build-finished", copy_mathjax)
