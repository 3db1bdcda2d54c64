"""Theorems of others on which the library leans, and questions to which it knows no answer; policies have their own.

Nothing is proved here.  A cited theorem stands with its assumptions, and says where it is used; where a part of it is
proved or checked by the library, that claim is named.  Sources are recalled unless they say otherwise.
"""

from __future__ import annotations

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim

__all__ = ["CLAIMS"]


def _cited(name: str, statement: str, source: str, page: str, *assumptions: str) -> Claim:
    return Claim(name, statement, source, Kind.CITED, assumptions, where=f"docs/models/{page}.md")


def _open(name: str, statement: str, page: str, *known: str) -> Claim:
    return Claim(name, statement, "nobody's theorem yet", Kind.OPEN, known, where=f"docs/models/{page}.md")


CLAIMS = (
    _cited(
        "work-conserving-optimal",
        "The class of work-conserving policies is stable if and only if λ(m_p + m_d) < b/t(b), lengths unbounded, and "
        "under DAG and fork-join routing so is it in networks.",
        "Li, Dai and Peng, arXiv 2504.07347 v3 (published)",
        "stability",
        "K-FCFS: the K oldest requests are eligible; fluid limits",
        "t(n) = c + a·max(0, n - b0), and c >= a·b0, without which b/t(b) is not the best rate (token-rate-converse)",
        "for bounded lengths, path by path: work-conserving-sandwich",
    ),
    _cited(
        "foster-recurrence",
        "A chain whose V >= 0 falls by ε in the mean outside a finite set is positive recurrent.",
        "Meyn and Tweedie, Markov Chains and Stochastic Stability, chapter 11 (published)",
        "stability",
        "irreducible; for the mean time to the set: foster-hitting-time",
    ),
    _cited(
        "loynes-stationary",
        "Under stationary ergodic arrivals of mean work below the speed, Q* is finite and stationary.",
        "Loynes 1962 (published)",
        "stability",
        "hence by the sandwich W is tight",
    ),
    _cited(
        "fluid-stability",
        "A network whose fluid model is stable is positive Harris recurrent.",
        "Dai, Annals of Applied Probability 5, 1995 (published)",
        "stability",
        "i.i.d. arrivals and services, head of line",
    ),
    _cited(
        "filippov-sliding",
        "Where a right-hand side jumps, solutions slide along the jump by a mixture of both sides.",
        "Filippov 1988; Utkin 1992 (published)",
        "fluid",
        "convex hull of the limits; unique where both sides point to the surface",
    ),
    _cited(
        "memory-stability",
        "A node with KV memory M is overloaded above μ = M/(b·E[g]) and positive recurrent below μ(1 - δ), δ about the "
        "largest request over M.",
        "Nie, Si and Zhou, arXiv 2605.04595 (published)",
        "memory",
        "work-conserving batching; that evicted tokens are not lost is our premise (memory-capacity)",
    ),
    _cited(
        "congestion-convergence",
        "All starts but a null set of a saturated node that evicts converge to one cycle, the worst.",
        "Ao, Dong, Luo and Simchi-Levi, arXiv 2606.15555 (published)",
        "congestion",
        "one decode length, fluid; loss and modes: congestion-loss, congestion-modes",
    ),
    _cited(
        "gate-and-route-optimal",
        "Gating admissions at the optimum of the program and routing decodes earns n times its value as n grows.",
        "Lin, Ding, Han and Zhang, arXiv 2602.02987 (published)",
        "capacity",
        "Poisson arrivals with patience, n engines; an instance: gate-and-route-instance",
    ),
    _cited(
        "exclusive-batching-limit",
        "The best share k*/N at which exclusive batches are refilled tends to θ0.",
        "arXiv 2606.00516 (published)",
        "exclusive_batching",
        "constant hazard; with increasing hazard up to O(η)",
    ),
    _cited(
        "hindsight-no-constant",
        "No deterministic online scheduler has total latency within a constant of the best in hindsight.",
        "Jaillet et al., arXiv 2502.07115 (published; at least of order √n: recalled)",
        "memory",
        "arbitrary arrivals",
    ),
    _cited(
        "sorted-f-ratio",
        "Taking again and again the feasible set of least Σ o/|X|² has total completion time within 48 times the "
        "best; the problem is NP-hard, and arrival order and shortest first have no ratio.",
        "arXiv 2508.06133 (published)",
        "memory",
        "prompts of several lengths, all there at the beginning, outputs known",
    ),
    _cited(
        "geometric-phases-ratio",
        "Phases of geometric length with restarts are within 61.92 times the best without knowing outputs (32 for "
        "large memory), and within 10.67 (6.75) knowing them.",
        "arXiv 2601.22996 (published)",
        "memory",
        "requests all there at the beginning",
    ),
    _cited(
        "soap-mean-response",
        "The mean response of M/G/1 under a rank function is λQ/(2(1 - ρ_old)(1 - ρ_new)) plus the stretched service.",
        "Scully, Harchol-Balter and Scheller-Wolf 2018 (published)",
        "priority",
        "Poisson arrivals, first come first served among equals",
    ),
    _cited(
        "server-filling-gittins",
        "ServerFilling-Gittins has the least mean response of multiserver jobs in heavy traffic.",
        "Grosof, Scully, Harchol-Balter and Scheller-Wolf 2022 (published)",
        "gittins",
        "jobs that need a power of two of servers",
    ),
    _cited(
        "batch-service-energy",
        "The energy efficiency of a take-all batch server rises with the arrival rate.",
        "Inoue, arXiv 1912.06322 (published)",
        "batch_service",
        "energy affine in the batch",
    ),
    _cited(
        "vtc-waiting-time",
        "A client that has nothing in the system waits at most 2(n - 1)U/a for its next request.",
        "Sheng et al., OSDI 2024, theorem 4.11 (recalled)",
        "vtc",
        "n clients, a the least rate of service while work waits; with U* it follows from any window (T3)",
    ),
    _open(
        "budget-and-memory",
        "Stability where token budget and KV memory bind at once: a drift in two resources, or a sandwich with "
        "eviction.",
        "stability",
    ),
    _open(
        "control-limits",
        "That the best SMDP batching is a control limit.",
        "optimal_policy",
        "observed, not proved",
    ),
    _open(
        "cyclic-routing",
        "Stability of work-conserving policies in networks with cycles, as agents make them.",
        "network",
        "not by work conservation alone: crossed-engines-diverge",
    ),
    _open(
        "acceptance-by-batch",
        "Speculative decoding under load where acceptance depends on the batch.",
        "speculative",
    ),
    _open(
        "vtc-sharper",
        "The least constant for two clients of VTC where an output token costs more than an input one and prompts "
        "are long.",
        "vtc",
        "2U* holds; the published lower bound is wq·M",
    ),
)
