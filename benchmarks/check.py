"""Ratios of speed now beside the stored ones: a table, and what to do where one got worse.

    python benchmarks/check.py [NAME ...] [--update]

NAME is a benchmark of `stored.json`; without one all are run, some minutes.  Only ratios are stored, which mean the
same on any machine, or nearly; each with a tolerance, a share of what is stored, and the reason for it.  A ratio is a
median of neighbouring runs already.  One beyond its threshold is no regression yet, since machines are shared: its
benchmark runs twice more, and the median of the three is judged.  If noise alone puts a share p of runs beyond the
threshold, a regression is called wrongly with a probability of at most 3p².

`--update` stores the median of three runs.  Exit code 1 if a ratio got worse, 2 for bad input, 125 if a
benchmark could not be run, which `git bisect run` takes for neither good nor bad.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from validation.result import write_atomically

HERE = Path(__file__).resolve().parent
STORED = HERE / "stored.json"
RUNS, NOT_RUN = 3, 125

Run = Callable[[str], Mapping[str, Any]]


class NotRun(Exception):
    """A benchmark that gave no figures; the message says why."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A stored ratio `field` of the output of `benchmark`; beyond `threshold` it got worse."""

    benchmark: str
    field: str
    stored: float
    better: Literal["higher", "lower"]
    tolerance: float  # share of what is stored
    reason: str  # for the tolerance

    def __post_init__(self) -> None:
        if self.better not in ("higher", "lower"):
            raise ValueError(f"{self.name}: better is higher or lower, not {self.better!r}")
        if not 0 < self.stored < math.inf:
            raise ValueError(f"{self.name}: stored must be a positive number, not {self.stored!r}")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"{self.name}: tolerance is a share between 0 and 1, not {self.tolerance!r}")
        if not self.reason:
            raise ValueError(f"{self.name}: give the reason for a tolerance of {self.tolerance}")

    @property
    def name(self) -> str:
        return f"{self.benchmark} {self.field}"

    @property
    def threshold(self) -> float:
        return self.stored * (1 - self.tolerance if self.better == "higher" else 1 + self.tolerance)

    def verdict(self, now: float) -> Literal["ok", "better", "worse"]:
        """`better` is as far from the stored ratio as `worse` is, on the other side."""
        low, high = self.stored * (1 - self.tolerance), self.stored * (1 + self.tolerance)
        if low <= now <= high:
            return "ok"
        return "better" if (now > high) == (self.better == "higher") else "worse"


@dataclass(frozen=True, slots=True)
class Finding:
    """A ratio as it is now, the median of so many runs."""

    ratio: Ratio
    now: float
    runs: int

    @property
    def verdict(self) -> str:
        return self.ratio.verdict(self.now)


def read(path: Path = STORED) -> list[Ratio]:
    """The stored ratios.

    Raises:
        ValueError: the file is no JSON of this form; one sentence says where.
    """
    try:
        stored = json.loads(path.read_text())
        return [Ratio(name, field, **of) for name, fields in stored.items() for field, of in fields.items()]
    except (TypeError, AttributeError, json.JSONDecodeError) as wrong:
        raise ValueError(f"{path.name} is not {{benchmark: {{field: ratio}}}}: {wrong}") from None


def text(ratios: Iterable[Ratio]) -> str:
    """What :func:`read` reads."""
    stored: dict[str, dict[str, Any]] = {}
    for ratio in ratios:
        values = {name: value for name, value in asdict(ratio).items() if name not in ("benchmark", "field")}
        stored.setdefault(ratio.benchmark, {})[ratio.field] = values
    return json.dumps(stored, indent=1) + "\n"


def chosen(ratios: list[Ratio], names: Iterable[str]) -> list[Ratio]:
    """The ratios of these benchmarks, of all if there are none."""
    known, names = list(dict.fromkeys(ratio.benchmark for ratio in ratios)), list(names)
    for name in names:
        if name not in known:
            raise ValueError(f"there is no benchmark {name!r} with stored ratios; known: {', '.join(known)}")
    return [ratio for ratio in ratios if not names or ratio.benchmark in names]


def run(benchmark: str) -> Mapping[str, Any]:
    """Figures of one run at the smaller size."""
    command = [sys.executable, str(HERE / f"{benchmark}.py"), "--json", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parent)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise NotRun(f"benchmarks/{benchmark}.py ended with exit code {done.returncode}: {last}")
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        raise NotRun(f"benchmarks/{benchmark}.py --json printed something else than one object") from None


def value(ratio: Ratio, figures: Mapping[str, Any]) -> float:
    found = figures.get(ratio.field)
    if not isinstance(found, int | float) or not 0 < found < math.inf:
        raise NotRun(
            f"benchmarks/{ratio.benchmark}.py prints {ratio.field} = {found!r} and no positive number; "
            "print it, or take it out of stored.json"
        )
    return float(found)


def judged(ratios: list[Ratio], run: Run = run, *, runs: int = 1, most: int = RUNS) -> list[Finding]:
    """The ratios of one benchmark: medians of `runs` runs, and of `most` if one got worse in those.

    Raises:
        NotRun: the benchmark failed, or does not print a ratio.
    """
    (benchmark,) = {ratio.benchmark for ratio in ratios}
    values: dict[str, list[float]] = {ratio.field: [] for ratio in ratios}

    def look(times: int) -> list[Finding]:
        for _ in range(times):
            figures = run(benchmark)
            for ratio in ratios:
                values[ratio.field].append(value(ratio, figures))
        return [Finding(r, statistics.median(values[r.field]), len(values[r.field])) for r in ratios]

    found = look(runs)
    return look(most - runs) if runs < most and any(each.verdict == "worse" for each in found) else found


def table(findings: Iterable[Finding]) -> str:
    lines = [f"{'ratio':38} {'stored':>8} {'now':>8} {'threshold':>12} {'runs':>5}  verdict"]
    for found in findings:
        ratio = found.ratio
        limit = f"{'>=' if ratio.better == 'higher' else '<='} {ratio.threshold:.4g}"
        lines.append(
            f"{ratio.name:38} {ratio.stored:8.4g} {found.now:8.4g} {limit:>12} {found.runs:5}  {found.verdict}"
        )
    return "\n".join(lines)


def advice(found: Finding) -> str:
    """What to do about a ratio that got worse."""
    ratio = found.ratio
    return (
        f"{ratio.name} went from {ratio.stored:.4g} to {found.now:.4g}, beyond {ratio.threshold:.4g}: find the change "
        f"with `git bisect run python benchmarks/check.py {ratio.benchmark}`; if the loss is meant, say why in "
        f"CHANGELOG.md and store it with `python benchmarks/check.py {ratio.benchmark} --update`"
    )


def updated(ratios: list[Ratio], findings: Iterable[Finding]) -> list[Ratio]:
    """All ratios, those found anew with what was found, in four digits."""
    now = {found.ratio.name: float(f"{found.now:.4g}") for found in findings}
    return [replace(ratio, stored=now.get(ratio.name, ratio.stored)) for ratio in ratios]


def main(arguments: list[str] | None = None, run: Run = run, path: Path = STORED) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks; all if none is named")
    parser.add_argument("--update", action="store_true", help="store what is found, the median of three runs")
    asked = parser.parse_args(arguments)
    try:
        every = read(path)
        ratios = chosen(every, asked.names)
    except ValueError as wrong:
        print(wrong, file=sys.stderr)
        return 2
    findings: list[Finding] = []
    failed: list[NotRun] = []
    for benchmark in dict.fromkeys(ratio.benchmark for ratio in ratios):
        print(f"{benchmark} ...", file=sys.stderr, flush=True)
        of_it = [ratio for ratio in ratios if ratio.benchmark == benchmark]
        try:
            findings += judged(of_it, run, runs=RUNS if asked.update else 1)
        except NotRun as why:
            failed.append(why)
    print(table(findings))
    for why in failed:
        print(why, file=sys.stderr)
    if asked.update:
        write_atomically(path, text(updated(every, findings)).encode())
        return NOT_RUN if failed else 0
    worse = [found for found in findings if found.verdict == "worse"]
    for found in worse:
        print(advice(found))
    return NOT_RUN if failed else int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
