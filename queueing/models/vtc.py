"""VTC as a transition system: clients, counters and a memory of M tokens, without a clock, in exact arithmetic.

Notation: Q the clients with a waiting request; of client u, c_u the counter, f_u the weight, W_u the service so far;
h(x, y) the cost of x input and y output tokens.  Of its running requests, m_u are the tokens reserved, R_u the cost of
the output tokens reserved and not yet decoded, and p_u what was charged for predicted tokens not yet decoded; R_u and
p_u are divided by f_u, as all charges are.  e_u = c_u - p_u.  The events::

    arrive   the request joins the queue of u;  if u was not in Q:  x := least c in Q, or, if Q is empty, the c of the
             last client to leave it;  c_u := max(c_u, x)
    admit    the first request (in, out) of the u in Q with the least c, if Σ m + in + out <= M:
             c_u += h(in, predicted)/f_u
    decode   one more token for some running requests; those beyond the prediction are charged when they come
    finish   with the last output token, perhaps before all that was reserved: release, and give back what was predicted
             in excess

The *floor* v, which no scheduler reads, is set to the old c_u by admit and to x by arrive.  Let U be `Setting.bound`:
it is U* = wq·M + max(0, wp - wq)·L if h(x, y) = wp·x + wq·y and prompts have at most L tokens.  In every state::

    I0   0 <= p_u <= R_u  and  R_u = 0 if m_u = 0         I1   Σ m_u <= M
    I2   u in Q:  v <= c_u                                I4   Q empty:  v <= c of the last client to leave it
    I3   e_u + R_u <= v + U/f_u
    I5   e_f + R_f + min(1, f_g/f_f)·min(R_g, max(0, v - e_g)) <= v + U/f_f           for all f other than g

Consequences; T1 and T3 are 2U if weights are 1::

    L1   f, g in Q:  e_f - e_g <= U/f_f + p_g
    T1   f, g in Q all through a window:  abs(W_f/f_f - W_g/f_g) <= U/f_f + U/f_g
    T3   f in Q all through a window:  W_g/f_g - W_f/f_f <= U/f_g + U/min(f_f, f_g)
         with predictions, both 2U/min(f_f, f_g)

Assumptions: admission by reservation, no preemption, a whole prompt charged on admission, and predictions of which
nothing is given back (`given_back` = 0).  With refunds c_u falls and I2 with it, and under unequal weights L1; T1 and
T3 hold with equal weights by another invariant (queueing.proofs.vtc_refunds), and are open with unequal ones.
Source: Sheng et al., OSDI 2024, arXiv 2401.00588: the algorithm, and (recalled) L1, T1, T3 with max(wp·L, wq·M) and the
factors 1, 2, 4.  The invariants, U, the forms with weights, costs and predictions are our derivation; the proof is in
docs/models/vtc.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import NamedTuple

from queueing.cost import TOKENS, Cost

__all__ = [
    "ChunkedCharge",
    "FirstComeFirstServed",
    "LeastCounterFirst",
    "NoLiftOnEmpty",
    "PeakAdmission",
    "Request",
    "Setting",
    "Vtc",
    "Windows",
    "harmonic",
    "violated",
]

Number = int | Fraction


def exact(value: float | Fraction) -> Number:
    """The number itself, whole if it is."""
    fraction = Fraction(value)
    return fraction.numerator if fraction.denominator == 1 else fraction


@cache
def harmonic(k: int) -> Fraction:
    """H_k = 1 + 1/2 + ... + 1/k."""
    return sum((Fraction(1, i) for i in range(1, k + 1)), Fraction(0))


@dataclass(frozen=True)
class Setting:
    """What a system is built for.

    Args:
        clients: how many there are, numbered from 0.
        memory: M (tokens).
        longest: L, most tokens of a prompt; M - 1 by default.
        cost: h, read exactly.
        weights: f_u, the last for all further clients.

    Raises:
        ValueError: a number is out of range.
    """

    clients: int
    memory: int
    longest: int | None = None
    cost: Cost = TOKENS
    weights: tuple[Number, ...] = (1,)

    def __post_init__(self) -> None:
        if self.clients < 1 or self.memory < 2:
            raise ValueError(
                f"{self.clients} clients and {self.memory} tokens of memory are too few; give 1 and 2"
            )
        if not 1 <= self.most_input < self.memory:
            raise ValueError(f"prompts of {self.longest} tokens; give between 1 and {self.memory - 1}, one "
                             "less than the memory")  # fmt: skip
        if not self.weights or any(f <= 0 for f in self.weights):
            raise ValueError(f"weights {self.weights} must be above 0; give one for each client")

    @property
    def most_input(self) -> int:
        """L."""
        return self.memory - 1 if self.longest is None else self.longest

    @cached_property
    def _coefficients(self) -> tuple[Number, ...]:
        return tuple(exact(c) for c in astuple(self.cost))

    def h(self, x: int, y: Number) -> Number:
        """Cost of x input and y output tokens, exactly."""
        a, b, ab, aa, bb, constant = self._coefficients
        return (
            a * x + b * y + (ab * x * y + aa * x * x + bb * y * y + constant if not self.cost.linear else 0)
        )

    def weight(self, u: int) -> Number:
        """f_u."""
        return self.weights[min(u, len(self.weights) - 1)]

    @cached_property
    def bound(self) -> Number:
        """U: most that an admission commits, max of h(in, out) + Σ (h(x, y) - h(x, 0)) over what fits beside it.

        For a linear h this is U* = wq·M + max(0, wp - wq)·L, which is met up to a token.  Otherwise one request that
        fills the memory commits most: of two beside each other, one with the longer prompt and all output tokens
        commits no less, as h is convex in y and its increments rise with x.
        """
        if self.cost.linear:
            wp, wq = self._coefficients[:2]
            return wq * self.memory + max(0, wp - wq) * self.most_input
        return max(self.h(x, self.memory - x) for x in range(1, self.most_input + 1))

    @property
    def published(self) -> Number:
        """max(wp·L, wq·M), the published constant of a linear cost; too small if wp > wq."""
        wp, wq = self._coefficients[:2]
        return max(wp * self.most_input, wq * self.memory)


class Request(NamedTuple):
    """What a client asks for: `output` tokens come, `reserved` are reserved, `predicted` are charged on admission."""

    client: int
    prompt: int
    output: int
    reserved: int
    predicted: Number
    number: int  # in order of arrival


@dataclass(slots=True)
class Running:
    """An admitted request."""

    request: Request
    decoded: int = 0
    prefilled: int = 0  # prompt tokens charged


class Vtc:
    """The reference form; a variant overrides who is next, how a counter is lifted, what fits, or how it is charged.

    Fields with an entry per client: `counter` c, `service` W (not divided by the weight), `queue` of waiting requests,
    `held` m, `committed` R, `prepaid` p.  Others: `running`, `last` to leave Q, `floor` v, `predicts` whether any
    request came with a prediction, `given_back` the sum of refunds.

    Example:
        >>> system = Vtc(Setting(clients=2, memory=10))
        >>> system.arrive(0, prompt=2, output=3)
        >>> system.admit().client, system.counter, system.committed
        (0, [2, 0], [6, 0])
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        zeros = [0] * setting.clients
        self.counter: list[Number] = list(zeros)
        self.service: list[Number] = list(zeros)
        self.held: list[int] = list(zeros)
        self.committed: list[Number] = list(zeros)
        self.prepaid: list[Number] = list(zeros)
        self.queue: list[deque[Request]] = [deque() for _ in zeros]
        self.running: list[Running] = []
        self.last: int | None = None
        self.floor: Number = 0
        self.predicts = False
        self.given_back: Number = 0
        self.arrived = 0

    # -- what a variant overrides

    @property
    def bound(self) -> Number:
        """U of this system: most that can be charged on an admission and committed after it."""
        return self.setting.bound

    def next_client(self) -> int | None:
        """The client of Q with the least counter, among equals the one whose first request came first."""
        return min(self.queued, key=lambda u: (self.counter[u], self.queue[u][0].number), default=None)

    def lift(self, u: int) -> Number:
        """x: the counter to which that of `u` is raised when it comes back to Q."""
        if self.queued:
            return min(self.counter[i] for i in self.queued)
        return self.counter[u] if self.last is None else self.counter[self.last]

    def fits(self, request: Request) -> bool:
        """Whether the memory holds all that is reserved and the request."""
        return sum(self.held) + request.prompt + request.reserved <= self.setting.memory

    # -- events

    @property
    def queued(self) -> list[int]:
        """Q."""
        return [u for u, queue in enumerate(self.queue) if queue]

    def arrive(
        self, client: int, prompt: int, output: int, reserved: int | None = None, predicted: Number = 0
    ) -> None:
        """A request comes; what is reserved is `output` unless more is announced.

        Raises:
            ValueError: it could never be served, or its numbers contradict each other.
        """
        reserved = output if reserved is None else reserved
        if not 0 <= client < self.setting.clients:
            raise ValueError(
                f"there is no client {client}; the {self.setting.clients} clients are numbered from 0"
            )
        if not 1 <= prompt <= self.setting.most_input or not 1 <= output <= reserved:
            raise ValueError(f"a prompt of {prompt} and {output} of {reserved} output tokens; give a prompt of at most "
                             f"{self.setting.most_input} and outputs within the reserved ones")  # fmt: skip
        if prompt + reserved > self.setting.memory or not 0 <= predicted <= reserved:
            raise ValueError(f"{prompt} + {reserved} tokens, {predicted} outputs predicted: at most "
                             f"{self.setting.memory} fit, and no more can be predicted than reserved")  # fmt: skip
        request = Request(client, prompt, output, reserved, predicted, self.arrived)
        self.arrived += 1
        self.predicts = self.predicts or predicted > 0
        if not self.queue[client]:
            x = self.lift(client)
            self.counter[client] = max(self.counter[client], x)
            self.floor = max(self.floor, x)
        self.queue[client].append(request)

    def admit(self) -> Request | None:
        """Admit the first request of the next client; None if there is none, or it does not fit."""
        u = self.next_client()
        if u is None or not self.fits(self.queue[u][0]):
            return None
        request = self.queue[u].popleft()
        self.floor = max(self.floor, self.counter[u])
        self.held[u] += request.prompt + request.reserved
        h, f = self.setting.h, self.setting.weight(u)
        self.committed[u] += _share(h(request.prompt, request.reserved) - h(request.prompt, 0), f)
        self.prepaid[u] += _share(h(request.prompt, request.predicted) - h(request.prompt, 0), f)
        self.counter[u] += _share(h(request.prompt, request.predicted) - h(request.prompt, 0), f)
        self.running.append(Running(request))
        self.charge_prompt(self.running[-1])
        if not self.queue[u]:
            self.last = u
        return request

    def charge_prompt(self, running: Running) -> None:
        """Charge the whole prompt on admission."""
        running.prefilled = running.request.prompt
        price = self.setting.h(running.request.prompt, 0)
        self._pay(running.request.client, price, price)

    def decode(self, which: Iterable[int] | None = None) -> None:
        """One token each for the running requests at these places, all by default; those that end leave."""
        chosen = self.running if which is None else [self.running[k] for k in sorted(set(which))]
        for running in list(chosen):
            request = running.request
            u, x, h, f = request.client, request.prompt, self.setting.h, self.setting.weight(request.client)
            before, running.decoded = running.decoded, running.decoded + 1
            earned = h(x, running.decoded) - h(x, before)
            charged = h(x, max(running.decoded, request.predicted)) - h(x, max(before, request.predicted))
            self._pay(u, earned, charged)
            self.committed[u] -= _share(earned, f)
            self.prepaid[u] -= _share(earned - charged, f)
            if running.decoded == request.output:
                self._finish(running)

    def _finish(self, running: Running) -> None:
        request = running.request
        u, x, h, f = request.client, request.prompt, self.setting.h, self.setting.weight(request.client)
        unused = _share(h(x, max(request.predicted, request.output)) - h(x, request.output), f)
        self.counter[u] -= unused
        self.prepaid[u] -= unused
        self.given_back += unused
        self.committed[u] -= _share(h(x, request.reserved) - h(x, request.output), f)
        self.held[u] -= x + request.reserved
        self.running.remove(running)

    def _pay(self, u: int, earned: Number, charged: Number) -> None:
        self.service[u] += earned
        self.counter[u] += _share(charged, self.setting.weight(u))


def _share(price: Number, f: Number) -> Number:
    return price if f == 1 else exact(Fraction(price) / f)


class LeastCounterFirst(Vtc):
    """LCF: no lift, so that clients hoard credit while they are away."""

    def lift(self, u: int) -> Number:
        """The counter that it has."""
        return self.counter[u]


class NoLiftOnEmpty(Vtc):
    """The artifact's lift: none if nobody waits."""

    def lift(self, u: int) -> Number:
        """The least counter of Q, or the one that it has."""
        return super().lift(u) if self.queued else self.counter[u]


class FirstComeFirstServed(Vtc):
    """FCFS, counters kept but not looked at."""

    def next_client(self) -> int | None:
        """The client whose first request came first."""
        return min(self.queued, key=lambda u: self.queue[u][0].number, default=None)


class PeakAdmission(Vtc):
    """Admit while the *peak* of memory fits, if every request gets a token a step and ends where it was reserved to.

    The k-th largest reserved output of co-resident requests is then at most M/k, and in place of U* stands
    wp·L + wq·M·H_K with K requests at most co-resident (our derivation); no multiple of U* will do.
    """

    def fits(self, request: Request) -> bool:
        """Whether max over k of  Σ over the k longest-lived of (held now + tokens left of the k-th)  is at most M."""
        entries = [(r.request.reserved - r.decoded, r.request.prompt + r.decoded) for r in self.running]
        entries = sorted([*entries, (request.reserved, request.prompt)], reverse=True)
        held = 0
        for k, (left, used) in enumerate(entries, start=1):
            held += used
            if held + k * left > self.setting.memory:
                return False
        return True

    @property
    def bound(self) -> Number:
        """wp·L + wq·M·H_K, where K is the most requests that can be co-resident, M/2 at most; of a linear cost."""
        cost, memory = self.setting.cost, self.setting.memory
        prompt = exact(cost.input) * self.setting.most_input
        return exact(prompt + exact(cost.output) * memory * harmonic(memory // 2))


class ChunkedCharge(Vtc):
    """Charge prompts as they are prefilled, chunk by chunk; of a linear cost.

    A prompt admitted and not yet charged is committed like the output tokens, so that U = max(wp, wq)·M, and nothing is
    charged on admission (our derivation).
    """

    @property
    def bound(self) -> Number:
        """max(wp, wq)·M."""
        return max(exact(self.setting.cost.input), exact(self.setting.cost.output)) * self.setting.memory

    def charge_prompt(self, running: Running) -> None:
        """Commit to the prompt, charge nothing yet."""
        price = self.setting.h(running.request.prompt, 0)
        self.committed[running.request.client] += _share(price, self.setting.weight(running.request.client))

    def prefill(self, place: int, tokens: int) -> None:
        """Prefill and charge the next `tokens` of the prompt of a running request."""
        running = self.running[place]
        u = running.request.client
        tokens = min(tokens, running.request.prompt - running.prefilled)
        price = self.setting.h(running.prefilled + tokens, 0) - self.setting.h(running.prefilled, 0)
        running.prefilled += tokens
        self.committed[u] -= _share(price, self.setting.weight(u))
        self._pay(u, price, price)

    def decode(self, which: Iterable[int] | None = None) -> None:
        """As in VTC, for requests whose prompt is prefilled."""
        chosen = range(len(self.running)) if which is None else which
        super().decode(k for k in chosen if self.running[k].prefilled == self.running[k].request.prompt)


# -- what holds of a state, and over windows


def violated(system: Vtc) -> list[str]:
    """Names of the invariants, and L1, that the state violates."""
    setting, bound, floor = system.setting, system.bound, system.floor
    everyone, queued = range(setting.clients), system.queued
    weight = [setting.weight(u) for u in everyone]
    counter, committed, prepaid, held = system.counter, system.committed, system.prepaid, system.held
    earned = [c - p for c, p in zip(counter, prepaid, strict=True)]
    room = [floor + _share(bound, f) - e - r for f, e, r in zip(weight, earned, committed, strict=True)]

    def stale(f: int, g: int) -> Number:
        part = min(committed[g], max(0, floor - earned[g]))
        return part if weight[g] >= weight[f] else part * Fraction(weight[g]) / weight[f]

    pairs = [(f, g) for f in everyone for g in everyone if f != g]
    holds = {
        "I0": all(0 <= prepaid[u] <= committed[u] and (held[u] or not committed[u]) for u in everyone),
        "I1": sum(held) <= setting.memory,
        "I2": all(floor <= counter[u] for u in queued),
        "I3": all(room[u] >= 0 for u in everyone),
        "I4": bool(queued) or system.last is None or floor <= counter[system.last],
        "I5": all(stale(f, g) <= room[f] for f, g in pairs),
        "L1": all(
            earned[f] - earned[g] <= _share(bound, weight[f]) + prepaid[g]
            for f, g in pairs
            if f in queued and g in queued
        ),
    }
    return [name for name, true in holds.items() if not true]


class Windows:
    """The worst of T1, T3 and T4 over all windows of a run, each as a share of its bound; 1 is met, more is broken.

    `look` is called after every event.  A client is backlogged in a window if it is in Q in every state of it.

        both      T1: abs(W_f/f_f - W_g/f_g), f and g backlogged
        anyone    T3: W_g/f_g - W_f/f_f, f backlogged
        newcomer  T4: the same, while f, which had nothing waiting or running before, waits for its first admission
    """

    def __init__(self, system: Vtc) -> None:
        n = system.setting.clients
        self.system = system
        self._pairs = [(f, g) for f in range(n) for g in range(n) if f != g]
        self._low: dict[tuple[int, int], Number] = {}  # least W_g/f_g - W_f/f_f since f is in Q
        self._low_both: dict[tuple[int, int], Number] = {}  # since f and g are
        self._growth: list[dict[tuple[int, int], Number]] = [dict.fromkeys(self._pairs, 0) for _ in range(3)]
        self._new = [True] * n  # nothing waiting or running, or only waiting since then
        self.look()

    def look(self) -> None:
        """Take the present state into account."""
        system = self.system
        weight = system.setting.weight
        queued = [bool(queue) for queue in system.queue]
        share = [_share(w, weight(u)) for u, w in enumerate(system.service)]
        both, anyone, newcomer = self._growth
        for u, held in enumerate(system.held):
            self._new[u] = not held and (self._new[u] or not queued[u])
        for pair in self._pairs:
            f, g = pair
            if not queued[f]:
                self._low.pop(pair, None)
                self._low_both.pop(pair, None)
                continue
            ahead = share[g] - share[f]
            low = self._low[pair] = min(self._low.get(pair, ahead), ahead)
            if ahead - low > anyone[pair]:
                anyone[pair] = ahead - low
            if self._new[f] and ahead - low > newcomer[pair]:
                newcomer[pair] = ahead - low
            if not queued[g]:
                self._low_both.pop(pair, None)
                continue
            low = self._low_both[pair] = min(self._low_both.get(pair, ahead), ahead)
            if ahead - low > both[pair]:
                both[pair] = ahead - low

    def _worst(self, kind: int) -> Fraction:
        weight, bound = self.system.setting.weight, Fraction(self.system.bound)
        worst = Fraction(0)
        for (f, g), growth in self._growth[kind].items():
            least = min(weight(f), weight(g))
            other = weight(f) if kind == 0 and not self.system.predicts else least
            first = least if self.system.predicts else weight(g)
            worst = max(worst, growth / (bound / first + bound / other))
        return worst

    @property
    def both(self) -> Fraction:
        """Worst of T1."""
        return self._worst(0)

    @property
    def anyone(self) -> Fraction:
        """Worst of T3."""
        return self._worst(1)

    @property
    def newcomer(self) -> Fraction:
        """Worst of T4."""
        return self._worst(2)
