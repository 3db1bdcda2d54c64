"""`tandem report`: one page of every experiment, every published figure and every claim of a run.

An experiment's result is on disk as soon as it is there, OUT/NAME/NAME.json, and says by which sources it was made and
at which size.  A report takes up again what was made by these sources at its own size, and makes the rest; so a report
that is stopped goes on where it was, and none mixes versions.  The page is made of results alone, with their figures
inside it, and of the verdicts on the claims: one file, which needs no network.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

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
    """What became of one experiment: its result, or why there is none; whether it was taken up from an earlier run."""

    name: str
    claim: str
    result: Result | None
    reason: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A published figure and the rows that answer it; none where no experiment of this run does."""

    figure: Figure
    rows: Sequence[Row]
    reason: str


def make(name: str, quick: bool, out: Path, workers: int, tick: Tick) -> Result:
    """Run an experiment, put the result into OUT/NAME/NAME.json, and return it.

    Raises:
        ValueError: there is no such experiment, or it misses something it needs.
        OSError: OUT cannot be written.
    """
    module = experiments.load(name)
    folder = out / name
    writable(folder)
    found: Result = module.run(quick=quick, out=folder, workers=workers, progress=tick)
    result = dataclasses.replace(found, quick=quick, sources=fingerprint(*PACKAGES))
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
    """The result on disk, if it can be read and was made by these sources at this size; otherwise None."""
    try:
        result = Result.from_json((out / name / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError):
        return None  # none, half-written, or of a form that later versions wrote
    same = (result.name, result.quick, result.sources) == (name, quick, fingerprint(*PACKAGES))
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

    What an experiment lacks (a library, data) is said in its section, and the others go on.
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
        except (ImportError, ValueError) as problem:
            sections.append(Section(name, claim, None, str(problem)))
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
    """What the run was made on."""
    return {
        **versions(),
        "sources": fingerprint(*PACKAGES),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": str(os.cpu_count()),
    }


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
        drawings={section.name: _drawings(out / section.name) for section in sections},
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


def _drawings(folder: Path) -> list[tuple[str, str]]:
    """Title and data URI of each figure of an experiment."""
    return [
        (
            path.stem.replace("_", " "),
            "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode(),
        )
        for path in sorted(folder.glob("*.svg"))
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
                s.name: {"reason": s.reason, "taken up": s.again}
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
