"""What is claimed of each policy and router: what tests hold it to, what others have proved of it, what nobody has.

Proofs are elsewhere: on the very policies in :mod:`policies.certified`, on their transition systems in
:mod:`queueing.proofs`.  A tested claim names its test; a cited one is somebody else's theorem, with its assumptions.
"""

from __future__ import annotations

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim

__all__ = ["CLAIMS"]

RAD = "Bari, Hegde and de Veciana, arXiv 2508.01002"
STABLE = "Li, Dai and Peng, arXiv 2504.07347 (published; recalled)"
WAIT = "Ao, Luo, Simchi-Levi and Wang, arXiv 2504.11320"
OURS = "our derivation"


def _tested(name: str, statement: str, test: str, *assumptions: str, source: str = OURS) -> Claim:
    return Claim(name, statement, source, Kind.TESTED, assumptions, where=f"tests/{test}")


def _cited(name: str, statement: str, source: str, policy: str, *assumptions: str) -> Claim:
    return Claim(name, statement, source, Kind.CITED, assumptions, where=f"docs/policies/{policy}.md")


def _open(name: str, statement: str, policy: str) -> Claim:
    return Claim(name, statement, "nobody's theorem yet", Kind.OPEN, where=f"docs/policies/{policy}.md")


ALL = (
    _tested(
        "policies-laws",
        "Every policy keeps the laws of the loop on random workloads: tokens and KV memory are conserved, nothing "
        "is served before it came, everybody ends once arrivals stop, and the facts that it declares hold "
        "(non-idling, order of arrival, stall-free, mixed, chunked).",
        "test_contract.py::test_every_run_keeps_the_laws",
        source="the contract, docs/decisions/0001-contract-and-loop.md",
    ),
    _tested(
        "policies-blind",
        "No policy sees the future, the names of clients or the unit of time, and each is the same compiled and not.",
        "test_contract.py::test_relatives_of_a_run",
        source="the contract, docs/decisions/0001-contract-and-loop.md",
    ),
    _tested(
        "policies-reserve",
        "Admission that reserves the announced output never preempts anybody if announcements are true.",
        "policies/test_admission.py::test_true_announcements_prevent_preemption",
    ),
)

BASELINES = (
    _tested(
        "fcfs-as-vllm",
        "Fcfs that gives blocks to prompts alone makes the batches of Vllm without its caps.",
        "policies/test_vtc.py::test_pure_packing_is_that_of_vllm",
        "nobody is preempted",
    ),
    _tested(
        "faster-transformer-door",
        "FasterTransformer admits only when nothing runs, so that no decode waits for a prompt.",
        "policies/test_faster_transformer.py::test_admits_only_when_nothing_runs",
        source="Yu et al., OSDI 2022 (published; recalled)",
    ),
    _tested(
        "orca-reserves",
        "Orca, which reserves the context limit, never preempts.",
        "policies/test_orca.py::test_full_reservation_never_preempts",
        source="Yu et al., OSDI 2022 (published; recalled)",
    ),
    _tested(
        "vllm-prefill-first",
        "Vllm runs no batch of decodes alone while the head of the queue could be admitted.",
        "policies/test_vllm.py::test_no_decode_only_batch_while_the_head_is_admissible",
        source="Kwon et al., SOSP 2023 (published; recalled)",
    ),
    _tested(
        "sarathi-gaps",
        "Under Sarathi without preemption every gap between tokens is one batch, of at most max(B, decodes) tokens.",
        "policies/test_sarathi.py::test_gaps_are_single_batches",
        "prompts in chunks of what the budget B leaves",
        source="Agrawal et al., OSDI 2024 (published; recalled); the bound is our derivation",
    ),
    _tested(
        "sarathi-refined",
        "Every batch of Sarathi serves all decodes and holds at most B tokens, and no batch of Rad leaves a tile "
        "unfilled.",
        "queueing/test_refinement.py::test_rad_fills_its_tiles_and_sarathi_never_stalls",
    ),
    _tested(
        "hybrid-only-unbounded",
        "HybridOnly makes the batches of Sarathi with an unbounded token budget.",
        "policies/test_sarathi.py::test_unbounded_budget_is_hybrid_only",
        source="Agrawal et al., OSDI 2024, ablation (published; recalled)",
    ),
    _tested(
        "chunk-only-turns",
        "ChunkOnly serves a decoding request in one of any two batches that follow, while KV memory is free.",
        "policies/test_chunk_only.py::test_every_second_batch_decodes",
        source="Agrawal et al., OSDI 2024, ablation (published; recalled)",
    ),
    _cited(
        "sarathi-stable",
        "Sarathi and Orca, as every work-conserving policy, are stable in the whole capacity region, lengths "
        "unbounded.",
        f"{STABLE}, under K-FCFS by fluid limits",
        "sarathi",
        "iteration time affine in tokens beyond a plateau, the largest batch the best",
        "memory never binds",
    ),
)  # fmt: skip

THROUGHPUT = (
    _tested(
        "rad-full-tiles",
        "Every batch of Rad is a full chunk or all-decode, at most b decode at once, and one prompt is partly "
        "prefilled.",
        "policies/test_rad.py::test_batches_are_full_or_all_decode",
        "prompts are multiples of the chunk",
        source=f"{RAD}, algorithm 1 (recalled); proved for the model in rad-batches and rad-decodes",
    ),
    _tested(
        "rad-cycles",
        "A cycle of Rad starts at most N prompts, and its backlog stays within Q* with a surcharge, plus a constant.",
        "queueing/models/test_stability.py::test_rad_with_cycles_of_few_prompts",
    ),
    _cited(
        "rad-optimal",
        "Rad without cycles is positive recurrent whenever λ·d < g, behind uniformly random routing, and for λ·d "
        "> g no scheduler is stable, d the mean work of a request.",
        f"{RAD}, theorems 1 and 2 (recalled, from a secondary source)",
        "rad",
        "Poisson arrivals, i.i.d. bounded sizes (our reading); whole chunks; memory for b requests of the largest size",
    ),
    _open(
        "rad-latency",
        "A bound on the time between tokens, a tight K₀ for decode lengths of heavy tail, within RAD's sandwich.",
        "rad",
    ),
    _tested(
        "batching-switch-faster",
        "BatchingSwitch: of exclusive and mixed batches the kind that the sign of Δ(N) names is the faster at "
        "saturation, by Δ(N) seconds a request within a tenth.",
        "policies/test_batching_switch.py::test_the_sign_of_the_difference_names_the_faster",
        "two laws of iteration time, geometric outputs",
        source="arXiv 2606.00516 (published; recalled); Δ as computed is our derivation",
    ),
    _tested(
        "batching-switch-sawtooth",
        "BatchingSwitch in its exclusive mode mixes no batch, keeps at most its places active, and refills only "
        "once the share θ is done.",
        "policies/test_batching_switch.py::test_the_sawtooth",
        source="arXiv 2606.00516 (published; recalled)",
    ),
    _tested(
        "wait-stages",
        "Wait: every stage of a type holds nobody or a group, and its tokens stay within n·G.",
        "policies/test_wait.py::test_every_stage_holds_nobody_or_a_group",
        "requests of a type are alike, patience is never used up",
        source=f"{WAIT} (recalled)",
    ),
    _tested(
        "wait-thresholds",
        "The model's least thresholds keep the queues of Wait short, and half of them do not.",
        "policies/test_wait.py::test_thresholds_of_the_model_keep_queues_short_and_half_of_them_do_not",
        "deterministic arrivals",
    ),
    _cited(
        "wait-optimal",
        "Wait's throughput comes within O((ζT)^(-1/2)) of the fluid point, at bounded latency.",
        f"{WAIT} (recalled)",
        "wait",
        "types known on arrival, alike within",
    ),
    _tested(
        "nested-wait-entry",
        "NestedWait moves a segment only if all before it have full entries, and with one segment it is Wait of "
        "one type.",
        "policies/test_wait.py::test_one_segment_is_one_type",
        source=f"{WAIT} (recalled)",
    ),
    _cited(
        "nested-wait-optimal",
        "NestedWait approaches the fluid point without knowing lengths, with a buffer that grows only logarithmically.",
        f"{WAIT} (published; recalled)",
        "nested_wait",
    ),
)  # fmt: skip

SHORTEST = (
    _tested(
        "mc-sf-never-preempts",
        "McSf never preempts if outputs are no longer than announced.",
        "policies/test_mc_sf.py::test_true_announcements_never_preempt",
        source="arXiv 2502.07115 (published; recalled); that peaks at completions suffice is our derivation",
    ),
    _tested(
        "mc-sf-tiny",
        "On forty instances of 4 to 6 equal prompts the completion times of McSf are 5 % above the best at most, "
        "in the mean.",
        "policies/test_mc_sf.py::test_close_to_the_best_order_of_tiny_instances",
    ),
    _cited(
        "mc-sf-ratio",
        "The sum of completion times of McSf is within a constant factor of the best.",
        "Jaillet et al., arXiv 2502.07115 (published; recalled)",
        "mc_sf",
        "prompts of one length, all there at the beginning, rounds of one unit, outputs as announced",
    ),
    _open(
        "mc-sf-staggered",
        "The worst ratio of McSf where arrivals are staggered, by the number of requests.",
        "mc_sf",
    ),
    _tested(
        "a-min-trusting",
        "AMin with α = 1 is McSf, batch by batch.",
        "policies/test_a_min.py::test_trusted_announcements_make_it_mc_sf",
        source="arXiv 2508.14544 (recalled)",
    ),
    _tested(
        "a-min-evicts",
        "AMin evicts the least bound, the latest of equals, and admits nobody while it evicts.",
        "policies/test_a_min.py::test_nobody_enters_while_somebody_is_evicted",
        source="arXiv 2508.14544 (recalled); that nobody enters is our reading",
    ),
    _cited(
        "a-min-ratio",
        "The sum of completion times of AMin is within O(log 1/α) of the best, where reserving the most loses "
        "polynomially.",
        "arXiv 2508.14544 (published; recalled)",
        "a_min",
        "requests all there at the beginning, outputs between α·u and u",
    ),
    _tested(
        "gittins-learns",
        "Gittins computes, from outputs that ended, the index of their histogram.",
        "policies/test_gittins.py::test_the_learned_index_is_the_index_of_what_ended",
    ),
    _tested(
        "gittins-soap",
        "Where one job is served at a time, the mean response of Gittins is that of SOAP for its rank.",
        "policies/test_gittins.py::test_mean_response_is_that_of_soap",
        "batches of one token",
    ),
    _cited(
        "gittins-optimal",
        "The Gittins index has the least mean response of M/G/1 among all policies that do not know sizes.",
        "Gittins 1989; Scully, Harchol-Balter and Scheller-Wolf 2018 (published; recalled)",
        "gittins",
        "Poisson arrivals, one job at a time, preempt and resume",
    ),
    _open("gittins-batches", "What is optimal in place of Gittins where the speed depends on the batch.", "gittins"),
)  # fmt: skip

DEADLINES = (
    _tested(
        "slai-no-idle-deferral",
        "Slai runs every decode in every batch, as many as its budget lets, while nobody waits and no prompt is "
        "unfinished.",
        "policies/test_slai.py::test_no_deferral_without_prefill_backlog",
        source=f"{RAD}, section 6 (recalled)",
    ),
    _tested(
        "slai-as-sarathi",
        "Slai with an offset that makes every decode critical makes the batches of Sarathi.",
        "policies/test_slai.py::test_with_every_decode_critical_it_is_sarathi",
    ),
    Claim(
        "slai-capacity",
        "On the simulated testbed Slai raises the rate at which the median prefill ends within 0.5 s by 26 to 29 "
        "% over Sarathi; to the first token emitted by 10 to 12 %.",
        f"computed; {RAD}, abstract: 26 % (published)",
        Kind.MEASURED,
        ("fitted iteration time, of which two coefficients are roofline guesses", "ShareGPT lengths, 5 % strict users"),
        where="docs/experiments/slai.md",
    ),
    _cited(
        "slai-median",
        "Slai lowers the median time to first token by 53 % against Sarathi.",
        f"{RAD}, abstract (published)",
        "slai",
        "the load is not stated there",
    ),
)  # fmt: skip

FAIR = (
    _tested(
        "vtc-refined",
        "Every admission, charge and lift of Vtc and VtcSlai is a transition of VTC's formal system, and the "
        "invariants hold at every event.",
        "queueing/test_refinement.py::test_policies_of_vtc_refine_its_system",
        source="the formal system of queueing.models.vtc, our derivation",
    ),
    _tested(
        "vtc-backlogged",
        "Vtc serves two clients that both wait all the while within 2U* of each other; Fcfs does not.",
        "policies/test_vtc.py::test_backlogged_clients_get_the_same_within_the_bound",
        "admission reserves the whole output",
        source="our derivation of arXiv 2401.00588's 2U (recalled)",
    ),
    _tested(
        "vtc-reserves",
        "Vtc never preempts if announcements are true, whatever its packing.",
        "policies/test_vtc.py::test_reservation_never_preempts",
    ),
    _cited(
        "vtc-lower-bound",
        "No work-conserving scheduler that does not preempt keeps two backlogged clients closer than wq·M.",
        "Sheng et al., OSDI 2024, arXiv 2401.00588 (published; recalled)",
        "vtc",
        "output lengths unknown",
    ),
    _cited(
        "vtc-tighter",
        "Limits on a client's output in a batch, or preemption, tighten U at the price of work conservation.",
        "Sheng et al., OSDI 2024, arXiv 2401.00588 (recalled)",
        "vtc",
    ),
    _open(
        "vtc-peak-constant",
        "The exact constant of Vtc under admission by peaks, between wq·M·H_K and wq·M·H_K + wp·L.",
        "vtc",
    ),
    _open("vtc-throughput", "Fairness and throughput of Vtc in the tile model at once.", "vtc"),
    _tested(
        "vtc-slai-order",
        "VtcSlai admits by the least counter, whatever Slai's steps leave it.",
        "policies/test_deficit_round_robin.py::test_slai_admits_in_the_order_of_counters",
    ),
    _tested(
        "vtc-slai-alone",
        "VtcSlai with one client makes the batches of Slai.",
        "policies/test_deficit_round_robin.py::test_one_client_is_served_as_by_slai",
    ),
    _tested(
        "deficit-round-robin-turns",
        "Every admission of DeficitRoundRobin is that of the algorithm, replayed from the events alone.",
        "policies/test_deficit_round_robin.py::test_every_admission_is_that_of_the_algorithm",
        source="Shreedhar and Varghese, SIGCOMM 1995 (published; recalled); the adaptation of VTC's artifact",
    ),
)  # fmt: skip

ROUTERS = (
    _tested(
        "round-robin-even",
        "RoundRobin sends the nodes numbers of requests that differ by one at most; UniformRandom passes a "
        "chi-square test.",
        "policies/test_routing.py::test_counts",
        source="folklore",
    ),
    _tested(
        "routers-look",
        "JoinShortestQueue takes the least count, LeastWork the least work, PowerOfD the shortest of those it drew.",
        "policies/test_routing.py::test_power_of_d_takes_the_shortest_of_those_drawn, "
        "tests/policies/test_routing.py::test_state_aware",
        source="folklore",
    ),
    _cited(
        "uniform-random-thinning",
        "Poisson arrivals of rate λ behind UniformRandom are g independent Poisson streams of rate λ/g.",
        "classical",
        "uniform_random",
    ),
    _cited(
        "join-shortest-queue-optimal",
        "JoinShortestQueue has the most departures by any time.",
        "Winston, Journal of Applied Probability 14, 1977 (published; recalled)",
        "join_shortest_queue",
        "Poisson arrivals, exponential service, which is not the case here",
    ),
    _cited(
        "power-of-d-tail",
        "Under PowerOfD with d >= 2 the share of queues of length n or more falls doubly exponentially as nodes "
        "grow many.",
        "Vvedenskaya, Dobrushin and Karpelevich 1996; Mitzenmacher 2001 (published; recalled)",
        "power_of_d",
        "exponential service, one at a time",
    ),
    _open("least-work-delay", "A bound on the delay under LeastWork where nodes serve in batches.", "least_work"),
)  # fmt: skip

CLAIMS = (*ALL, *BASELINES, *THROUGHPUT, *SHORTEST, *DEADLINES, *FAIR, *ROUTERS)
