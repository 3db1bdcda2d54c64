"""The checklists of CONTRIBUTING.md: this tree keeps them, a made-up tree that lacks one thing is told which.

Negative controls: a tree with a policy, a model, a theorem, a kernel and an experiment, complete, from which each part
is taken away in turn.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from policies.catalogue import classes
from queueing.one_shot import OneShotPolicy
from queueing.policy import Policy, Router
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim, claims_in
from queueing.proofs.identity import Identity
from tests import checklists

ROOT = Path(__file__).parents[1]
CLAIMS = claims_in("queueing", "policies")
SERVING = {cls.__name__ for kind in (Policy, Router) for cls in classes(kind).values()}

Gaps = Callable[[Path], list[str]]
OF_THIS_TREE: dict[str, Gaps] = {
    "policy": lambda root: checklists.policies(root, CLAIMS, SERVING),
    "model": lambda root: checklists.models(root, CLAIMS),
    "theorem": lambda root: checklists.theorems(root, CLAIMS),
    "kernel": checklists.kernels,
    "experiment": checklists.experiments,
}


# --- this tree ---------------------------------------------------------------------------------------------------


def complete(of: str) -> None:
    missing = OF_THIS_TREE[of](ROOT)
    assert not missing, "\n".join(missing)


def test_policies_are_complete() -> None:
    complete("policy")


def test_models_are_complete() -> None:
    complete("model")


def test_theorems_are_complete() -> None:
    complete("theorem")


def test_kernels_are_complete() -> None:
    complete("kernel")


def test_experiments_are_complete() -> None:
    complete("experiment")


def test_what_is_read_from_the_sources_is_what_the_catalogue_has() -> None:
    exported = {cls.__name__ for kind in (Policy, Router, OneShotPolicy) for cls in classes(kind).values()}
    assert set(checklists.policy_classes(ROOT)) == exported


# --- a made-up tree ----------------------------------------------------------------------------------------------

FAILING = "# Fair\n\n## Where it fails\n\nSomewhere.\n"
CAPPED = "from gpu.kernels.soft_cap import kernel, reference\n"
COMPLETE = {
    "policies/__init__.py": "__all__ = ['MostFair', 'Fairer']\n",
    "policies/most_fair.py": "class MostFair(Policy):\n    pass\n\n\nclass Fairer(MostFair):\n    pass\n",
    "docs/policies/most_fair.md": FAILING,
    "docs/policies/fairer.md": FAILING,
    "tests/policies/test_most_fair.py": "from policies import Fairer, MostFair\n\nBOTH = (Fairer(), MostFair())\n",
    "queueing/models/drain.py": "CLAIMS = (DRAINS,)\n",
    "docs/models/drain.md": FAILING + "`queueing.models.drain`\n",
    "tests/queueing/models/test_drain.py": "from queueing.models.drain import fill\n",
    "queueing/proofs/drained.py": "kind = Kind.SOLVER\nCLAIMS = ()\n",
    "docs/theorems/drained.md": "`tandem prove all-drains`\n",
    "tests/queueing/proofs/test_drained.py": "from queueing.proofs import (\n    drained,\n)\n",
    "gpu/kernels/resources.json": '{"kernels": {"soft cap 64": {}}}\n',
    "gpu/kernels/soft_cap/kernel.py": "VARIANTS = ()\n",
    "gpu/kernels/soft_cap/reference.py": "",
    "gpu/kernels/soft_cap/cost.py": "",
    "gpu/kernels/soft_cap/README.md": "",
    "gpu/backend.py": "FOLDERS = {'cap': 'soft_cap'}\n",
    "docs/kernels/soft_cap.md": "```{include} ../../gpu/kernels/soft_cap/README.md\n```\n",
    "tests/gpu/kernels/test_soft_cap.py": CAPPED + "CAUGHT = {'zero': ('1', '0')}\n",
    "validation/experiments/__init__.py": "MODULES = {'the-drain': 'validation.experiments.the_drain'}\n",
    "validation/experiments/the_drain.py": "NAME = 'the-drain'\n\n\ndef run(quick):\n    pass\n",
    "validation/experiments/the_drain_plots.py": "",
    "docs/experiments/the_drain.md": "`tandem experiment the-drain [--quick]`\n",
    "tests/validation/test_the_drain.py": "from validation.experiments import the_drain\n",
}
TWICE = Identity("twice", 2, 2)
SAID = Claim("most-fair", "MostFair is fair, Fairer fairer.", "nobody", Kind.OPEN)
PROVED = Claim(
    "all-drains", "Tanks drain.", "nobody", Kind.IDENTITY, (), lambda: [TWICE], {"none": lambda: [TWICE]}
)

# list -> (path, what stands there instead, or None if the file is not there, sentence)
MISSING: dict[str, list[tuple[str, str | None, str]]] = {
    "policy": [
        ("policies/__init__.py", "__all__ = ['MostFair']\n",
         "policies/most_fair.py: export Fairer in policies/__init__.py"),
        ("docs/policies/most_fair.md", None,
         "policies/most_fair.py: write the page of MostFair, docs/policies/most_fair.md"),
        ("docs/policies/most_fair.md", "# Fair\n\nIt never fails.\n",
         "docs/policies/most_fair.md: say under a heading what MostFair does not promise, and where it fails"),
        ("tests/policies/test_most_fair.py", "from policies import Fairer, MostFair\n\nONE = MostFair()\n",
         "policies/most_fair.py: test what Fairer does, in tests/policies/test_most_fair.py"),
    ],
    "model": [
        ("queueing/models/drain.py", "CLAIMS: tuple[Claim, ...] = ()\n",
         "queueing/models/drain.py: declare CLAIMS, or point to tests/queueing/models/test_drain.py from "
         "queueing/models/claims.py"),
        ("queueing/models/drain.py", "RATE = 1\n",
         "queueing/models/drain.py: declare CLAIMS, or point to tests/queueing/models/test_drain.py from "
         "queueing/models/claims.py"),
        ("tests/queueing/models/test_drain.py", None,
         "queueing/models/drain.py: hold it to its laws, in tests/queueing/models/test_drain.py"),
        ("docs/models/drain.md", None,
         "queueing/models/drain.py: derive it on a page, docs/models/drain.md, that names queueing.models.drain"),
        ("docs/models/drain.md", "`queueing.models.drain`\n",
         "docs/models/drain.md: say under a heading where the model fails"),
    ],
    "theorem": [
        ("docs/theorems/drained.md", None,
         "the claim all-drains is proved: name it on a page, in docs/theorems or docs/models"),
        ("docs/theorems/drained.md", "`tandem prove all-drains-well`\n",
         "the claim all-drains is proved: name it on a page, in docs/theorems or docs/models"),
        ("tests/queueing/proofs/test_drained.py", "from queueing.proofs import smt\n",
         "queueing/proofs/drained.py: have solvers prove its claims and refute the controls, in "
         "tests/queueing/proofs/test_drained.py"),
        ("validation/experiments/the_drain_plots.py", "CLAIMS = ()\n",
         "validation/experiments/the_drain_plots.py: declare its CLAIMS in queueing or policies, where the "
         "registry looks"),
    ],
    "kernel": [
        ("gpu/kernels/soft_cap/kernel.py", None, "gpu/kernels/soft_cap: add kernel.py, the Triton kernel"),
        ("gpu/kernels/soft_cap/reference.py", None, "gpu/kernels/soft_cap: add reference.py, the same in torch"),
        ("gpu/kernels/soft_cap/cost.py", None, "gpu/kernels/soft_cap: add cost.py, its bytes and FLOPs"),
        ("gpu/kernels/soft_cap/README.md", None,
         "gpu/kernels/soft_cap: add README.md, its page of mathematics"),
        ("gpu/kernels/soft_cap/kernel.py", "import triton\n",
         "gpu/kernels/soft_cap/kernel.py: list in VARIANTS what a launch compiles"),
        ("gpu/kernels/resources.json", '{"kernels": {"soft capacity": {}}}',
         "gpu/kernels/soft_cap: enter it into resources.json with python -m gpu.kernels.compiled"),
        ("gpu/backend.py", "FOLDERS = {}\n",
         "gpu/kernels/soft_cap: name it in FOLDERS of gpu/backend.py, so that the model calls it"),
        ("docs/kernels/soft_cap.md", None,
         "gpu/kernels/soft_cap: include its README.md in a page, docs/kernels/soft_cap.md"),
        ("docs/kernels/soft_cap.md", "[here](../../gpu/kernels/soft_cap/README.md)\n",
         "gpu/kernels/soft_cap: include its README.md in a page, docs/kernels/soft_cap.md"),
        ("tests/gpu/kernels/test_soft_cap.py", None,
         "gpu/kernels/soft_cap: hold it to its reference, in tests/gpu/kernels/test_soft_cap.py"),
        ("tests/gpu/kernels/test_soft_cap.py", "from gpu.kernels.soft_cap import kernel\nCAUGHT = {1: 2}\n",
         "gpu/kernels/soft_cap: hold it to its reference, in tests/gpu/kernels/test_soft_cap.py"),
        ("tests/gpu/kernels/test_soft_cap.py", CAPPED + "CAUGHT: dict[str, str] = {}\n",
         "tests/gpu/kernels/test_soft_cap.py: plant errors in the kernel, in CAUGHT, and catch them"),
        ("tests/gpu/kernels/test_soft_cap.py", CAPPED,
         "tests/gpu/kernels/test_soft_cap.py: plant errors in the kernel, in CAUGHT, and catch them"),
    ],
    "experiment": [
        ("validation/experiments/the_drain.py", "def run(quick):\n    pass\n",
         "validation/experiments/the_drain.py: give it a NAME, as `tandem experiment` calls it"),
        ("validation/experiments/the_drain.py", "NAME = 'the-drain'\n",
         "validation/experiments/the_drain.py: write run(quick, out, workers, progress), which returns a Result"),
        ("validation/experiments/__init__.py", "MODULES = {'drain': 'validation.experiments.the_drain'}\n",
         'validation/experiments/the_drain.py: enter "the-drain" into MODULES of '
         "validation/experiments/__init__.py"),
        ("docs/experiments/the_drain.md", "`tandem experiment the-drain-pipe`\n",
         "validation/experiments/the_drain.py: show `tandem experiment the-drain` on a page, "
         "docs/experiments/the_drain.md"),
        ("tests/validation/test_the_drain.py", "from validation.experiments import the_drain_plots\n",
         "validation/experiments/the_drain.py: test it, in tests/validation/test_the_drain.py"),
    ],
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in COMPLETE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def gaps(root: Path, of: str, claims: tuple[Claim, ...] = (SAID, PROVED)) -> list[str]:
    found: dict[str, Gaps] = OF_THIS_TREE | {
        "policy": lambda root: checklists.policies(root, claims, ["MostFair", "Fairer"]),
        "model": lambda root: checklists.models(root, claims),
        "theorem": lambda root: checklists.theorems(root, claims),
    }
    return found[of](root)


@pytest.mark.parametrize("of", OF_THIS_TREE)
def test_a_complete_tree_has_no_gap(tree: Path, of: str) -> None:
    assert gaps(tree, of) == []


CASES = [
    pytest.param(of, *case, id=f"{case[2]} [{k}]")
    for of, cases in MISSING.items()
    for k, case in enumerate(cases)
]


@pytest.mark.parametrize(("of", "path", "instead", "sentence"), CASES)
def test_the_one_thing_that_is_missing_is_named(
    tree: Path, of: str, path: str, instead: str | None, sentence: str
) -> None:
    if instead is None:
        (tree / path).unlink()
    else:
        (tree / path).write_text(instead)
    assert gaps(tree, of) == [sentence]


@pytest.mark.parametrize(
    ("of", "path"),
    [
        ("policy", "tests/policies/test_most_fair.py"),
        ("model", "tests/queueing/models/test_drain.py"),
        ("theorem", "tests/queueing/proofs/test_drained.py"),
        ("experiment", "tests/validation/test_the_drain.py"),
    ],
)
def test_a_test_that_stands_elsewhere_does_not_count(tree: Path, of: str, path: str) -> None:
    (tree / path).rename(tree / "tests" / Path(path).name)
    assert all(f"in {path}" in gap for gap in gaps(tree, of))
    assert gaps(tree, of)


def test_a_class_that_no_claim_speaks_of_is_named(tree: Path) -> None:
    only = Claim("most-fair", "MostFair is fair.", "nobody", Kind.OPEN)
    assert gaps(tree, "policy", (only,)) == [
        "policies/most_fair.py: claim something of Fairer, in policies/claims.py"
    ]


def test_a_model_may_be_claimed_by_a_pointer_to_its_test(tree: Path) -> None:
    (tree / "queueing/models/drain.py").write_text("RATE = 1\n")
    pointing = Claim("drain", "x.", "", Kind.TESTED, where="tests/queueing/models/test_drain.py::test_x")
    assert gaps(tree, "model", (pointing,)) == []


# --- CONTRIBUTING.md ---------------------------------------------------------------------------------------------


def items(text: str) -> dict[str, list[str]]:
    """The items of each checklist "## Add a ...": one line each."""
    sections = re.findall(r"^## Add an? (\w+).*\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
    return {name: re.findall(r"^- .*(?:\n  .*)*", body, re.MULTILINE) for name, body in sections}


def unenforced(root: Path, lists: dict[str, list[str]]) -> list[str]:
    """Items that name no test, or one that is not there."""
    wrong: list[str] = []
    for item in (item for of in lists.values() for item in of):
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", item)
        if not named:
            wrong.append(f"{item!r} names no test; say which one enforces it")
        for file, test in named:
            path = root / file
            defined = ast.parse(path.read_text()).body if path.is_file() else []
            if test not in {node.name for node in defined if isinstance(node, ast.FunctionDef)}:
                wrong.append(f"{file} has no test {test}; name the one that enforces {item!r}")
    return wrong


LISTS = items((ROOT / "CONTRIBUTING.md").read_text())


def test_there_is_a_checklist_of_each_kind() -> None:
    assert set(LISTS) == set(OF_THIS_TREE) == set(MISSING)
    assert all(LISTS.values())


def test_every_item_names_a_test_that_exists() -> None:
    assert unenforced(ROOT, LISTS) == []


def test_every_checklist_names_its_check() -> None:
    for of, lines in LISTS.items():
        plural = {"policy": "policies"}.get(of, f"{of}s")
        assert f"tests/test_checklists.py::test_{plural}_are_complete" in "".join(lines)


def test_an_item_without_a_test_would_be_noticed() -> None:
    text = "## Add a policy\n\n- A page.\n- A\n  claim. `tests/test_checklists.py::test_nothing`\n"
    first, second = unenforced(ROOT, items(text))
    assert first == "'- A page.' names no test; say which one enforces it"
    assert second.startswith("tests/test_checklists.py has no test test_nothing")
