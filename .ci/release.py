"""A version is written down in four places, and a release is of one: what disagrees, one sentence each.

    python .ci/release.py [TAG]

Without a tag the files must agree among themselves; with one, which is "v" and the version, they must be that version
and the changelog must say when.  Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def versions(root: Path) -> dict[str, str]:
    """The version that each file states; "" where it states none."""
    stated = {
        "CHANGELOG.md": r"^## (\S+)",  # the first heading is the newest
        "CITATION.cff": r"^version: (\S+)$",
    }
    found = {
        "pyproject.toml": str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])
    }
    for file, pattern in stated.items():
        match = re.search(pattern, (root / file).read_text(), re.MULTILINE)
        found[file] = match[1] if match else ""
    return found


def disagreements(root: Path, tag: str = "") -> list[str]:
    """What stands against a release of this tree under this tag."""
    found = versions(root)
    wanted = found["pyproject.toml"]
    wrong = [
        f"{file} states {version or 'no version'} and pyproject.toml {wanted}; make them one"
        for file, version in found.items()
        if version != wanted
    ]
    if tag and tag != f"v{wanted}":
        wrong.append(f"the tag is {tag} and pyproject.toml states {wanted}; tag v{wanted} or set the version")
    heading = re.search(r"^## .*", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    if tag and (heading is None or not re.search(r"\d{4}-\d\d-\d\d$", heading[0])):
        wrong.append(f"the first heading of CHANGELOG.md has no date; write '## {wanted} — YYYY-MM-DD'")
    return wrong


if __name__ == "__main__":
    sys.exit("\n".join(disagreements(ROOT, *sys.argv[1:2])) or None)
