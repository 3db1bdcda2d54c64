"""`tandem report`: one page of every experiment, every published figure and every claim of a run.

An experiment's result is on disk as soon as it is there, OUT/NAME/NAME.json, and says at which size it was made and
by which sources, versions of libraries, reference data and processor.  A report takes up again what was made by the
same at its own size, and makes the rest; so a report that is stopped goes on where it was, and none mixes versions.
The page is made of results alone, with their figures inside it, and of the verdicts on the claims: one file, which
needs no network.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

from queueing.data import Lacking, data_folder
from queueing.proofs.claim import Verdict
from queueing.simulator import versions
from validation import experiments
from validation.prove import verdict_text
from validation.published import Figure, figures
from validation.result import Result, Row, write_atomically
from validation.sources import fingerprint

__all__ = [
    "PACKAGES",
    "Answer",
    "Section",
    "answers",
    "as_json",
    "environment",
    "gather",
    "kept",
    "make",
    "page",
    "writable",
]

PACKAGES = ("queueing", "policies", "gpu", "validation")
Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Section:
    """What became of one experiment: its result, or why there is none.

    `again`: the result was taken up from an earlier run; `failed`: there is none by an error, and not for something
    that is not here.
    """

    name: str
    claim: str
    result: Result | None
    reason: str = ""
    again: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A published figure and the rows that answer it; none where no experiment of this run does."""

    figure: Figure
    rows: Sequence[Row]
    reason: str


def make(name: str, quick: bool, out: Path, workers: int, tick: Tick) -> Result:
    """Run an experiment, put its figures and then the result, NAME.json, into the folder OUT/NAME, and return it.

    Raises:
        ValueError: there is no such experiment.
        Lacking, ImportError: it needs something that is not here.
        OSError: OUT cannot be written.
    """
    module = experiments.load(name)
    folder = out / name
    writable(folder)
    made_by = environment()  # before the run: what is edited during it did not make it
    with tempfile.TemporaryDirectory(
        prefix=f".{name}-", dir=out
    ) as fresh:  # none of it, if the run is stopped
        found: Result = module.run(quick=quick, out=Path(fresh), workers=workers, progress=tick)
        drawings = sorted(path.name for path in Path(fresh).glob("*.svg"))
        shutil.copytree(fresh, folder, dirs_exist_ok=True)
    result = dataclasses.replace(found, quick=quick, versions=made_by, drawings=drawings)
    write_atomically(folder / f"{name}.json", result.to_json().encode())
    return result


def writable(folder: Path) -> None:
    """Make a folder, and know before the work that it can be written; OSError if it cannot."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".{os.getpid()}.part"
    try:
        probe.touch()
    finally:
        probe.unlink(missing_ok=True)


def kept(name: str, quick: bool, out: Path) -> Result | None:
    """The result on disk, if it can be read and was made at this size in this environment; otherwise None."""
    try:
        result = Result.from_json((out / name / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError):
        return None  # none, half-written, or of a form that later versions wrote
    same = (result.name, result.quick, result.versions) == (name, quick, environment())
    return result if same else None


def gather(
    names: Sequence[str],
    quick: bool,
    out: Path,
    workers: int,
    fresh: bool,
    tick: Callable[[str, int, int], None],
) -> list[Section]:
    """The results of these experiments, made or taken up; `tick(name, done, total)` tells how far each is.

    What an experiment lacks (a library, data), or the error that it ends with, is said in its section, and the others
    go on.
    """
    sections: list[Section] = []
    for name in names:
        claim = (experiments.load(name).__doc__ or "").splitlines()[0]
        result = None if fresh else kept(name, quick, out)
        if result is not None:
            sections.append(Section(name, claim, result, again=True))
            continue
        try:
            made = make(name, quick, out, workers, lambda done, total, name=name: tick(name, done, total))
            sections.append(Section(name, claim, made))
        except (ImportError, Lacking) as problem:
            sections.append(Section(name, claim, None, str(problem)))
        except Exception as problem:  # noqa: BLE001  # whatever it is, it concerns this section alone
            reason = f"{type(problem).__name__}: {problem}"
            sections.append(Section(name, claim, None, reason, failed=True))
    return sections


def answers(sections: Sequence[Section]) -> list[Answer]:
    """Every published figure with the rows of this run that answer it, or the reason why there is none."""
    rows: dict[str, list[Row]] = {}
    for section in sections:
        for row in () if section.result is None else section.result.rows:
            if row.key is not None:
                rows.setdefault(row.key, []).append(row)
    states = {s.name: s.reason or "this run has no row for it" for s in sections}
    found: list[Answer] = []
    for key, figure in figures().items():
        here = rows.get(key, [])
        absent = figure.reason or states.get(
            figure.experiment or "", "its experiment is not part of this run"
        )
        found.append(Answer(figure, here, "" if here else absent))
    return found


def environment() -> dict[str, str]:
    """What a run is made by: sources, versions of everything that the package asks for, reference data, processor."""
    return {
        **versions(),
        "libraries": ", ".join(f"{name} {version}" for name, version in _installed().items()),
        "sources": fingerprint(*PACKAGES),
        "reference data": _listing(data_folder()),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": str(os.cpu_count()),
    }


def _installed() -> dict[str, str]:
    """Versions of what is installed of the requirements, those of the extras included."""
    found: dict[str, str] = {}
    for line in metadata.requires("tandem-queueing") or ():
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return dict(sorted(found.items()))


def _listing(folder: Path | None) -> str:
    """Digest of names, sizes and times of the files of a folder, which may be too many to read."""
    if folder is None:
        return "none"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    seen = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


def _processor() -> str:
    """Name of the processor, on which the last bit of a figure and every measured time depend."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor()


def page(
    sections: Sequence[Section], claims: Sequence[Verdict], quick: bool, out: Path, host: Mapping[str, str]
) -> str:
    """The page as HTML in one string."""
    try:
        jinja2: Any = importlib.import_module("jinja2")
    except ImportError:
        raise ValueError("a report needs jinja2: pip install 'tandem-queueing[plots]'") from None
    shape = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shape.filters["figure"] = _number
    shape.globals["verdict_text"] = verdict_text
    rows = [row for section in sections if section.result for row in section.result.rows]
    counts = {
        verdict: sum(row.verdict == verdict for row in rows)
        for verdict in ("reproduced", "differs", "not testable here")
    }
    found = answers(sections)
    text = (files("validation") / "report.html.jinja").read_text(encoding="utf-8")
    return shape.from_string(text).render(
        sections=sections,
        drawings={s.name: _drawings(out / s.name, s.result.drawings) for s in sections if s.result},
        answers=found,
        answered=sum(bool(answer.rows) for answer in found),
        claims=claims,
        kinds={
            kind: sum(v.claim.kind == kind for v in claims)
            for kind in dict.fromkeys(v.claim.kind for v in claims)
        },
        counts=counts,
        quick=quick,
        environment=host,
    )


def _drawings(folder: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """Title and data URI of each figure of an experiment."""
    return [
        (
            path.stem.replace("_", " "),
            "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode(),
        )
        for path in (folder / name for name in names)
        if path.is_file()
    ]


def _number(value: Any) -> str:
    """A figure as people read it."""
    if value is None or value != value:  # nan
        return "–"
    if isinstance(value, float):
        return "∞" if value == float("inf") else "−∞" if value == -float("inf") else f"{value:.4g}"
    return str(value)


def as_json(sections: Sequence[Section], claims: Sequence[Verdict], host: Mapping[str, str]) -> str:
    """The report as one JSON object."""
    return json.dumps(
        {
            "environment": dict(host),
            "experiments": {
                s.name: {"reason": s.reason, "failed": s.failed}
                if s.result is None
                else json.loads(s.result.to_json())
                for s in sections
            },
            "published": [
                {"key": a.figure.key, "answered by": len(a.rows), "reason": a.reason}
                for a in answers(sections)
            ],
            "claims": [
                {"name": v.claim.name, "kind": str(v.claim.kind), "verdict": verdict_text(v)} for v in claims
            ],
        },
        indent=1,
    )
