"""Kernel proofs of VTC's bounds, for any number of clients: the sources Counters.v and Vtc.v.

The system is that of :mod:`queueing.models.vtc` with linear costs and no predictions; requests may end early.
Counters.v has weights 1 and admission by reservation; Vtc.v weights, any rule of admission, and charges by chunks;
Vtc_controls.v the runs, played by computation, in which smaller constants and altered rules fail.

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


def _proved(*theorems: str, file: str = "Counters") -> Evidence:
    def evidence() -> Iterable[Certificate]:
        return [KernelProof(file, theorem) for theorem in theorems]

    return evidence


def _weakened(theorem: str, name: str) -> Evidence:
    def evidence() -> Iterable[Certificate]:
        return [KernelProof("Counters", theorem, (WEAKENED[name],))]

    return evidence


def _altered(theorem: str, old: str, new: str, file: str = "Vtc") -> Evidence:
    def evidence() -> Iterable[Certificate]:
        return [KernelProof(file, theorem, ((old, new),))]

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
    Claim(
        "vtc-kernel-weighted",
        "With weights, services divided by them differ by at most U*/f_f + U*/f_g while f and g wait, and any g is "
        "ahead of an f that waits by at most U*/f_g + U*/min(f_f, f_g); 2U* is met for all lengths and prices.",
        SOURCE,
        Kind.KERNEL,
        ASSUMED,
        _proved("vtc_reserved", "vtc_tight", file="Vtc"),
        {
            "not all commitments count": _altered(
                "vtc_reserved", "now + sum N (R s) + later <= U ->", "now + later <= U ->"
            )
        },
        PAGE,
    ),
    Claim(
        "vtc-kernel-any-admission",
        "The bounds hold with U the most that an admission charges and leaves committed, whatever rule admits.",
        "our derivation",
        Kind.KERNEL,
        ("no preemption; a prompt is charged when it is admitted, or committed to and charged by chunks",),
        _proved("vtc_any_admission", file="Vtc"),
        {
            "a lift that does not lift": _altered(
                "vtc_any_admission", "x <= raise a x <= Z.max a x.", "raise a x <= Z.max a x."
            )
        },
        PAGE,
    ),
    Claim(
        "vtc-kernel-chunked",
        "With prompts charged chunk by chunk the bounds hold with max(wp, wq)·M.",
        "our derivation",
        Kind.KERNEL,
        ASSUMED,
        _proved("vtc_chunked", file="Vtc"),
        {"wq·M": _altered("vtc_chunked", "(Z.max wp wq * M).", "(wq * M).")},
        PAGE,
    ),
    Claim(
        "vtc-kernel-smaller-constants-fail",
        "The gap may exceed max(wp·L, wq·M), and services in a window twice that, where wp > wq; charged by chunks "
        "it may exceed U*; with weights g may be ahead of an f that waits by more than U*/f_f + U*/f_g.",
        SOURCE,
        Kind.KERNEL,
        ("each for some prices, lengths, memory and run",),
        _proved(
            "published_constant_fails",
            "published_factor_2_fails",
            "chunked_needs_more",
            "weights_need_the_least",
            file="Vtc_controls",
        ),
        {
            "U* fails": _altered(
                "published_constant_fails",
                "c (core s) f - c (core s) g <= Z.max (wp * L) (wq * M).",
                "c (core s) f - c (core s) g <= Ustar wp wq M L.",
                file="Vtc_controls",
            )
        },
        PAGE,
    ),
    Claim(
        "vtc-kernel-rules-needed",
        "Where U* is 2, fifty rounds lead to 100 without the lift, without it on an empty queue, if the last client to "
        "leave is not kept, if a lift may lower, or if anybody is admitted; unreserved outputs lead beyond U*.",
        "the empty queue: the published artifact's code; the runs are our derivation",
        Kind.KERNEL,
        ("two clients, prices of 1",),
        _proved(
            "no_lift",
            "no_lift_if_nobody_waits",
            "last_not_kept",
            "lift_lowers",
            "anybody_admitted",
            "outputs_not_reserved",
            "vtc_on_these_runs",
            file="Vtc_controls",
        ),
        {
            "VTC as it is": _altered(
                "no_lift_if_nobody_waits",
                "unless_empty := true;",
                "unless_empty := false;",
                file="Vtc_controls",
            )
        },
        PAGE,
    ),
)
