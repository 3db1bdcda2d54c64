"""A release: one version in every file, workflows that do what `make` does, publishing without a password."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
FILES = ("pyproject.toml", "CHANGELOG.md", "CITATION.cff")


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = loaded(ROOT / ".ci" / "release.py")
VERSION = release.versions(ROOT)["pyproject.toml"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """This tree's files, the changelog dated."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    log = tmp_path / "CHANGELOG.md"
    log.write_text(
        re.sub(r"^## .*", f"## {VERSION} — 2026-01-31", log.read_text(), count=1, flags=re.MULTILINE)
    )
    return tmp_path


def test_versions_agree() -> None:
    assert release.disagreements(ROOT) == []


def test_a_dated_tree_is_released_under_its_tag(tree: Path) -> None:
    assert release.disagreements(tree, f"v{VERSION}") == []


@pytest.mark.parametrize(
    ("file", "pattern", "instead", "sentence"),
    [
        ("CITATION.cff", r"^version: .*", "version: 9.9.9",
         f"CITATION.cff states 9.9.9 and pyproject.toml {VERSION}; make them one"),
        ("CITATION.cff", r"^version: .*\n", "",
         f"CITATION.cff states no version and pyproject.toml {VERSION}; make them one"),
        ("CHANGELOG.md", r"^## .*", "## 9.9.9 — 2026-01-31",
         f"CHANGELOG.md states 9.9.9 and pyproject.toml {VERSION}; make them one"),
        ("CHANGELOG.md", r"^## .*", f"## {VERSION} — unreleased",
         f"the first heading of CHANGELOG.md has no date; write '## {VERSION} — YYYY-MM-DD'"),
    ],
)  # fmt: skip
def test_what_disagrees_is_named(tree: Path, file: str, pattern: str, instead: str, sentence: str) -> None:
    text = (tree / file).read_text()
    (tree / file).write_text(re.sub(pattern, instead, text, count=1, flags=re.MULTILINE))
    assert release.disagreements(tree, f"v{VERSION}") == [sentence]


def test_a_version_set_in_one_file_alone_is_named_for_each_other(tree: Path) -> None:
    project = (tree / "pyproject.toml").read_text()
    (tree / "pyproject.toml").write_text(project.replace(f'version = "{VERSION}"', 'version = "9.9.9"', 1))
    wrong = release.disagreements(tree, f"v{VERSION}")
    assert [sentence.split()[0] for sentence in wrong] == ["CHANGELOG.md", "CITATION.cff", "the"]


def test_another_tag_stops_the_command() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "release.py"), "v9.9.9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"the tag is v9.9.9 and pyproject.toml states {VERSION}" in done.stderr


# --- workflows ---------------------------------------------------------------------------------------------------


def flaws(name: str, text: str) -> list[str]:
    """What is wrong with a workflow: it leaves out what it is for, keeps a password, or lets anybody's code in."""
    wanted = {
        "ci.yml": ["run: .ci/run", "pull_request:", "workflow_call:"],
        "release.yml": ['tags: ["v*"]', "uses: ./.github/workflows/ci.yml", "run: make release-check TAG=",
                        "needs: [check, package]", "id-token: write", "pypa/gh-action-pypi-publish@"],
    }  # fmt: skip
    wrong = [f"{name} lacks {part!r}" for part in wanted[name] if part not in text]
    wrong += [f"{name} keeps a secret, {found}" for found in re.findall(r"secrets\.\w+", text)]
    wrong += [f"{name} puts {found} into a shell" for found in re.findall(r"run:.*(\$\{\{[^}]*\}\})", text)]
    known = ("./", "actions/", "pypa/")
    return wrong + [
        f"{name} uses {found}" for found in re.findall(r"uses: (\S+)", text) if not found.startswith(known)
    ]


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_workflows_do_what_they_are_for(name: str) -> None:
    assert flaws(name, (ROOT / ".github" / "workflows" / name).read_text()) == []


@pytest.mark.parametrize(
    ("right", "wrong", "flaw"),
    [
        (
            "run: make release-check TAG=",
            "run: make wheel #",
            "release.yml lacks 'run: make release-check TAG='",
        ),
        ("needs: [check, package]", "needs: package", "release.yml lacks 'needs: [check, package]'"),
        ("id-token: write", "password: ${{ secrets.TOKEN }}", "release.yml keeps a secret, secrets.TOKEN"),
        (
            'TAG="$TAG"',
            'TAG="${{ github.ref_name }}"',
            "release.yml puts ${{ github.ref_name }} into a shell",
        ),
        (
            "pypa/gh-action",
            "somebody/gh-action",
            "release.yml uses somebody/gh-action-pypi-publish@release/v1",
        ),
    ],
)
def test_a_flaw_of_a_workflow_is_named(right: str, wrong: str, flaw: str) -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert right in text
    assert flaw in flaws("release.yml", text.replace(right, wrong))


def test_the_check_of_a_release_is_the_one_that_the_workflow_runs() -> None:
    """Versions before packages, packages before they are installed."""
    done = subprocess.run(
        ["make", "--dry-run", "release-check", "TAG=v1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    steps = [".ci/release.py v1", "-m build", "check-wheel-contents", ".ci/newcomer"]
    at = [done.stdout.find(step) for step in steps]
    assert -1 not in at
    assert at == sorted(at)
