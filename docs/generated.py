"""Pages written when the site is built: all claims, the reference of the code, where the models fail, the explorer."""

import ast
import builtins
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from sphinx import addnodes
from sphinx.util.logging import getLogger

import gpu
import policies
import queueing
import validation
from queueing.proofs.claim import claims_in
from validation import explorer

ROOTS = (queueing, policies, gpu, validation)
FAILS = re.compile(r"fails?\b|does not say|not promised", re.IGNORECASE)
SECTIONS = {"models": "Models", "policies": "Policies", "theorems": "Theorems", "experiments": "Experiments"}
NO_POLICY = {"policies/admission"}  # a parameter of all of them


def write_if_changed(path: Path, text: str):
    """A file that is newer is read again, and what depends on it is built again."""
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


# --- claims --------------------------------------------------------------------------------------------------------


def write_claims(app):
    """The table of all claims, from the registry, for docs/claims.md."""
    lines = ["| claim | statement | kind | source |", "|---|---|---|---|"]
    for claim in claims_in("queueing", "policies"):
        cells = [f"`{claim.name}`", claim.statement, str(claim.kind), claim.source]
        lines.append("| " + " | ".join(cell.replace("|", r"\|").replace("*", r"\*") for cell in cells) + " |")
    write_if_changed(Path(app.srcdir) / "_generated" / "claims.md", "\n".join(lines) + "\n")


# --- where the models fail -----------------------------------------------------------------------------------------


def failings(text: str) -> list[str]:
    """What a page says of where its subject fails: sections under such a heading, paragraphs that begin so.

    Links become plain text, as they would lead elsewhere from another page.
    """
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    sections = re.findall(r"^## (.*)\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
    found = [body.strip() for title, body in sections if FAILS.search(title)]
    paragraphs = re.findall(r"^\*\*([^*]*)\*\*[ \n]*((?:.+\n?)*)(\n- (?:.+\n?)*)?", text, re.MULTILINE)
    found += [(body + items).strip() for title, body, items in paragraphs if FAILS.search(title)]
    return found


def write_failings(app):
    """For docs/where_models_fail.md: the word of each page, under a link to it."""
    lines: list[str] = []
    for folder, title in SECTIONS.items():
        lines += [f"## {title}", ""]
        for page in sorted((Path(app.srcdir) / folder).glob("*.md")):
            name, text = f"{folder}/{page.stem}", page.read_text()
            said = failings(text)
            if said:
                heading = re.findall(r"^# (.*)", text, re.MULTILINE)[0]
                lines += [f"### [{heading}]({name}.md)", "", *("\n" + each + "\n" for each in said), ""]
            elif folder in ("models", "policies") and name not in NO_POLICY:
                getLogger(__name__).warning("%s.md does not say where it fails; add such a section", name)
    write_if_changed(Path(app.srcdir) / "_generated" / "where_models_fail.md", "\n".join(lines) + "\n")


# --- the explorer --------------------------------------------------------------------------------------------------


def write_explorer(app):
    """The table of docs/explorer.md; half a minute, unless it is there from the same sources."""
    explorer.write(Path(app.srcdir) / "_generated" / "explorer.html")


# --- the reference -------------------------------------------------------------------------------------------------


def modules_by_package() -> Iterator[tuple[str, dict[str, Path]]]:
    """Each package with the files of the modules that lie in it directly, its own first."""
    for root in ROOTS:
        top = Path(root.__file__).parent
        for init in sorted(top.rglob("__init__.py")):
            package = ".".join(init.parent.relative_to(top.parent).parts)
            others = sorted(file for file in init.parent.glob("*.py") if file != init)
            yield package, {package: init} | {f"{package}.{file.stem}": file for file in others}


def imported_names(file: Path) -> list[str]:
    """Names that a module takes from others; where it exports one again, it is shown at home."""
    imports = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ImportFrom)]
    return sorted({each.asname or each.name for node in imports for each in node.names})


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
        if package.partition(".")[0] == "gpu" and not find_spec("torch"):
            lines += [
                "These pages were built without the extra `gpu`, which this package needs to be shown.",
                "",
            ]
            modules = {}
        for module, file in modules.items():
            lines += [f"## {module}", ""]
            page = told.get(module, told.get(package))  # the page of a package shows what its modules hold
            lines += [f"See [its page](../{page}).", ""] if page else []
            lines += ["```{eval-rst}", f".. automodule:: {module}", "   :members:"]
            names = imported_names(file)
            lines += [f"   :exclude-members: {', '.join(names)}"] if names else []
            lines += ["   :no-index:"] if page else []
            lines += ["```", ""]
        write_if_changed(Path(app.srcdir) / "api" / f"{package}.md", "\n".join(lines))


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


def plain_types(_app, doctree):
    """Types of Python and of other libraries lead nowhere; each would be looked for among all our names."""
    for node in list(doctree.findall(addnodes.pending_xref)):
        first, dot, _ = node["reftarget"].partition(".")
        if node["refdomain"] == "py" and (
            hasattr(builtins, first) or (dot and first not in {root.__name__ for root in ROOTS})
        ):
            node.replace_self(node.children)


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", write_claims)
    app.connect("builder-inited", write_failings)
    app.connect("builder-inited", write_explorer)
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-process-docstring", lay_out, priority=100)
    app.connect("doctree-read", plain_types)
    return {"parallel_read_safe": True}
