"""Rows of the experiment `sarathi`: its figures beside the published ones, and what the rows do not say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from queueing.hardware import HARDWARE, MODELS
from validation.experiments.sarathi_batches import (
    FALCON_GPUS,
    FALCON_WEIGHTS,
    batch,
    falcon_bubble,
    prompt_bubble,
)
from validation.experiments.sarathi_capacity import CASES, SLO, system
from validation.experiments.sarathi_plots import TABLES
from validation.experiments.sarathi_tables import (
    ABLATION,
    ABLATION_LOADS,
    ENGINES,
    MAIN_LOAD,
    PLACES_TRIED,
    Measured,
    ours,
)
from validation.published import published
from validation.result import Row, Verdict, over_seeds
from validation.verdicts import judge, judge_limit, judge_more

__all__ = ["notes_of", "rows_of"]

ABOUT_EQUAL = 10.0  # percent between the largest and the smallest
NEGLIGIBLE = 5.0  # percent
NAMES = {"sharegpt": "sharegpt4", "arxiv": "arxiv"}  # as the registry calls them

PAPER = "sarathi: capacity over vLLM"
YI = f"{PAPER} at 1 s, Yi-34B"  # another model under another limit: nothing here can confirm or refute it
RATIO_KEYS: dict[tuple[str, str, str], tuple[str, ...]] = {
    ("sharegpt", "strict", "vllm"): (f"{PAPER} at 0.1 s, Mistral-7B", f"{PAPER}, Mistral-7B"),
    ("sharegpt", "relaxed", "vllm"): (YI,),
}


def rows_of(measured: Measured, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Row]:
    """All rows."""
    capacity, _, _, overhead, hybrid, bubbles = (tables[name] for name in TABLES)
    yield from capacity_rows(measured, capacity)
    yield from batch_rows(overhead, hybrid)
    yield from pipeline_rows(bubbles)
    yield from ablation_rows(measured)


def _row(
    quantity: str, unit: str, value: tuple[float, float, float], verdict: Verdict, key: str | None = None
) -> Row:
    claimed = None if key is None else published(key).value
    return Row(quantity, unit, claimed, *value, verdict, key)


def capacity_rows(measured: Measured, table: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Capacities, their ratios, and vLLM's by its places."""
    for e in table:
        value = (e["capacity"], e["low"], e["high"])
        quantity = f"capacity, {e['lengths']}, {e['limit']}, {e['policy']}"
        yield _row(quantity, "requests/s", value, "not testable here")
    for e in table:
        case, slo, name = e["lengths"], e["limit"], e["policy"]
        if name == ours(slo):
            continue
        value = (e["ratio"], e["ratio low"], e["ratio high"])
        quantity = f"capacity of sarathi over {name}, {case}, {slo}"
        keys = RATIO_KEYS.get((case, slo, name), ())
        for key in keys:
            reach = measured.reach(case, slo)
            verdict = "not testable here" if key == YI else judge(published(key).value, *reach)
            yield _row(f"{quantity} ({key.removeprefix(PAPER).lstrip(', ')})", "ratio", value, verdict, key)
        if not keys:
            yield _row(quantity, "ratio", value, "not testable here")
    for slo, keys in (("strict", RATIO_KEYS["sharegpt", "strict", "vllm"][:1]), ("relaxed", (YI,))):
        for engine in ENGINES:
            value = over_seeds(measured.ratio("sharegpt", slo, "vllm", engine=engine))
            quantity = (
                f"capacity of sarathi over vllm, sharegpt, {slo}, {1000 * engine:g} ms more an iteration"
            )
            # how much an engine adds was not measured on this machine
            yield _row(quantity, "ratio", value, "not testable here", keys[0])
    for case in CASES:
        stated = next(e["stalls"] for e in table if e["lengths"] == case and e["policy"] == "vllm")
        found = measured.capacity(case, "strict", "vllm")
        value = over_seeds([100 * (stated / c - 1) for c in found.values()])
        quantity = f"vLLM's strict capacity by the share of stalled gaps, {case}, against simulation"
        yield _row(quantity, "percent", value, "not testable here")
    places = [measured.capacity("sharegpt", "strict", name) for name in PLACES_TRIED]
    spread = over_seeds(
        [100 * (max(p[s] for p in places) / min(p[s] for p in places) - 1) for s in places[0]]
    )
    yield _row(
        f"spread of vLLM's strict capacity over 32, 64, 128 places (about equal: at most {ABOUT_EQUAL:g})",
        "percent",
        spread,
        judge_limit(ABOUT_EQUAL, *spread[1:]),
        "sarathi: vLLM capacity by max batch",
    )


def batch_rows(overhead: Sequence[Mapping[str, Any]], hybrid: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Chunk overhead, at its largest over prompts of 4k and more, and prompts beside decodes."""
    for model in dict.fromkeys(e["model"] for e in overhead):
        for q in (512, 2048):
            long = [e for e in overhead if (e["model"], e["chunk"]) == (model, q) and e["prompt"] > 2048]
            value, *scaled = (max(e[name] for e in long) for name in ("overhead", "low", "high"))
            low, high = min(value, *scaled), max(value, *scaled)
            key, verdict = None, "not testable here"
            if model.startswith("Yi"):
                key = f"sarathi: chunk overhead, {q} tokens, Yi-34B"
                claimed = published(key).value
                verdict = judge(claimed, low, high) if claimed else judge_limit(NEGLIGIBLE, low, high)
            quantity = f"largest overhead of chunks of {q}, prompts of 4k to 16k, {model}"
            yield _row(quantity, "percent", (value, low, high), verdict, key)
    here = [e["whole"] for e in hybrid if e["prompt"] == 4096]
    key = "sarathi: naive hybrid time between tokens"
    value = (max(here), min(here), max(here))
    yield _row(
        "decodes beside a whole 4k prompt over decodes alone, largest",
        "ratio",
        value,
        "not testable here",
        key,
    )
    chunked = [e["chunk"] for e in hybrid]
    value = (max(chunked), min(chunked), max(chunked))
    yield _row(
        "decodes beside a chunk, budget 512, over decodes alone, largest", "ratio", value, "not testable here"
    )


def pipeline_rows(table: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Bubbles of one prompt, on Falcon by arithmetic and on our law, and of a saturated pipeline."""
    a100, llama = HARDWARE["a100"], MODELS["llama-3-8b"]
    law = system("arxiv").iteration_time
    linear = batch(system("arxiv", phi=0.0).iteration_time, 0, 0, 4096)
    reached = llama.flops_per_token * 4096 / linear
    decodes = FALCON_WEIGHTS * 2 / 2 / FALCON_GPUS / a100.bandwidth  # half of the weights, read once
    value = falcon_bubble(4096, decodes, reached)
    bounds = (value, falcon_bubble(4096, decodes, a100.flops), float("inf"))
    quantity = "bubble of a whole 4k prompt, Falcon-180B in two stages, matrix products alone (at least)"
    yield _row(quantity, "s", bounds, "not testable here", "sarathi: bubble of a 4k prompt")
    for chunk in (None, 2048, 512):
        value = prompt_bubble(law, 4096, 32, 1024, chunk)
        how = "whole" if chunk is None else f"budget {chunk}"
        quantity = f"bubble of a 4k prompt among 32 decodes, Llama-3-8B in two stages, {how}"
        yield _row(quantity, "s", (value, value, value), "not testable here")
    for e in table:
        quantity = f"bubbles of a saturated two-stage pipeline, {e['lengths']}, {e['policy']}"
        yield _row(quantity, "percent", (e["bubbles"], e["low"], e["high"]), "not testable here")


def ablation_rows(measured: Measured) -> Iterator[Row]:
    """The three variants of the ablation: their latencies, and the order that the published ones are in."""
    for case in CASES:
        rates = sorted({r["rate"] for r in measured.at_rates.where(case=case, policy="sarathi 1024").records})
        rate = rates[ABLATION_LOADS.index(MAIN_LOAD)]
        found: dict[tuple[str, str], dict[int, float]] = {}
        for name, variant in ABLATION.items():
            for quantity, symbol in (("ttft50", "median TTFT"), ("tbt99", "p99 TBT")):
                seeds = measured.at_rates.where(case=case, policy=name, rate=rate).values(quantity)
                found[symbol, variant] = seeds
                value = over_seeds(list(seeds.values()))
                key = f"sarathi: ablation, {NAMES[case]}, {symbol}, {variant}"
                text = f"{symbol}, {case}, {variant}, budget 1024, {MAIN_LOAD:g} of the ceiling (published: Yi-34B)"
                yield _row(text, "s", value, "not testable here", key)
        for symbol, shorter, longer in (
            ("median TTFT", "hybrid-only", "both"),
            ("median TTFT", "both", "chunks-only"),
            ("p99 TBT", "both", "chunks-only"),
            ("p99 TBT", "chunks-only", "hybrid-only"),
        ):
            value = over_seeds(
                [found[symbol, longer][s] / found[symbol, shorter][s] for s in found[symbol, longer]]
            )
            quantity = f"{symbol}, {case}: {longer} over {shorter} (published: above 1)"
            verdict = judge_more(*value[1:], than=1.0)
            yield _row(quantity, "ratio", value, verdict, f"sarathi: ablation, order, {NAMES[case]}")


def notes_of(measured: Measured) -> Iterator[str]:
    """What the rows do not say by themselves."""
    for case in CASES:
        for slo in SLO:
            low, high = measured.reach(case, slo)
            yield (
                f"{case}, {slo}: the verdict on the ratio over vLLM takes [{low:.2f}, {high:.2f}], the union of the "
                "intervals with kappa and phi as they are, halved and raised by half; a row's interval is over seeds"
            )
            ratio, low, high = over_seeds(measured.ratio(case, slo, "vllm", measured.short))
            yield (
                f"{case}, {slo}: in runs of {measured.short} requests the ratio is {ratio:.2f} "
                f"[{low:.2f}, {high:.2f}]; short runs end before queues past the edge have grown"
            )
    tops = [r for r in measured.searched.records if r["tops"]]
    if tops:
        yield f"{len(tops)} searches found even their highest rate feasible, so that their capacity is too low"
