"""Claims: what the library says is true, how it is known, and what would refute it.

A module declares its claims in a tuple `CLAIMS`; :func:`claims_in` finds them all.
"""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from queueing.proofs.certificate import PROOFS, Certificate, Kind, Refuted, Unchecked

__all__ = ["Claim", "Verdict", "checked", "claims_in"]

Evidence = Callable[[], Iterable[Certificate]]

WITHOUT_EVIDENCE = frozenset({Kind.TESTED, Kind.MEASURED, Kind.CITED, Kind.OPEN})


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that the library holds to be true.

    Args:
        name: short and unique, such as "vtc-gap".
        statement: the claim in one sentence.
        assumptions: under which it is claimed.
        source: paper and theorem, with an honest status: published, recalled, our derivation.
        kind: how it is known.
        evidence: makes the certificates, all of which must hold; none for `tested`, `measured`, `cited` and `open`.
        controls: name of a weakened hypothesis -> certificates, each of which must be refuted.
        where: for `tested` and `measured`, the test or experiment; for others, where to read on.

    Raises:
        ValueError: a proof without evidence or without a control, or evidence for what is no proof.
    """

    name: str
    statement: str
    source: str
    kind: Kind
    assumptions: tuple[str, ...] = ()
    evidence: Evidence | None = None
    controls: Mapping[str, Evidence] = field(default_factory=dict[str, Evidence])
    where: str = ""

    def __post_init__(self) -> None:
        proof = self.kind in PROOFS
        if proof and (self.evidence is None or not self.controls):
            raise ValueError(
                f"the claim {self.name} is proved ({self.kind}); give its evidence and a control"
            )
        if not proof and (self.evidence is not None or self.controls):
            raise ValueError(f"the claim {self.name} is {self.kind} and no proof; it can have no certificate")
        if self.kind in (Kind.TESTED, Kind.MEASURED) and not self.where:
            raise ValueError(f"the claim {self.name} is {self.kind}; say where")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of a claim found.

    `ok`: True if all its certificates hold and all controls are refuted, False if not, None if nothing was checked;
    `controls`: name -> whether it was refuted; `certificates`: how many were checked; `reason`: why not ok.
    """

    claim: Claim
    ok: bool | None
    seconds: float
    certificates: int
    controls: Mapping[str, bool]
    reason: str = ""

    def record(self) -> dict[str, Any]:
        """As `tandem prove --json` prints it."""
        return {
            "claim": self.claim.name,
            "statement": self.claim.statement,
            "assumptions": list(self.claim.assumptions),
            "source": self.claim.source,
            "kind": str(self.claim.kind),
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "certificates": self.certificates,
            "negative_controls": [
                {"name": name, "refuted": refuted} for name, refuted in self.controls.items()
            ],
            "where": self.claim.where,
            "reason": self.reason,
        }


def checked(claim: Claim) -> Verdict:
    """Check a claim's certificates, and that every negative control is refuted."""
    began, count, controls = time.perf_counter(), 0, dict.fromkeys(claim.controls, False)

    def verdict(ok: bool | None, reason: str = "") -> Verdict:
        return Verdict(claim, ok, time.perf_counter() - began, count, controls, reason)

    if claim.evidence is None:
        return verdict(None, f"{claim.kind}: there is no certificate to check")
    try:
        for certificate in claim.evidence():
            certificate.check()
            count += 1
        for name, weakened in claim.controls.items():
            certificates = list(weakened())
            controls[name] = bool(certificates) and not any(c.holds for c in certificates)
            if not controls[name]:
                return verdict(False, f"the negative control {name!r} is not refuted")
    except Refuted as wrong:
        return verdict(False, str(wrong))
    except Unchecked as gap:
        return verdict(None, str(gap))
    if count == 0:
        return verdict(False, "no certificate was made")
    return verdict(True)


def claims_in(*packages: str) -> list[Claim]:
    """The claims of every module of these packages, by name.

    Raises:
        ValueError: two claims have one name.
    """
    found: dict[str, Claim] = {}
    for package in packages:
        root = importlib.import_module(package)
        names = [module.name for module in pkgutil.walk_packages(root.__path__, f"{package}.")]
        for module in [package, *names]:
            for claim in getattr(importlib.import_module(module), "CLAIMS", ()):
                if found.setdefault(claim.name, claim) is not claim:
                    raise ValueError(f"two claims are named {claim.name}; give each its own name")
    return [found[name] for name in sorted(found)]
