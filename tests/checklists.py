"""What a policy, a model, a theorem, a kernel and an experiment must come with, read from a tree of sources.

Each function takes the root of a tree, and what cannot be read without running it, and returns what is missing: one
sentence a gap, which says what to add and where.  Nothing of the tree is imported, so that it may be made up.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from queueing.proofs.certificate import PROOFS, Kind
from queueing.proofs.claim import Claim

__all__ = ["experiments", "kernels", "models", "policies", "policy_classes", "theorems"]

POLICIES = {"Policy", "Router", "OneShotPolicy"}
NO_STATEMENT = {"claims", "closed_form", "demand"}  # a list of claims, and two modules that hold no statement
WRITTEN = {"_build", "_generated", "api"}  # folders of docs that its build writes
FAILS = re.compile(r"^(?:## |\*\*).*(?:fails?\b|does not say|not promised)", re.IGNORECASE | re.MULTILINE)
KERNEL = {
    "kernel.py": "the Triton kernel",
    "reference.py": "the same in torch",
    "cost.py": "its bytes and FLOPs",
    "README.md": "its page of mathematics",
}


def _pages(root: Path) -> str:
    """Every page that somebody wrote."""
    pages = sorted((root / "docs").rglob("*.md"))
    return "\n".join(page.read_text() for page in pages if not WRITTEN & set(page.relative_to(root).parts))


def _tests(root: Path, folder: str) -> list[str]:
    """The files of tests in a folder of `tests`."""
    return [path.read_text() for path in sorted((root / "tests" / folder).rglob("test_*.py"))]


def _imports(text: str, module: str) -> bool:
    """Whether the text imports the module, in either way; names in brackets may stand on several lines."""
    package, _, name = module.rpartition(".")
    given = rf"from {re.escape(package)} import (?:\([^)]*\b{name}\b|[^(\n]*\b{name}\b)"
    return bool(re.search(rf"\b{re.escape(module)}\b|{given}", text))


def _literal(path: Path, name: str) -> Any:
    """The value that a module gives to a constant; None if it does not, or not in full."""
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if value is not None and any(isinstance(each, ast.Name) and each.id == name for each in targets):
            try:
                return ast.literal_eval(value)
            except ValueError:
                return None
    return None


# --- policies ----------------------------------------------------------------------------------------------------


def policy_classes(root: Path) -> dict[str, str]:
    """Classes of policies and routers, at any depth of inheritance: name -> file."""
    bases: dict[str, tuple[str, set[str]]] = {}
    for path in sorted((root / "policies").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                bases[node.name] = (path.name, {ast.unparse(base).rpartition(".")[2] for base in node.bases})
    found: set[str] = set()
    while more := {name for name, (_, of) in bases.items() if of & (POLICIES | found)} - found:
        found |= more
    return {name: file for name, (file, _) in bases.items() if name in found}


def policies(root: Path, claims: Iterable[Claim], needs_claim: Iterable[str]) -> list[str]:
    """What the policies of a tree lack; `needs_claim` are the classes that a claim must speak of."""
    exported = _literal(root / "policies" / "__init__.py", "__all__") or []
    stated, needs_claim = " ".join(claim.statement for claim in claims), set(needs_claim)
    tests = _tests(root, "policies")
    gaps: list[str] = []
    for cls, file in policy_classes(root).items():
        page = f"docs/policies/{re.sub(r'(?<!^)(?=[A-Z])', '_', cls).lower()}.md"
        if cls not in exported:
            gaps.append(f"policies/{file}: export {cls} in policies/__init__.py")
        if not (root / page).is_file():
            gaps.append(f"policies/{file}: write the page of {cls}, {page}")
        elif not FAILS.search((root / page).read_text()):
            gaps.append(f"{page}: say under a heading what {cls} does not promise, and where it fails")
        if cls in needs_claim and not re.search(rf"\b{cls}\b", stated):
            gaps.append(f"policies/{file}: claim something of {cls}, in policies/claims.py")
        if not any(len(re.findall(rf"\b{cls}\b", test)) > 1 for test in tests):  # imported, and then used
            gaps.append(f"policies/{file}: test what {cls} does, in tests/policies/test_{file}")
    return gaps


# --- models and theorems -----------------------------------------------------------------------------------------


def models(root: Path, claims: Iterable[Claim]) -> list[str]:
    """What the models of a tree lack."""
    pointed, told = " ".join(claim.where for claim in claims), _pages(root)
    tests = "\n".join(_tests(root, "queueing/models"))
    gaps: list[str] = []
    for path in sorted((root / "queueing" / "models").glob("*.py")):
        name = path.stem
        if name in ("__init__", "claims"):
            continue
        file, test = f"queueing/models/{path.name}", f"tests/queueing/models/test_{name}.py"
        declared = re.search(r"^CLAIMS\b", path.read_text(), re.MULTILINE) and _literal(path, "CLAIMS") != ()
        if not declared and test not in pointed and name not in NO_STATEMENT:
            gaps.append(f"{file}: declare CLAIMS, or point to {test} from queueing/models/claims.py")
        if not _imports(tests, f"queueing.models.{name}") and name not in NO_STATEMENT:
            gaps.append(f"{file}: hold it to its laws, in {test}")
        if not re.search(rf"\bqueueing[./]models[./]{name}\b", told):
            gaps.append(
                f"{file}: derive it on a page, docs/models/{name}.md, that names queueing.models.{name}"
            )
    pages = sorted((root / "docs" / "models").glob("*.md"))
    silent = [page.name for page in pages if not FAILS.search(page.read_text())]
    return gaps + [f"docs/models/{name}: say under a heading where the model fails" for name in silent]


def theorems(root: Path, claims: Iterable[Claim]) -> list[str]:
    """What the claims of a tree lack beyond what a claim cannot be made without."""
    tests, pages, gaps = "\n".join(_tests(root, "queueing/proofs")), _pages(root), list[str]()
    for claim in claims:
        named = rf"(?<![\w-]){claim.name}(?![\w-])"
        told = re.search(r"docs/[\w/]+\.md", claim.where) or re.search(named, pages)
        if claim.kind in PROOFS and not told:
            gaps.append(
                f"the claim {claim.name} is proved: name it on a page, in docs/theorems or docs/models"
            )
    for path in sorted((root / "queueing" / "proofs").glob("*.py")):
        text = path.read_text()
        claimed = re.search(r"^CLAIMS\b", text, re.MULTILINE) and f"Kind.{Kind.SOLVER.name}" in text
        if claimed and not _imports(tests, f"queueing.proofs.{path.stem}"):
            gaps.append(
                f"queueing/proofs/{path.name}: have solvers prove its claims and refute the controls, "
                f"in tests/queueing/proofs/test_{path.name}"
            )
    for package in ("gpu", "validation"):
        for path in sorted((root / package).rglob("*.py")):
            if re.search(r"^CLAIMS\b", path.read_text(), re.MULTILINE):
                file = path.relative_to(root).as_posix()
                gaps.append(f"{file}: declare its CLAIMS in queueing or policies, where the registry looks")
    return gaps


# --- kernels -----------------------------------------------------------------------------------------------------


def kernels(root: Path) -> list[str]:
    """What the kernels of a tree lack."""
    place = root / "gpu" / "kernels"
    table = {name.replace(" ", "_") for name in json.loads((place / "resources.json").read_text())["kernels"]}
    backend = set((_literal(root / "gpu" / "backend.py", "FOLDERS") or {}).values())
    gaps: list[str] = []
    for folder in sorted(path for path in place.glob("[!_.]*") if path.is_dir()):
        op, here = folder.name, f"gpu/kernels/{folder.name}"
        gaps += [
            f"{here}: add {file}, {what}" for file, what in KERNEL.items() if not (folder / file).is_file()
        ]
        kernel, page = folder / "kernel.py", root / "docs" / "kernels" / f"{op}.md"
        if kernel.is_file() and not re.search(r"^VARIANTS\b", kernel.read_text(), re.MULTILINE):
            gaps.append(f"{here}/kernel.py: list in VARIANTS what a launch compiles")
        if not any(re.match(rf"{op}(_|$)", name) for name in table):
            gaps.append(f"{here}: enter it into resources.json with python -m gpu.kernels.compiled")
        if op not in backend:
            gaps.append(f"{here}: name it in FOLDERS of gpu/backend.py, so that the model calls it")
        included = rf"^```\{{include\}} \S*{here}/README\.md$"
        if not page.is_file() or not re.search(included, page.read_text(), re.MULTILINE):
            gaps.append(f"{here}: include its README.md in a page, docs/kernels/{op}.md")
        test = root / "tests" / "gpu" / "kernels" / f"test_{op}.py"
        if not test.is_file() or not _imports(test.read_text(), f"gpu.kernels.{op}.reference"):
            gaps.append(f"{here}: hold it to its reference, in tests/gpu/kernels/test_{op}.py")
        elif not re.search(r"^CAUGHT\b", test.read_text(), re.MULTILINE) or _literal(test, "CAUGHT") == {}:
            gaps.append(
                f"tests/gpu/kernels/test_{op}.py: plant errors in the kernel, in CAUGHT, and catch them"
            )
    return gaps


# --- experiments -------------------------------------------------------------------------------------------------


def experiments(root: Path) -> list[str]:
    """What the experiments of a tree lack."""
    place, pages = root / "validation" / "experiments", _pages(root)
    tests = "\n".join(_tests(root, "validation"))
    known: dict[str, str] = _literal(place / "__init__.py", "MODULES") or {}
    gaps: list[str] = []
    for path in sorted(place.glob("*.py")):
        file, module = f"validation/experiments/{path.name}", f"validation.experiments.{path.stem}"
        name, runs = _literal(path, "NAME"), re.search(r"^def run\(", path.read_text(), re.MULTILINE)
        if name is None and not runs:
            continue  # a part of an experiment
        if name is None:
            gaps.append(f"{file}: give it a NAME, as `tandem experiment` calls it")
            continue
        if not runs:
            gaps.append(f"{file}: write run(quick, out, workers, progress), which returns a Result")
        if known.get(name) != module:
            gaps.append(f'{file}: enter "{name}" into MODULES of validation/experiments/__init__.py')
        if not re.search(rf"tandem experiment\s[^`]*(?<![\w-]){name}(?![\w-])", pages):
            gaps.append(f"{file}: show `tandem experiment {name}` on a page, docs/experiments/{path.stem}.md")
        if not _imports(tests, module):
            gaps.append(f"{file}: test it, in tests/validation/test_{path.stem}.py")
    return gaps
