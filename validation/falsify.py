"""A falsifier: what a stranger's policy keeps and breaks, with the smallest arrival pattern that was found.

The policy's own function, compiled, serves every pattern of a few requests on a tiny engine (*exhaustive*, to a depth
in requests), and then longer patterns made of phases: one client sends, then another, sparse or all at once (*search*).
Each run is held to properties; a pattern that breaks one is made smaller, request by request and token by token, as
long as it still does.  What is not broken is not proved, but for one case: the property follows from a claim of the
library, because the body is that of a policy for which it is proved.

The engine: 6 tokens of memory in blocks of one, or 16 for some patterns; batches of a second each, announcements true.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing as mp
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

import policies
from policies.admission import ANNOUNCED_LENGTH, CONTEXT_LIMIT
from queueing.compilation import fingerprint
from queueing.cost import TOKENS
from queueing.models.iteration_time import Affine
from queueing.models.vtc import Setting, Vtc, Windows
from queueing.policy import Policy
from queueing.refinement import lifecycle, stall_free, vtc
from queueing.simulator import PolicyBreach, simulate
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from validation.policy_file import COMPILING, complaint, guarded

__all__ = [
    "PROPERTIES",
    "Case",
    "Finding",
    "Property",
    "Sent",
    "exhaustive",
    "falsify",
    "patterns",
    "phases",
    "quartets",
    "rehearsal",
    "served",
    "smallest",
    "trios",
    "watched",
]

SMALL, LARGE = 6, 16  # tokens of memory
TILE = 4  # tokens that a batch should hold if it could
CLIENTS = 4
SHAPES = {  # prompt and output tokens
    SMALL: ((1, 1), (1, 3), (4, 1), (1, SMALL - 1)),
    LARGE: ((1, 1), (5, 3), (9, 1), (1, LARGE - 1)),
}
PHASES = (2, 16)  # requests of a phase; what grows with the longest is not bounded
ENOUGH, SHRUNK = 20, 2  # patterns that break a property; of them, those that are made smaller
UNSTEADY = "the policy is not deterministic: a pattern broke this once, and did not when it was served again"
RUNS = 400  # in which a pattern is made smaller
SECONDS = 600.0  # of a search
SYSTEMS = {  # a block more than any request needs, which admission by the prompt leaves free
    memory: System(
        Affine(1.0, 0.0),
        blocks=memory + 1,
        block_size=1,
        max_length=memory,
        max_running=memory,
        watermark=0.0,
    )
    for memory in SHAPES
}
SETTINGS = {
    memory: Setting(CLIENTS, system.blocks, longest=memory - 1, cost=TOKENS)
    for memory, system in SYSTEMS.items()
}


class Sent(NamedTuple):
    """A request that arrives before batch boundary `step`."""

    step: int
    client: int
    prompt: int
    output: int


@dataclass(frozen=True, slots=True)
class Case:
    """An arrival pattern, in order of step, and the memory (tokens) of the engine it is served on."""

    requests: tuple[Sent, ...]
    memory: int = SMALL

    def workload(self) -> Workload:
        """Arrivals half a batch before their boundary; the first at 0."""
        step, client, prompt, output = zip(*self.requests, strict=True)
        arrival = np.maximum(np.array(step, np.float64) - 0.5, 0.0)
        return Workload(arrival, prompt, output, client, predicted=output)

    def halved(self) -> Case:
        """Every second request of those that are one of a phase of many."""
        kept: list[Sent] = []
        for _, phase in itertools.groupby(self.requests, key=lambda s: s[1:]):
            sent = list(phase)
            kept += sent[: (len(sent) + 1) // 2] if len(sent) > 2 else sent
        return replace(self, requests=tuple(kept))


class Run(NamedTuple):
    """A case and what the policy made of it; `trace` is None if it broke the contract, and `breach` says how."""

    case: Case
    trace: Trace | None
    breach: str


def served(policy: Policy, case: Case, python: bool = False) -> Run:
    """Serve the case; a policy that has not finished long after the last arrival is cut.  `python`: interpreted."""
    horizon = case.requests[-1].step + 40.0 * len(case.requests)
    try:
        with np.errstate(divide="raise"):  # as it does compiled
            trace = simulate(case.workload(), SYSTEMS[case.memory], policy, record_entries=True, horizon=horizon,
                             router=policies.RoundRobin(), python=python)  # fmt: skip
    except PolicyBreach as breach:
        return Run(case, None, str(breach))
    return Run(case, trace, "")


FIRST = Case((Sent(0, 0, 1, 1),))
Serve = Callable[[Case], Run]


# -- properties: each returns why a run breaks it, or ""


def contract(run: Run) -> str:
    """Batches are allowed, events follow each other as they must, and everything is finished."""
    if run.trace is None:
        return run.breach
    lived = lifecycle(run.trace)
    if not lived.ok:
        return str(lived)
    left = int(np.count_nonzero(run.trace.unfinished))
    return f"{left} requests are never finished" if left else ""


def work_conserving(run: Run) -> str:
    """No pause between batches while a request that arrived is unfinished."""
    if run.trace is None:
        return ""
    q, its = run.trace.requests, run.trace.iterations
    ends = np.r_[0.0, its["start"] + its["seconds"]]
    starts = np.r_[its["start"], np.inf]
    for end, start in zip(ends, starts, strict=True):
        open_ = (q["arrival"] <= end) & ~(q["finished"] <= end)
        if start > end and open_.any():
            return f"idle from {end:g} s on, though request {int(np.argmax(open_))} is there"
        arriving = (q["arrival"] > end) & (q["arrival"] < start)
        if start > end and arriving.any():
            return f"idle until {start:g} s, though request {int(np.argmax(arriving))} came before"
    return ""


def full_batches(run: Run) -> str:
    """A batch has TILE tokens, or all that are loadable: a token per decode, and prompts that memory holds."""
    trace = run.trace
    if trace is None or trace.entries is None:
        return ""
    q, its = trace.requests, trace.iterations
    given = np.zeros(len(q["prompt"]), np.int64)
    at = 0
    for k, start in enumerate(its["start"]):
        entries = range(at, at + int(its["entries"][k]))
        tokens = int(its["prefill"][k] + its["decodes"][k])
        room, loadable = run.case.memory, 0
        there = [r for r in range(len(given)) if q["arrival"][r] <= start and not q["finished"][r] <= start]
        for r in there:  # those that run hold what they were announced to need
            if q["admitted"][r] < start:
                room -= int(q["prompt"][r] + q["output"][r])
                loadable += max(int(q["prompt"][r] - given[r]), 1)
        for r in there:
            size = int(q["prompt"][r] + q["output"][r])
            if not q["admitted"][r] < start and size <= room:
                room -= size
                loadable += int(q["prompt"][r])
        if tokens < min(TILE, loadable):
            return f"the batch at {start:g} s has {tokens} tokens, though {loadable} could be loaded"
        for e in entries:
            given[trace.entries["request"][e]] += trace.entries["tokens"][e]
        at += len(entries)
    return ""


def memory(run: Run) -> str:
    """With true announcements nobody is preempted."""
    if run.trace is None:
        return ""
    lost = run.trace.requests["preemptions"]
    return (
        f"request {int(np.argmax(lost > 0))} is preempted though its length was announced"
        if lost.any()
        else ""
    )


def order(run: Run) -> str:
    """Requests of one client are admitted in order of arrival."""
    if run.trace is None:
        return ""
    q = run.trace.requests
    for u in range(CLIENTS):
        admitted = np.nan_to_num(q["admitted"][q["client"] == u], nan=np.inf)
        late = np.flatnonzero(admitted[1:] < admitted[:-1])
        if len(late):
            return f"client {u}'s request number {late[0] + 1} is admitted after the one behind it"
    return ""


def stalls(run: Run) -> str:
    """Every request that decodes gets a token in every batch."""
    if run.trace is None:
        return ""
    found = stall_free(run.trace, 10**9)
    return "" if found.ok or not lifecycle(run.trace).ok else str(found)


def counters(run: Run) -> str:
    """The run is one of VTC's transition system, for which the bounds on service are proved."""
    if run.trace is None:
        return ""
    found = vtc(run.trace, TOKENS)
    return "" if found.ok else str(found)


class _Seen(Vtc):
    """The formal system's books, written from a trace: who waits, and what was processed."""

    def of(self, trace: Trace) -> Windows:
        """Enter the events of a trace in order; what was seen over all windows."""
        q, its, entries = trace.requests, trace.iterations, trace.entries
        assert entries is not None
        windows, coming, at = Windows(self), 0, 0
        given = np.zeros(len(q["prompt"]), np.int64)
        blank: deque[Any]
        for k, start in enumerate(its["start"]):
            while coming < len(given) and q["arrival"][coming] <= start:
                blank = self.queue[int(q["client"][coming])]
                blank.append(coming)
                coming += 1
                windows.look()
            for e in range(at, at + int(its["entries"][k])):
                r = int(entries["request"][e])
                blank = self.queue[int(q["client"][r])]
                if r in blank:
                    blank.remove(r)
                    self.service[int(q["client"][r])] += self.setting.h(int(q["prompt"][r]), 0)
                    self.held[int(q["client"][r])] += 1
                    windows.look()
            for e in range(at, at + int(its["entries"][k])):
                r, u = int(entries["request"][e]), int(q["client"][entries["request"][e]])
                given[r] += entries["tokens"][e]
                if given[r] >= q["prompt"][r]:
                    y = int(given[r] - q["prompt"][r])
                    self.service[u] += self.setting.h(int(q["prompt"][r]), y + 1) - self.setting.h(
                        int(q["prompt"][r]), y
                    )
                    self.held[u] -= y + 1 == q["output"][r]
            at += int(its["entries"][k])
            windows.look()
        return windows


def fair(run: Run) -> str:
    """Two clients that wait differ by at most 2U* in service, and nobody gets more than 2U* beyond one that waits."""
    if run.trace is None or run.trace.requests["preemptions"].any():
        return ""
    setting = SETTINGS[run.case.memory]
    charged = [
        sum(setting.h(s.prompt, s.output) for s in run.case.requests if s.client == u) for u in range(CLIENTS)
    ]
    if max(charged) <= 2 * setting.bound:
        return ""  # nobody asked for so much
    windows = _Seen(setting).of(run.trace)
    worst = max(windows.both, windows.anyone)
    if worst <= 1:
        return ""
    who = "a client that waits" if windows.both >= windows.anyone else "anybody beyond one that waits"
    return f"service of {who} differs by {float(worst):.3g} times 2U*, U* = {setting.bound} (tokens, outputs double)"


def overtaken(trace: Trace) -> int:
    """Most requests that came later than one and were admitted while it waited and its client got nothing.

    Those of its own client count in any case: with fair turns a client that floods waits for itself alone.
    """
    admitted, client = np.nan_to_num(trace.requests["admitted"], nan=np.inf), trace.requests["client"]
    most = 0
    for i, a in enumerate(admitted):
        own = client == client[i]
        since = max((t for t in admitted[own] if t < a), default=-np.inf)
        earlier = admitted[i + 1 :] < a
        others = earlier & ~own[i + 1 :] & (admitted[i + 1 :] > since)
        most = max(most, int(np.count_nonzero(others)) + int(np.count_nonzero(earlier & own[i + 1 :])))
    return most


def longest_stall(trace: Trace) -> int:
    """Most batches in a row in which a request that decodes gets no token."""
    gaps = trace.requests["longest_gap"]
    return int(np.nanmax(gaps, initial=1.0)) - 1


class Property(NamedTuple):
    """What may hold of all runs; `broken` says why a run breaks it.  If `grows`, only growth with the load does."""

    name: str
    statement: str
    broken: Callable[[Run], str]
    grows: Callable[[Trace], int] | None = None


def _nothing(_: Run) -> str:
    return ""


PROPERTIES = (
    Property("contract", "batches are allowed, and everything that comes is finished", contract),
    Property("work-conserving", "no pause while a request is unfinished", work_conserving),
    Property("full-batches", f"a batch has {TILE} tokens, or all that could be loaded", full_batches),
    Property("memory", "with true announcements nobody is preempted", memory),
    Property("order", "a client's requests are admitted in order of arrival", order),
    Property("stall-free", "every request that decodes gets a token in every batch", stalls),
    Property(
        "bounded-stalls",
        "how many batches a decode waits does not grow with the load",
        _nothing,
        longest_stall,
    ),
    Property(
        "no-starvation",
        "how many later requests overtake one whose client gets nothing does not grow with the load",
        _nothing,
        overtaken,
    ),
    Property("fair", "service of clients that wait differs by at most 2U*", fair),
    Property("vtc", "every run is one of VTC's transition system", counters),
)


# -- patterns


def exhaustive(depth: int, least: int = 1) -> Iterator[Case]:
    """All patterns of up to `depth` requests: four shapes, two clients, up to two steps apart; client 0 is first."""
    shapes = SHAPES[SMALL]
    later = list(itertools.product((0, 1, 2), (0, 1), shapes))
    for n in range(least, depth + 1):
        for first in shapes:
            for rest in itertools.product(later, repeat=n - 1):
                step, sent = 0, [Sent(0, 0, *first)]
                for pause, client, shape in rest:
                    step += pause
                    sent.append(Sent(step, client, *shape))
                yield Case(tuple(sent))


def phases(count: int, memory: int = SMALL, clients: tuple[int, int] = (0, 1)) -> Iterator[Case]:
    """Two phases, or three with a request of its own first: a client sends many of one shape, at once or far apart."""
    kinds = list(itertools.product(clients, SHAPES[memory], (0, 1, memory + 2)))
    for (u, shape, pause), (v, other, then) in itertools.product(kinds, repeat=2):
        if u != clients[0]:
            continue
        for together in (True, False):
            begin = 0 if together else max(pause, 1) * count
            one = [Sent(pause * i, u, *shape) for i in range(count)]
            two = [Sent(begin + then * i, v, *other) for i in range(count)]
            three = [] if together else [Sent(begin, u, *shape)] * count
            yield Case(tuple(sorted([*one, *two, *three], key=lambda s: s.step)), memory)


def trios() -> Iterator[Case]:
    """Two requests of client 0, one of 1 and, a step or two later, one of 2, who finds both of them waiting."""
    for shapes in itertools.product(SHAPES[SMALL], repeat=4):
        for step in (1, 2):
            who = ((0, 0), (0, 0), (0, 1), (step, 2))
            yield Case(tuple(Sent(*w, *shape) for w, shape in zip(who, shapes, strict=True)))


def quartets() -> Iterator[Case]:
    """Four clients under all their names: two are served, and then the two others and the first come at once."""
    for a, b, c, d in itertools.permutations(range(CLIENTS)):
        for step, early, late in itertools.product((0, 2, LARGE + 2), SHAPES[LARGE], SHAPES[LARGE]):
            first = [Sent(0, u, *early) for u in (a, b)]
            then = [Sent(step, u, *late) for u in (c, c, d)]
            yield Case((*first, *then, Sent(step, a, *early)), LARGE)


def rehearsal() -> Iterator[Case]:
    """Patterns to be served interpreted, where an index beyond an array raises: all small ones, some long ones."""
    some = itertools.islice(itertools.chain(quartets(), phases(PHASES[-1])), 0, None, 7)
    return itertools.chain(exhaustive(2), trios(), phases(PHASES[0]), some)


# -- the search


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of a property; `reason` says why, and `trace` is the run, unless it ended in a batch not allowed.

    `verdict` is "broken", "holds to depth d", "holds so far", "proved" or "not examined".
    """

    property: Property
    verdict: str
    reason: str
    case: Case | None = None
    events: int | None = None
    trace: Trace | None = None


def smallest(
    serve: Serve, broken: Callable[[Run], str], case: Case, runs: int = RUNS, until: float = math.inf
) -> Case:
    """Make a case smaller as long as it breaks the property: fewer events, then fewer tokens, then fewer steps.

    Args:
        serve: how to serve a case.
        broken: why a run breaks the property, or "".
        case: one that does.
        runs: most that are served; then the best so far is returned.
        until: when to stop (time.monotonic(), s).
    """

    def size(run: Run) -> tuple[int, int, int]:
        sent = run.case.requests
        return _events(run), sum(s.prompt + s.output for s in sent), sum(s.step for s in sent)

    best, variants = size(serve(case)), list(_variants(case))
    at, missed = 0, 0
    for _ in range(runs):
        if missed >= len(variants) or time.monotonic() > until:
            break
        run = serve(variants[at % len(variants)])
        if broken(run) and size(run) < best:
            # go on from here, for what was in vain before mostly is again; but requests are left out first
            at = at % len(variants) if len(run.case.requests) < len(case.requests) else 0
            case, best, variants, missed = run.case, size(run), list(_variants(run.case)), 0
        else:
            at, missed = at + 1, missed + 1
    return case


def _variants(case: Case) -> Iterator[Case]:
    sent = case.requests
    for length in sorted({len(sent) // 2, len(sent) // 4, 1}, reverse=True):
        for i in range(0, len(sent), length) if 0 < length < len(sent) else ():
            yield replace(case, requests=sent[:i] + sent[i + length :])
    for i, s in enumerate(sent):
        before, after = sent[:i], sent[i + 1 :]
        shapes = {*SHAPES[case.memory], (1, s.output), (s.prompt, 1), (s.prompt, max(s.output - 1, 1))}
        for prompt, output in sorted(shapes - {(s.prompt, s.output)}):
            yield replace(case, requests=(*before, s._replace(prompt=prompt, output=output), *after))
        if s.step > (sent[i - 1].step if i else 0):
            earlier = s._replace(step=s.step - 1)
            yield replace(case, requests=(*before, earlier, *after))
            yield replace(case, requests=(*before, earlier, *(t._replace(step=t.step - 1) for t in after)))


def _events(run: Run) -> int:
    """Arrivals, admissions and batches of a run; of one that is refused, up to there."""
    if run.trace is None:
        return len(run.case.requests)
    admissions = int(np.count_nonzero(~np.isnan(run.trace.requests["admitted"])))
    found = vtc(run.trace, TOKENS) if lifecycle(run.trace).ok else None
    if found is None or found.ok or found.batch is None or found.time is None:
        return len(run.case.requests) + admissions + len(run.trace.iterations["start"])
    q = run.trace.requests
    return int((q["arrival"] <= found.time).sum() + (q["admitted"] <= found.time).sum()) + found.batch + 1


def _grown(serve: Serve, grows: Callable[[Trace], int]) -> Callable[[Run], str]:
    def broken(run: Run) -> str:
        # on the large engine what is bounded still grows at this length
        if run.trace is None or len(run.case.requests) < PHASES[-1] or run.case.memory != SMALL:
            return ""
        value, half = grows(run.trace), serve(run.case.halved())
        if half.trace is None or value < 5 or value < 1.5 * grows(half.trace):
            return ""
        return f"{value} with {len(run.case.requests)} requests, {grows(half.trace)} with {len(half.case.requests)}"

    return broken


def proved_by(policy: Policy) -> dict[str, str]:
    """Properties that follow because the policy is one of the library, with parameters that meet the theorem."""
    twins = {
        fingerprint(cls.body.function): name
        for name in policies.__all__
        if isinstance(cls := getattr(policies, name), type)
        and issubclass(cls, Policy)
        and hasattr(cls, "body")
    }
    if twins.get(fingerprint(policy.body.function)) != "Vtc":
        return {}
    same, cls = cast("Any", policy), type(policy)
    if cls.init is not policies.Vtc.init or cls.parameters is not Policy.parameters:
        return {}  # other counters to begin with, or other parameters than the fields say
    if (
        same.lift != policies.Lift.LEAST
        or same.predictor
        or same.artifact
        or same.cost != TOKENS
        or set(same.weights) != {1.0}
        or same.admission not in (ANNOUNCED_LENGTH, CONTEXT_LIMIT)
    ):
        return {}
    by = "the policy is policies.Vtc, whose runs are those of VTC's system; see the claims vtc-..."
    return {"fair": by, "vtc": by}


def patterns(depth: int) -> tuple[int, Iterator[Case]]:
    """How many patterns there are, and all of them: small ones, long ones, then those of more than three requests."""
    long = [*trios(), *quartets(), *itertools.chain.from_iterable(map(phases, PHASES))]
    others = itertools.chain.from_iterable(phases(PHASES[-1], memory, clients=(3, 2)) for memory in SHAPES)
    long += itertools.islice(others, 0, None, 5)
    shapes = len(SHAPES[SMALL])
    count = sum(shapes * (6 * shapes) ** (n - 1) for n in range(1, depth + 1)) + len(long)
    return count, itertools.chain(exhaustive(min(depth, 3)), long, exhaustive(depth, least=4))


def falsify(
    policy: Policy,
    depth: int = 3,
    properties: Iterable[Property] = PROPERTIES,
    tick: Callable[[int, int], None] = lambda done, total: None,
    serve: Serve | None = None,
    seconds: float = SECONDS,
) -> list[Finding]:
    """Hold a policy to the properties, on all patterns to a depth and on long ones.

    Args:
        policy: to be held; its default parameters or others.
        depth: requests of the patterns that are all tried.
        properties: to be looked for; all by default.
        tick: told now and then how many patterns are done of how many.
        serve: how to serve a case; by default :func:`served`, compiled.
        seconds: after which what is known is returned; a quarter is kept for making patterns smaller.
    """
    if depth < 1:
        raise ValueError(f"a depth of {depth} requests; give at least 1")
    begin = time.monotonic()
    wanted = tuple(properties)
    serve = serve or partial(served, policy)
    tests = {p.name: _grown(serve, p.grows) if p.grows else p.broken for p in wanted}
    found: dict[str, list[Run]] = {p.name: [] for p in wanted}
    total, cases = patterns(depth)
    scope = Scope(f"holds to depth {depth}", "and on the long patterns that were tried")
    for k, case in enumerate(cases):
        open_ = [p for p in wanted if len(found[p.name]) < (1 if p.grows else ENOUGH)]
        if not open_ or found.get(
            "contract"
        ):  # of a policy that breaks the contract nothing else can be said
            break
        if time.monotonic() > begin + 0.75 * seconds:
            scope = Scope(
                "holds so far", f"the time limit of {seconds:g} s ended the search at {k} of {total}"
            )
            break
        run = serve(case)
        for p in open_:
            if tests[p.name](run):
                found[p.name].append(run)
        if k % 50 == 0:
            tick(k, total)
    proved = {} if found.get("vtc") else proved_by(policy)
    until = begin + seconds
    return [_finding(serve, p, tests[p.name], found, scope, proved, until) for p in wanted]


class Scope(NamedTuple):
    """What is said of a property that no pattern broke, and how far that goes."""

    verdict: str
    reason: str


def _finding(
    serve: Serve,
    p: Property,
    broken: Callable[[Run], str],
    found: dict[str, list[Run]],
    scope: Scope,
    proved: dict[str, str],
    until: float,
) -> Finding:
    if found[p.name]:
        best = sorted(found[p.name], key=_events)[:SHRUNK]
        small = [smallest(serve, broken, run.case, until=until) for run in best]
        run = min(map(serve, small), key=_events)
        why = broken(run) or UNSTEADY
        return Finding(p, "broken", why, run.case, _events(run), run.trace)
    if found.get("contract"):
        return Finding(p, "not examined", "the policy breaks the contract")
    if p.name in proved:
        return Finding(p, "proved", proved[p.name])
    return Finding(p, *scope)


# -- in a process of its own


def watched(
    policy: Policy,
    path: Path,
    depth: int,
    tick: Callable[[int, int], None],
    seconds: float = 30.0,
    search: float = SECONDS,
) -> list[Finding]:
    """:func:`rehearsal` and :func:`falsify` in a process of its own, so that an endless body can be stopped.

    Args:
        policy, depth, tick: as there.
        path: the policy's file, for the sentence.
        seconds: longest that one pattern may take; compilation has a limit of its own.
        search: longest that the search may take; then what is known is returned.

    Raises:
        ValueError: a pattern took longer, the policy raised, or ended the process; in which line, if the interpreted
            body does so too.
    """
    context = mp.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_findings, args=(policy, path, depth, search, sender))
    child.start()
    sender.close()
    last, patience, trouble = FIRST, seconds, ""
    try:
        while not trouble and receiver.poll(patience):
            kind, content = receiver.recv()
            patience = COMPILING if kind == "compiles" else seconds
            if kind == "found":
                return content
            if kind in ("case", "compiles"):
                last = content
            elif kind == "raised":
                trouble = content
            else:
                tick(*content)
        trouble = trouble or f"{path}: no answer within {patience:g} s"
    except EOFError:
        trouble = f"{path}: the policy ended the process"
    finally:
        child.kill()
        child.join()
    # interpreted, for the line; compiled code does not know it
    said = guarded(_replay, (policy, path, last), min(seconds, 10.0), path)
    raise ValueError(said or f"{trouble}, on the pattern {list(map(tuple, last.requests))}")


def _send_findings(policy: Policy, path: Path, depth: int, search: float, sender: Any) -> None:
    def serve_and_tell(case: Case, python: bool = False) -> Run:
        sender.send(("case", case))
        return served(policy, case, python)

    def tick(*done: int) -> None:
        sender.send(("tick", done))

    os.dup2(2, 1)  # what a stranger's policy prints is no output of ours
    try:
        for case in rehearsal():
            serve_and_tell(case, python=True)
        sender.send(("compiles", FIRST))
        served(policy, FIRST)
        sender.send(("found", falsify(policy, depth, tick=tick, serve=serve_and_tell, seconds=search)))
    except Exception as error:  # noqa: BLE001 (whatever a stranger's policy raises)
        sender.send(("raised", complaint(error, path)))


def _replay(policy: Policy, path: Path, case: Case) -> str:
    try:
        served(policy, case, python=True)
    except Exception as error:  # noqa: BLE001 (whatever a stranger's policy raises)
        return complaint(error, path)
    return ""
