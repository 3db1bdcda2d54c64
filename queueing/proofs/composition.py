"""The best composition of batches, proved over all batches there are (see :mod:`queueing.models.composition`)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, NamedTuple

from queueing.proofs.certificate import Certificate, Kind, require

__all__ = ["BatchKind", "BestComposition", "Knapsack", "Load", "Setting"]

ZERO = Fraction(0)


class BatchKind(NamedTuple):
    """A kind of batch: tokens N it is charged for, prompt tokens in it, and decodes in it by class (index, number)."""

    tokens: int
    prompt: Fraction
    decodes: tuple[tuple[int, Fraction], ...]

    @property
    def decoding(self) -> Fraction:
        """Decodes of all classes."""
        return sum((n for _, n in self.decodes), ZERO)


class Load(NamedTuple):
    """What one unit of load asks for per second: prompt tokens, decodes by class, and attention (s of node time)."""

    prompt: Fraction
    decodes: tuple[Fraction, ...]
    attention: Fraction


class Knapsack(NamedTuple):
    """A bound on decodes: beside prompt tokens, n of them that hold M tokens add at most  places·n + memory·M."""

    places: Fraction
    memory: Fraction


@dataclass(frozen=True, slots=True)
class Setting:
    """What batches may be: the staircase t(1..B) (s), the mean context L_k of a decode of class k (tokens; None if it
    does not decode), KV tokens M (None if memory never binds), most decodes, fewest batches per second, nodes; and
    whether batches are pure, of prompt tokens or of decodes alone.
    """

    names: tuple[str, ...]
    seconds: tuple[Fraction, ...]
    context: tuple[Fraction | None, ...]
    kv_tokens: Fraction | None
    max_running: int
    min_batches: Fraction
    nodes: int
    pure: bool

    def held(self, batch: BatchKind) -> Fraction:
        """KV tokens that the decodes of a batch hold."""
        return sum((n * (self.context[k] or ZERO) for k, n in batch.decodes), ZERO)

    def require_legal(self, batch: BatchKind) -> None:
        """Refute a batch that breaks a limit."""
        require(1 <= batch.tokens <= len(self.seconds), f"{batch} is outside the token budget")
        require(batch.prompt >= 0 and all(n >= 0 for _, n in batch.decodes), f"{batch} has a negative entry")
        require(
            batch.prompt + batch.decoding <= batch.tokens,
            f"{batch} holds more than its {batch.tokens} tokens",
        )
        require(batch.decoding <= self.max_running, f"{batch} has more than {self.max_running} decodes")
        require(
            all(self.context[k] is not None for k, _ in batch.decodes),
            f"{batch} decodes what does not decode",
        )
        require(not (self.pure and batch.prompt and batch.decodes), f"{batch} mixes prompts and decodes")
        fits = self.kv_tokens is None or self.held(batch) <= self.kv_tokens
        require(fits, f"{batch} holds more than {self.kv_tokens} tokens of KV memory")


@dataclass(frozen=True, slots=True)
class BestComposition(Certificate):
    """`batches` carry θ times the load, and no schedule of batches whatever carries more than θ(1 + gap) times.

    Primal: `batches`, and how often each runs (1/s).  Dual: what a prompt token (`token`), a decode of each class
    (`decode`), a second of a node (`second`) and a batch (`batch`) are worth; `knapsacks` bound what the decodes of a
    batch can add to prompt tokens (to nothing, if batches are pure).
    """

    kind: ClassVar[Kind] = Kind.RATIONAL
    setting: Setting
    load: Load
    theta: Fraction
    batches: tuple[tuple[BatchKind, Fraction], ...]
    token: Fraction
    decode: tuple[Fraction, ...]
    second: Fraction
    batch: Fraction
    knapsacks: tuple[Knapsack, ...]
    gap: Fraction = ZERO

    @property
    def claim(self) -> str:
        """The multiple, in words."""
        least = f"{len(self.batches)} kinds of batches carry {float(self.theta):.9g} times this load"
        most = "more" if not self.gap else f"more than that times 1 + {float(self.gap):.2g}"
        return f"{least}, and no schedule carries {most}"

    def check(self) -> None:
        """The batches carry θ times the load in the time there is; no batch is worth more than its time costs."""
        self._check_primal()
        self._check_dual()

    def _check_primal(self) -> None:
        s, theta = self.setting, self.theta
        prompt = spent = count = ZERO
        decodes = [ZERO] * len(s.names)
        for batch, often in self.batches:
            s.require_legal(batch)
            require(often >= 0, f"{batch} runs {often} times per second")
            prompt += often * batch.prompt
            for k, n in batch.decodes:
                decodes[k] += often * n
            spent, count = spent + often * s.seconds[batch.tokens - 1], count + often
        require(prompt >= theta * self.load.prompt, f"{prompt} prompt tokens/s are too few")
        for name, got, wanted in zip(s.names, decodes, self.load.decodes, strict=True):
            require(got >= theta * wanted, f"class {name} gets {got} decodes/s, too few")
        spent += theta * self.load.attention
        require(spent <= s.nodes, f"the batches take {spent} s per second of {s.nodes} nodes")
        require(count >= s.min_batches, f"{count} batches per second are fewer than {s.min_batches}")

    def _check_dual(self) -> None:
        s, u, w = self.setting, self.token, self.second
        require(min(u, w, self.batch, *self.decode) >= 0, "a price is negative")
        worth = u * self.load.prompt + w * self.load.attention
        worth += sum((v * d for v, d in zip(self.decode, self.load.decodes, strict=True)), ZERO)
        require(worth >= 1, f"one unit of load is worth {worth}, less than 1")
        bound, most = w * s.nodes - self.batch * s.min_batches, self.theta * (1 + self.gap)
        require(bound == most, f"the prices allow {bound}, the claim is {most}")
        base = ZERO if s.pure else u
        for dual in self.knapsacks:
            require(min(dual) >= 0, f"{dual} is negative")
            require(s.kv_tokens is not None or dual.memory == 0, f"{dual} prices memory that never binds")
            for name, v, context in zip(s.names, self.decode, s.context, strict=True):
                bound = None if context is None else base + dual.places + dual.memory * context
                require(bound is None or v <= bound, f"a decode of {name} is worth {v}, more than {bound}")
        memory = s.kv_tokens or ZERO
        for tokens, seconds in enumerate(s.seconds, start=1):
            most = min(tokens, s.max_running)
            mixed = base * tokens + min(d.places * most + d.memory * memory for d in self.knapsacks)
            best = max(mixed, u * tokens) + self.batch
            require(
                best <= w * seconds, f"a batch of {tokens} tokens may be worth {best}, its time {w * seconds}"
            )
