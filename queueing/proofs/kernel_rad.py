"""Kernel proofs on RAD, work conservation and drift: the sources Tile.v, Rad.v, Conserving.v and Foster.v.

The model has no clock but whole numbers in a unit of time that is arbitrary, so that all rational instants are covered,
those inside a batch too.  Runs that refute what is claimed when a hypothesis is dropped are in Rad_controls.v.

Source: arXiv 2508.01002 (RAD) and arXiv 2504.07347 (work conservation); the path-wise forms are our derivation.
"""

from __future__ import annotations

from collections.abc import Iterable

from queueing.proofs.certificate import Certificate, Kind
from queueing.proofs.claim import Claim, Evidence
from queueing.proofs.kernel import KernelProof

__all__ = ["CLAIMS"]

ALIGNED = "prompts are multiples of the chunk, and the chunk of the tile"
PAGE = "docs/models/stability.md"
LATE = ("if b <=? count D", "if b + 1 <=? count D")


def _proved(file: str, *theorems: str) -> Evidence:
    def evidence() -> Iterable[Certificate]:
        return [KernelProof(file, theorem) for theorem in theorems]

    return evidence


def _altered(file: str, theorem: str, old: str, new: str) -> Evidence:
    def weakened() -> Iterable[Certificate]:
        return [KernelProof(file, theorem, ((old, new),))]

    return weakened


CLAIMS = (
    Claim(
        "rad-batches",
        "Every batch of RAD is a multiple of the tile, or one token for each of fewer than b decodes while no prompt "
        "waits.",
        "arXiv 2508.01002, algorithm 1 (recalled); the proof is our derivation",
        Kind.KERNEL,
        (ALIGNED,),
        _proved("Rad", "rad_batch", "rad_full_or_drained"),
        {"prompts are served up to b decodes": _altered("Rad", "rad_batch", *LATE)},
        "queueing/proofs/coq/Rad.v",
    ),
    Claim(
        "rad-decodes",
        "RAD never decodes more than b requests at once: they grow by at most one, and only from fewer than b.",
        "arXiv 2508.01002 (recalled); the proof is our derivation",
        Kind.KERNEL,
        (ALIGNED,),
        _proved("Rad", "rad_decodes_bound", "rad_tidy"),
        {"prompts are served up to b decodes": _altered("Rad", "rad_decodes_bound", *LATE)},
        "queueing/proofs/coq/Rad.v",
    ),
    Claim(
        "rad-sandwich",
        "For all arrivals, at every instant, Q* <= W <= Q* + w(b - 1)d + τ/b, W the backlog of RAD and Q* of the ideal "
        "fluid server.",
        "our derivation",
        Kind.KERNEL,
        (ALIGNED, "at most d decode tokens a request", "one engine, no cycles, ample memory", "the tile law"),
        _proved("Rad", "rad_sandwich", "rad_ideal"),
        {
            "a constant without τ/b": _altered("Rad", "rad_sandwich", " * (b - 1) * dmax + tau.", " * (b - 1) * dmax."),
            "prompts of any length": _altered("Rad", "rad_sandwich", "(c | fst r) /\\", "True /\\"),
        },
        PAGE,
    ),
    Claim(
        "rad-envelope",
        "If arrivals bring at most σ + ρt of work in any time t, and ρ <= 1, then RAD's backlog never exceeds "
        "σ + w(b - 1)d + τ/b.",
        "our derivation",
        Kind.KERNEL,
        (ALIGNED, "as for rad-sandwich"),
        _proved("Rad", "rad_sigma_rho"),
        {"any ρ": _altered("Rad", "rad_sigma_rho", "0 < rd -> rn <= rd ->", "0 < rd ->")},
        PAGE,
    ),
    Claim(
        "work-conserving-batches",
        "n requests of 1 to L tokens that hold more than (b - 1)L together are at least b, so that a work-conserving "
        "batch has b tokens.",
        "arXiv 2504.07347 (recalled); the proof is our derivation",
        Kind.KERNEL,
        ("every request may be given a token",),
        _proved("Rad", "pigeonhole", "work_conserving_full"),
        {"(b - 2)L tokens": _altered("Rad", "pigeonhole", "(b - 1) * Lmax < total l -> b <= count l",
                                     "(b - 2) * Lmax < total l -> b <= count l")},
        PAGE,
    ),
    Claim(
        "token-rate-converse",
        "No policy serves more than b·t/t(b) tokens by t; under the affine law c + a·max(0, n - b0) the largest batch "
        "is the cheapest if and only if c >= a·b0.",
        "our derivation",
        Kind.KERNEL,
        (
            "batches of at most b tokens, none cheaper per token than one of b: n·t(b) <= b·t(n)",
            "under the affine law a >= 0; only if: 1 <= b0 < b",
        ),
        _proved("Conserving", "affine_rate", "affine_rate_only_if", "any_policy_rate"),
        {"any c and b0": _altered("Conserving", "affine_rate", "0 <= b0 -> a * b0 <= c -> 1", "0 <= b0 -> 1")},
        PAGE,
    ),
    Claim(
        "work-conserving-sandwich",
        "For all arrivals, every work-conserving policy has Q* <= W <= Q* + w(b - 1)(L - 1) + t(b - 1).",
        "our derivation; arXiv 2504.07347 has throughput optimality in the fluid limit (published)",
        Kind.KERNEL,
        (
            "requests of 1 to L tokens, ample memory, every request may be given a token",
            "the largest batch is the cheapest per token, and t(n) <= t(b - 1) for n < b",
        ),
        _proved("Conserving", "conserving_sandwich", "affine_sandwich"),
        {"a constant without t(b - 1)": _altered(
            "Conserving", "conserving_sandwich", " * (L - 1) + b * T (b - 1))))%Q", " * (L - 1))))%Q")},
        PAGE,
    ),
    Claim(
        "foster-hitting-time",
        "If V >= 0 falls by at least ε in the mean outside F, then F is reached in V/ε steps in the mean, and after "
        "more than n with probability at most V/(ε(n + 1)).",
        "Foster (published); the induction is our derivation",
        Kind.KERNEL,
        ("finitely many next states from each, with rational probabilities",),
        _proved("Foster", "foster", "foster_time", "foster_tail"),
        {"V of any sign": _altered("Foster", "foster", "Hypothesis V_nonneg : forall s, 0 <= V s.",
                                   "Hypothesis V_nonneg : forall s, -1 <= V s.")},
        PAGE,
    ),
    Claim(
        "rad-kernel-hypotheses-needed",
        "Runs leave rad-sandwich's constant if prompts are not multiples of the chunk, the chunk of the tile, or "
        "decodes are longer than d; idling leaves any constant, and so does load above 1; (b - 1)L tokens on b - 1 "
        "requests fill no batch.",
        "our derivation",
        Kind.KERNEL,
        ("each for some prices and requests; the runs are computed",),
        _proved(
            "Rad_controls", "misaligned_prompts", "small_chunks", "long_decodes", "idling_escapes",
            "no_envelope_above_one", "pigeonhole_sharp",
        ),
        {"d as long as they are": _altered(
            "Rad_controls", "long_decodes", "(snd r =? 8)) 4 4 1 0 (rad_constant 4 1 1 0).",
            "(snd r =? 8)) 4 4 1 0 (rad_constant 4 8 1 0).")},
        PAGE,
    ),
)  # fmt: skip
