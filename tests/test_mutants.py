"""Planted errors: one line of a policy's source altered, and the library's own checks notice.

Each mutant is the whole package `policies` under another name with one line changed, run interpreted on small crowds in
tight memory.  It is caught by what holds of the true source: the independent simulator of Sarathi-Serve and SLAI,
the refinement of VTC's transition system, the rule of RAD read from the steps; or by the contract.
"""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import policies
from queueing.policy import SPF, Policy
from queueing.refinement import full_tiles, lifecycle, vtc
from queueing.simulator import PolicyBreach, simulate
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from tests import independent
from tests.accountant import audit
from tests.laws import LAW
from tests.test_independent import PLACES, Model, ours, problem, slai, with_rule

SOURCES = Path(policies.__file__).parent
CROWDS = 5

TILE, CHUNK = "tile = min(p.tile, view.max_tokens)", "chunk = min(p.chunk, view.max_tokens)"
START, PLACE = (
    "start(p.admission, view, batch, r, budget - tokens_used(batch)) == 0",
    "active(view, batch) < p.max_num_seqs",
)

# policy -> name of the mutant -> (file, what stands there once, what stands there instead)
MUTANTS: dict[str, dict[str, tuple[str, str, str]]] = {
    "sarathi": {
        "a token beyond the budget": ("sarathi", "budget = min(p.token_budget, view.max_tokens)",
                                      "budget = min(p.token_budget + 1, view.max_tokens)"),
        "a token below the budget": ("sarathi", "budget = min(p.token_budget, view.max_tokens)",
                                     "budget = min(p.token_budget - 1, view.max_tokens)"),
        "decodes are not counted": ("sarathi", "take_chunk(view, batch, r, budget - tokens_used(batch))",
                                    "take_chunk(view, batch, r, budget)"),
        "a place too many": ("sarathi", PLACE, PLACE.replace("<", "<=")),
        "one new prompt is skipped": ("sarathi", "while tokens_used(batch) < budget and",
                                      "while tokens_used(batch) + 1 < budget and"),
        "new prompts get a token less": ("sarathi", START,
                                         START.replace("(batch)", "(batch) - 1")),
    },
    "slai": {
        "the offset is one batch less": ("slai", "tbt - theta * bbar", "tbt - (theta - 1) * bbar"),
        "the mean leaves out a batch": ("slai", "bbar = memory.busy[0] / view.iteration",
                                        "bbar = memory.busy[0] / (view.iteration + 1)"),
        "a decode too many": ("slai", "decodes < p.limit_total_decodes", "decodes <= p.limit_total_decodes"),
        "a token beyond the budget": ("slai", "and tokens_used(batch) < budget and decodes",
                                      "and tokens_used(batch) <= budget and decodes"),
        "ties the other way": ("slai", "memory.lst[queue[j - 1]] > memory.lst[r]",
                               "memory.lst[queue[j - 1]] >= memory.lst[r]"),
        "one critical decode is forgotten": ("slai", "serve_by_deadline(p, memory, view, batch, spare, 0, 0, critical)",
                                             "serve_by_deadline(p, memory, view, batch, spare, 0, 0, critical - 1)"),
    },
    "vtc": {
        "the lift misses": ("counters", "max(memory.counter[u], memory.counter[least])",
                            "max(memory.counter[u], memory.counter[least] - 1)"),
        "the first token is free": ("counters", "range(memory.charged[r] + 1, view.decoded[r] + 1)",
                                    "range(memory.charged[r] + 1, view.decoded[r])"),
        "tokens are charged twice": ("counters", "        memory.charged[r] = view.decoded[r]\n", ""),
        "last is not kept": ("counters", "        memory.numbers[LAST] = u\n", ""),
        "the second child is not looked at": ("counters", "if j + 1 < memory.numbers[SIZE] and",
                                              "if j + 1 < memory.numbers[SIZE] - 1 and"),
        "the prompt is not charged": ("counters", "memory.counter[u] += cost_of(p.cost, prompt, memory.supposed[r])",
                                      "memory.counter[u] += cost_of(p.cost, 0, memory.supposed[r])"),
        "the second goes first": ("vtc", "u = next_client(p.artifact, memory)\n",
                                  "u = next_client(p.artifact, memory) if memory.numbers[0] < 2 else memory.heap[1]\n"),
    },
    "rad": {
        "the tile is one more": ("rad", TILE, TILE.replace("p.tile", "p.tile + 1")),
        "the tile is one less": ("rad", TILE, TILE.replace("p.tile", "p.tile - 1")),
        "prompts up to the tile": ("rad", "if decoding >= tile or", "if decoding > tile or"),
        "a chunk is one less": ("rad", CHUNK, CHUNK.replace("p.chunk", "p.chunk - 1")),
        "a cycle is one more": ("rad", "if memory.started[0] >= p.cycle or", "if memory.started[0] > p.cycle or"),
        "a cycle is not counted": ("rad", "    memory.started[0] += 1\n", ""),
    },
}  # fmt: skip


def mutant(folder: Path, number: int, file: str, old: str, new: str) -> Any:
    """The package with the change, as a module of its own name; without one if `old` is empty."""
    name = f"mutant_{number}_of_policies"
    place = folder / name
    shutil.copytree(SOURCES, place, ignore=shutil.ignore_patterns("__pycache__"))
    for path in place.glob("*.py"):
        source = path.read_text()
        if path.stem == file:
            assert source.count(old) == 1, f"{old!r} must stand once in {path.name}"
            source = source.replace(old, new)
        path.write_text(re.sub(r"^(from|import) policies\b", rf"\1 {name}", source, flags=re.MULTILINE))
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def interpreted(workload: Workload, system: System, policy: Policy) -> Trace:
    return simulate(workload, system, policy, record_entries=True, python=True, horizon=4096.0)


def crowd(k: int, tile: int = 1) -> Workload:
    """Thirty requests of six clients, in bursts; prompts are multiples of `tile`."""
    rng = np.random.default_rng(k)
    arrival = np.cumsum(rng.choice([0.0, 0.0, 0.0, 0.125, 1.0], 30))
    output = rng.integers(1, 12, 30)
    return Workload(arrival, tile * rng.integers(1, 9, 30), output, rng.integers(0, 6, 30), predicted=output)


def few(k: int) -> tuple[Workload, System]:
    """The first requests of a problem of the independent simulator."""
    workload, system = problem(k)
    n = 14
    cut = Workload(
        *(getattr(workload, name)[:n] for name in ("arrival", "prompt", "output", "client", "tbt"))
    )
    return cut, system


def parts(policy: Policy, model: Model, k: int) -> str:
    """Where a run parts from the independent simulator's."""
    workload, system = few(k)
    trace = interpreted(workload, system, policy)
    if not trace.finished.all():
        return "not everything is finished"
    expected, times = ours(workload, system, model)
    at, batches = 0, []
    assert trace.entries is not None
    rows = list(zip(trace.entries["request"].tolist(), trace.entries["tokens"].tolist(), strict=True))
    for start, count in zip(
        trace.iterations["start"].tolist(), trace.iterations["entries"].tolist(), strict=True
    ):
        batch = rows[at : at + count]
        at += count
        batches.append((start, [(r, q) for r, q in batch if q > 0], {r for r, q in batch if q == 0}))
    if batches != expected:
        return "another batch than the independent simulator's"
    return "" if np.array_equal(trace.requests["finished"], times["finished"]) else "another end"


def check_sarathi(package: Any, k: int) -> str:
    wide = with_rule(independent.Sarathi, budget=40, spf=True)
    found = parts(package.Sarathi(40, order=SPF, max_num_seqs=PLACES), wide, k)
    workload, system = few(k)
    return found or places(interpreted(workload, system, package.Sarathi(40, max_num_seqs=6)), 6)


def places(trace: Trace, most: int) -> str:
    return "more requests than places" if int(trace.iterations["running"].max()) > most else ""


def check_slai(package: Any, k: int) -> str:
    parameters = {"limit_total_decodes": 3, "below_offset": 2.0, "above_offset": 12.0, "memory_limit": 0.75}
    _, model = slai(40, SPF, **parameters)
    return parts(package.Slai(40, max_num_seqs=PLACES, order=SPF, **parameters), model, k)


def check_vtc(package: Any, k: int) -> str:
    system = System(LAW, blocks=45, block_size=1)
    for policy in (package.Vtc(), package.Vtc(packing=package.Packing.MIXED)):
        found = vtc(interpreted(crowd(k), system, policy))
        if not found.ok:
            return found.reason
    return ""


def check_rad(package: Any, k: int) -> str:
    """RAD's rule in words: a tile of decodes, or the next chunk of the oldest prompt, or the decodes that are left."""
    tile, chunk, cycle = 4, 8, 5
    workload, system = crowd(k, chunk), System(LAW, blocks=2000, block_size=1)
    trace = interpreted(workload, system, package.Rad(tile=tile, chunk=chunk, cycle=cycle))
    for found in (lifecycle(trace), full_tiles(trace, tile)):
        if not found.ok:
            return found.reason
    started = 0
    for step in audit(workload, system, trace, None):
        started = 0 if not step.running else started
        prompts = [r for r in step.running if r not in step.decoding]
        may_start = bool(step.queue) and started < cycle
        if len(step.decoding) >= tile or not (prompts or may_start):
            if step.chunks or len(step.decodes) != min(tile, len(step.decoding)):
                return "decodes were due"
        elif step.decodes or list(step.chunks.values()) != [min(chunk, *step.left.values())]:
            return "a whole chunk of the oldest prompt was due"
        started += len(step.admitted)
        if started > cycle:
            return "more prompts than a cycle has"
    return ""


CHECKS: dict[str, Callable[[Any, int], str]] = {
    "sarathi": check_sarathi, "slai": check_slai, "vtc": check_vtc, "rad": check_rad,
}  # fmt: skip


@pytest.mark.parametrize("policy", MUTANTS)
def test_the_true_source_passes(policy: str) -> None:
    assert [CHECKS[policy](policies, k) for k in range(CROWDS)] == [""] * CROWDS


@pytest.mark.parametrize(
    ("policy", "name"), [(policy, name) for policy in MUTANTS for name in MUTANTS[policy]]
)
def test_a_planted_error_is_caught(policy: str, name: str, tmp_path: Path) -> None:
    number = [*MUTANTS[policy]].index(name) + 100 * [*MUTANTS].index(policy)
    package = mutant(tmp_path, number, *MUTANTS[policy][name])
    caught = ""
    for k in range(CROWDS):
        try:
            caught = CHECKS[policy](package, k)
        except (PolicyBreach, AssertionError) as breach:
            caught = str(breach)
        if caught:
            break
    assert caught, f"{name} passes every check"


def test_there_are_enough() -> None:
    assert sum(map(len, MUTANTS.values())) >= 20
    assert all(len(mutants) >= 5 for mutants in MUTANTS.values())
