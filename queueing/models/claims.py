"""What tests hold models to that have no certificate: laws of iteration time, fits, programs in floats, VTC's runs.

Models with a derivation or a certificate declare their claims themselves.
"""

from __future__ import annotations

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim

__all__ = ["CLAIMS"]

OURS = "our derivation"


def _tested(name: str, statement: str, test: str, *assumptions: str, source: str = OURS) -> Claim:
    return Claim(name, statement, source, Kind.TESTED, assumptions, where=f"tests/queueing/models/{test}")


CLAIMS = (
    _tested(
        "batch-choice-best",
        "No batch has more worth per second than the one that Dinkelbach's method picks, token by token.",
        "test_batch_choice.py::test_no_batch_is_better",
        "worths and attention additive over tokens",
        source="Dinkelbach 1967 (published; recalled); the greedy choice is our derivation",
    ),
    Claim(
        "calibration-testbed",
        "Mistral-7B on one RTX 6000 Ada: an iteration of q tokens takes max(23.4, 6.9 + 0.0912q) ms, 2.5 % off "
        "seven medians of the time of a prompt of 2,048 tokens in chunks.",
        "medians: agrimUT/SLAI (published); the fit is our calculation",
        Kind.MEASURED,
        ("prompts one at a time; the coefficients of context and pairs are guesses",),
        where="tests/queueing/models/test_calibrations.py::test_testbed_is_the_refit_of_its_seven_rows",
    ),
    _tested(
        "calibration-bounds",
        "No calibrated law is faster than the bytes and operations of the data sheet allow.",
        "test_calibrations.py::test_no_kernel_beats_the_data_sheet",
    ),
    _tested(
        "cost-profile-digits",
        "All digits of VTC's profiled cost of a request are least squares over the 23 entries of the artifact's file.",
        "test_cost_profile.py::test_every_stated_digit_of_the_cost",
        source="Sheng et al., OSDI 2024, for the digits (published); the law of a batch is our derivation",
    ),
    _tested(
        "composition-all-batches",
        "Generated batches carry as much as a program that lists all of them, and the certificate proves it.",
        "test_composition.py::test_generation_finds_the_optimum_over_all_batches_and_proves_it",
        "small machines, drawn at random",
    ),
    _tested(
        "cycles-waste",
        "The mean waste of RAD's cycles of N prompts, in closed form, is that of the policy's own batches over all "
        "outcomes, so that the capacity is g/(x̄ + E[v_N]/N).",
        "test_cycles.py::test_mean_waste_of_the_real_policy",
        "prompts always wait",
    ),
    _tested(
        "fits-return-laws",
        "Fitting gives back every law of iteration time from its own times, and the best smooth law is over 5 % off a "
        "staircase.",
        "test_fitting.py::test_smooth_laws_fail_on_a_staircase, "
        "tests/queueing/models/test_fitting.py::test_tile_law_comes_back_with_its_tile",
    ),
    _tested(
        "iteration-time-normal-form",
        "The normal form that compiled code evaluates is the formula of each law, beyond its table too.",
        "test_iteration_time.py::test_normal_form_is_the_formula_also_beyond_the_table",
    ),
    _tested(
        "iteration-time-additive",
        "Chunks and contexts in one iteration cost what they cost apart, less the time of their tokens counted twice.",
        "test_iteration_time.py::test_attention_adds_up",
    ),
    _tested(
        "listing-bound",
        "A program over some batches carries no more than one over all.",
        "test_listing.py::test_a_list_is_never_better_than_all_batches",
    ),
    _tested(
        "markov-simulator",
        "The simulator's mean number in the system lies around that of the exact chain of six policies.",
        "test_markov.py::test_the_simulator_lies_around_the_exact_mean",
        "at 99.99 %, slotted time",
    ),
    _tested(
        "network-flows",
        "Throughputs of a network solve the traffic equations; in the tile model its count of work is the capacity.",
        "test_network.py::test_rads_network_has_the_capacity_of_the_program",
        source="Jackson 1957 for the equations (published; recalled); arXiv 2508.01002, equation 7 (recalled)",
    ),
    _tested(
        "phase-time-parts",
        "Where decodes and prompts run by kernels of their own, a batch of both takes the sum of both.",
        "test_phase_time.py::test_the_parts_add_up",
        source="form of the VTC authors' cost profile (published); reading it as a law is our derivation",
    ),
    _tested(
        "replay-exact",
        "A run with dyadic times is replayed in fractions to the last bit, and serves all its work.",
        "test_replay.py::test_a_dyadic_run_is_replayed_to_the_last_bit_and_serves_all_its_work",
    ),
    _tested(
        "vtc-histories",
        "Random histories of VTC keep its invariants and bounds, and each mutant of a rule violates one.",
        "test_vtc.py::test_every_history_keeps_invariants_and_bounds, "
        "tests/queueing/models/test_vtc.py::test_every_rule_is_needed",
    ),
    _tested(
        "vtc-tight",
        "A history of VTC serves two backlogged clients 2U* apart, exactly, where prompts cost no less than "
        "outputs; so no smaller constant would do.",
        "test_vtc.py::test_two_u_is_attained_where_prompts_cost_no_less",
    ),
    _tested(
        "vtc-peak-admission",
        "Under admission by peaks the gap of VTC grows like the harmonic numbers, beyond 2U*.",
        "test_vtc.py::test_peak_admission_grows_like_the_harmonic_numbers",
    ),
    _tested(
        "vtc-lift-on-empty",
        "Without a lift on the empty queue the gap of VTC has no bound.",
        "test_vtc.py::test_without_a_lift_on_the_empty_queue_the_gap_is_unbounded",
    ),
    Claim(
        "gpu-tables-serving-points",
        "Kernel times published for an H100, composed without a fit, give the times per output token of 42 serving "
        "points of Llama-3.1-8B with a mean error below 5 %; without the KV term, with prompts for nothing, or with "
        "another GPU's tables the error is larger.",
        "aiconfigurator-core 0.12.0 (published); the composition is our calculation",
        Kind.MEASURED,
        ("concurrency held; prompts of 1,024 to 4,096 tokens; TTFT is not among the points",),
        where="tests/validation/test_gpu_tables.py::test_time_per_output_token_is_predicted_without_a_fit",
    ),
    Claim(
        "gpu-tables-vllm-run",
        "A run of vLLM in overload is predicted on the requests after its first 24 s, medians of TTFT and of mean gaps "
        "within 15 %, with one constant per iteration fitted to the first 24 s; without it gaps are, TTFT is not.",
        "LLMServingSim (published run); the prediction is our calculation",
        Kind.MEASURED,
        ("RTX PRO 6000, Llama-3.1-8B, vLLM 0.19; one run",),
        where="tests/validation/test_vllm_run.py::test_one_constant_of_the_first_seconds_predicts_the_rest",
    ),
    _tested(
        "gpu-tables-tiles",
        "Of six GPUs the tables of three show a step of 15 % at the edge of a tile; on the others a smooth law is "
        "within some 4 %, and results that rest on tiles do not apply.",
        "test_gpu_tables.py::test_tiles_show_on_three_gpus_and_not_on_the_others",
        source="aiconfigurator-core 0.12.0 (published); our calculation",
    ),
    Claim(
        "served-as-simulated",
        "An engine that takes the time that a law says gives the simulator's run, number for number, under every "
        "policy.",
        OURS,
        Kind.TESTED,
        where="tests/queueing/test_serving.py::test_an_engine_that_takes_the_laws_time_gives_the_simulators_run",
    ),
    Claim(
        "schedule-invariance",
        "Any legal sequence of chunks, mixes and preemptions gives the text of one pass over all before each token.",
        OURS,
        Kind.TESTED,
        ("no two logits are within rounding of each other",),
        where="tests/gpu/test_engine.py::test_any_schedule_gives_the_one_shot_text",
    ),
)  # fmt: skip
