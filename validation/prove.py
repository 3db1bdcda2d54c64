"""`tandem prove`: every claim of the library, checked again, with how it is known and what refutes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from difflib import get_close_matches
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from queueing.proofs.certificate import Kind, Unchecked
from queueing.proofs.claim import Claim, Verdict, checked, claims_in
from queueing.proofs.kernel import KernelProof
from queueing.proofs.smt import Obligation, write

__all__ = ["PACKAGES", "chosen_claims", "prove", "verdict_text", "write_scripts"]

PACKAGES = ("queueing", "policies")


def chosen_claims(names: Sequence[str], kernel: bool) -> list[Claim]:
    """The claims of these names, or all; those of Coq's kernel only if asked for, by flag or by name.

    Raises:
        ValueError: there is no such claim.
    """
    everything = {claim.name: claim for claim in claims_in(*PACKAGES)}
    for name in names:
        if name not in everything:
            near = get_close_matches(name, everything, 3) or sorted(everything)[:3]
            raise ValueError(f"there is no claim {name!r}; did you mean {', '.join(near)}?")
    if names:
        return [everything[name] for name in names]
    return [claim for claim in everything.values() if kernel or claim.kind != Kind.KERNEL]


def prove(claims: Sequence[Claim], tick: Callable[[int, int], None], workers: int = 1) -> list[Verdict]:
    """Check claims, in `workers` processes side by side; `tick(done, total)` as they are done.

    The solvers' limits are in seconds of the clock, so give no more workers than processors.
    """
    found: dict[str, Verdict] = {}
    if workers == 1:
        for claim in claims:
            found[claim.name] = checked(claim)
            tick(len(found), len(claims))
        return list(found.values())
    by_name = {claim.name: claim for claim in claims}
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        for done in as_completed([pool.submit(_findings, names) for names in _groups(claims)]):
            for name, *finding in done.result():
                found[name] = Verdict(by_name[name], *finding)
            tick(len(found), len(claims))
    return [found[claim.name] for claim in claims]


def _groups(claims: Sequence[Claim]) -> list[list[str]]:
    """Names of claims that one process checks: those of a Coq source together, as it is compiled once; long first."""
    sources: dict[str, list[str]] = {}
    others: list[list[str]] = []
    for claim in claims:
        proofs = list(claim.evidence()) if claim.kind == Kind.KERNEL and claim.evidence is not None else []
        if proofs and isinstance(proofs[0], KernelProof):
            sources.setdefault(proofs[0].file, []).append(claim.name)
        else:
            others.append([claim.name])
    solvers = {claim.name for claim in claims if claim.kind == Kind.SOLVER}
    return [*sources.values(), *sorted(others, key=lambda names: names[0] not in solvers)]


def _findings(names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Check claims by name, in a process of its own: a claim itself cannot be sent, what is found can."""
    verdicts = prove(chosen_claims(names, kernel=True), lambda done, total: None)
    return [(v.claim.name, v.ok, v.seconds, v.certificates, dict(v.controls), v.reason) for v in verdicts]


def verdict_text(verdict: Verdict) -> str:
    """The verdict in a word: proved, fails, not checked, or the kind of what is no proof."""
    if verdict.ok is None:
        return str(verdict.claim.kind) if verdict.claim.evidence is None else "not checked"
    return "proved" if verdict.ok else "FAILS"


def write_scripts(claims: Sequence[Claim], folder: Path) -> list[Path]:
    """Write every solver obligation of these claims, those of the controls in a folder of their own below."""
    paths: list[Path] = []
    for claim in claims:
        if claim.kind != Kind.SOLVER or claim.evidence is None:
            continue
        try:
            paths += write([o for o in claim.evidence() if isinstance(o, Obligation)], folder / claim.name)
            for name, weakened in claim.controls.items():
                place = folder / claim.name / "controls" / "".join(c if c.isalnum() else "-" for c in name)
                paths += write([o for o in weakened() if isinstance(o, Obligation)], place)
        except Unchecked:
            continue
    return paths
