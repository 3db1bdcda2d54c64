"""Kernel proofs of VTC's bounds, for any number of clients: the source Counters.v.

The system is that of :mod:`queueing.models.vtc` with linear costs, weights 1 and no predictions; requests may end
early.

Source: Sheng et al., OSDI 2024, arXiv 2401.00588 (bounds with max(wp·L, wq·M) and factors 1, 2, 4, recalled); constants
and proofs are our derivation.
"""

from __future__ import annotations

from collections.abc import Iterable

from queueing.proofs.certificate import Certificate, Kind
from queueing.proofs.claim import Claim, Evidence
from queueing.proofs.kernel import KernelProof

__all__ = ["CLAIMS", "WEAKENED"]

SOURCE = "arXiv 2401.00588, with another constant (recalled); constant and proof are our derivation"
ASSUMED = (
    "outputs are reserved whole, nothing is preempted, a prompt is charged when it is admitted",
    "prompts of at most L tokens, M tokens of memory, 0 <= wp, 0 < wq;  U* = wq·M + max(0, wp - wq)·L",
)
PAGE = "docs/models/vtc.md"

# name -> text of Counters.v, and what stands there instead; the file does not compile then
WEAKENED = {
    "the published constant": ("wq * M + Z.max 0 (wp - wq) * L.", "Z.max (wp * L) (wq * M)."),
    "no lift if nobody waits": ("/\\ x = c s (last s)).", "/\\ x = 0)."),
    "no lift": ("set (c s) u (Z.max (c s u) x)", "set (c s) u (c s u)"),
    "a lift may lower": ("set (c s) u (Z.max (c s u) x)", "set (c s) u x"),
    "anybody is admitted": (
        "(forall i, (i < N)%nat -> Q s i = true -> c s a <= c s i) ->\n      0 <= inp",
        "0 <= inp",
    ),
    "outputs are not reserved": (
        "sum N (m s) + inp + out <= M ->\n      step",
        "sum N (m s) + inp <= M ->\n      step",
    ),
    "last is not kept": ("last := if stays then last s else a |}.", "last := last s |}."),
}


def _proved(*theorems: str) -> Evidence:
    def evidence() -> Iterable[Certificate]:
        return [KernelProof("Counters", theorem) for theorem in theorems]

    return evidence


def _weakened(theorem: str, name: str) -> Evidence:
    def evidence() -> Iterable[Certificate]:
        return [KernelProof("Counters", theorem, (WEAKENED[name],))]

    return evidence


CLAIMS = (
    Claim(
        "vtc-kernel-gap",
        "Counters of two clients with a waiting request differ by at most U*, for any number of clients.",
        SOURCE,
        Kind.KERNEL,
        ASSUMED,
        _proved("vtc_invariant", "vtc_gap"),
        {
            name: _weakened("vtc_gap", name)
            for name in (
                "the published constant",
                "no lift if nobody waits",
                "no lift",
                "outputs are not reserved",
            )
        },
        PAGE,
    ),
    Claim(
        "vtc-kernel-two-backlogged",
        "The service of two clients that wait all through a window differs by at most 2U*; the factor is met.",
        SOURCE,
        Kind.KERNEL,
        ASSUMED,
        _proved("vtc_two_backlogged", "vtc_tight"),
        {name: _weakened("vtc_two_backlogged", name) for name in ("anybody is admitted", "last is not kept")},
        PAGE,
    ),
    Claim(
        "vtc-kernel-any-client",
        "Nobody gets more than 2U* beyond a client that waits all through the window; nor while a newcomer waits.",
        SOURCE,
        Kind.KERNEL,
        ASSUMED,
        _proved("vtc_any_client", "vtc_dispatch"),
        {"a lift may lower": _weakened("vtc_any_client", "a lift may lower")},
        PAGE,
    ),
)
