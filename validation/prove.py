"""`tandem prove`: every claim of the library, checked again, with how it is known and what refutes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from queueing.proofs.certificate import Kind, Unchecked
from queueing.proofs.claim import Claim, Verdict, checked, claims_in
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


def prove(claims: Sequence[Claim], tick: Callable[[int, int], None]) -> list[Verdict]:
    """Check claims one after the other; `tick(done, total)` after each."""
    verdicts: list[Verdict] = []
    for claim in claims:
        verdicts.append(checked(claim))
        tick(len(verdicts), len(claims))
    return verdicts


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
