"""Transition systems, and the obligations that make an invariant of one inductive.

A system is written once, as templates of SMT-LIB terms over its variables, such as `(<= {v} {c})`; the state after an
event is named `v.next`, `c.next`.  One obligation is made for each event and clause:  all clauses before, the laws of
the constants, the event's guards and its assignments imply the clause after.  With the obligations of the start, every
reachable state satisfies all clauses, by induction over the events.

A mutant, for negative controls, is the same system with a guard or an assignment altered: :meth:`System.mutant`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from queueing.proofs.smt import Obligation

__all__ = ["Event", "System"]

Templates = Mapping[str, str]


def _none() -> Templates:
    return {}


def _united(*parts: Templates) -> dict[str, str]:
    """All entries of the parts; a name that two of them use is an error, as one would silently replace the other."""
    united: dict[str, str] = {}
    for part in parts:
        twice = united.keys() & part.keys()
        if twice:
            raise ValueError(f"{min(twice)!r} names two things; give each its own name")
        united |= part
    return united


@dataclass(frozen=True, slots=True)
class Event:
    """A change of state.

    Args:
        inputs: what the environment chooses: name -> sort.
        guards: name -> template over the state before; all must hold.
        assigns: variable -> template of its new value; variables that are not named stay as they are.
    """

    inputs: Templates = field(default_factory=_none)
    guards: Templates = field(default_factory=_none)
    assigns: Templates = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class System:
    """A transition system with a candidate for an inductive invariant.

    Args:
        variables: of the state: name -> declaration after the name, such as "() Real".
        constants: the same for what never changes.
        laws: of the constants: name -> formula.
        start: what the first states are: name -> template.
        events: name -> event.
        invariant: name of a clause -> template.
        lemmas: facts that hold in every state by another argument: name -> template; assumed before and after.
        preamble: commands before the declarations.

    Example:
        >>> up = Event({"d": "() Int"}, {"upwards": "(<= 0 d)"}, {"x": "(+ {x} d)"})
        >>> least = {"least": "(<= 0 {x})"}
        >>> counter = System({"x": "() Int"}, start={"zero": "(= 0 {x})"}, events={"up": up}, invariant=least)
        >>> [obligation.name for obligation in counter.inductive()]
        ['least at the start', 'up keeps least']
        >>> counter.keeps("up", "least").goal
        '(<= 0 x.next)'
        >>> list(counter.mutant("up", guards={"upwards": None}).keeps("up", "least").hypotheses)
        ['least', 'new x']
    """

    variables: Templates
    constants: Templates = field(default_factory=_none)
    laws: Templates = field(default_factory=_none)
    start: Templates = field(default_factory=_none)
    events: Mapping[str, Event] = field(default_factory=dict[str, Event])
    invariant: Templates = field(default_factory=_none)
    lemmas: Templates = field(default_factory=_none)
    preamble: str = ""

    def before(self, template: str) -> str:
        """The formula of the state before an event."""
        return template.format_map({name: name for name in self.variables})

    def after(self, template: str) -> str:
        """The formula of the state after it."""
        return template.format_map({name: f"{name}.next" for name in self.variables})

    def state(self, *, clauses: bool = True) -> dict[str, str]:
        """Hypotheses that hold in a reachable state: laws, lemmas and, unless excluded, the invariant."""
        facts = _united(self.lemmas, self.invariant if clauses else {})
        return _united(self.laws, {name: self.before(template) for name, template in facts.items()})

    def implied(self, name: str, goal: str, extra: Templates | None = None) -> Obligation:
        """The goal follows from the invariant, and perhaps from `extra`."""
        hypotheses = _united(self.state(), {k: self.before(t) for k, t in (extra or {}).items()})
        return Obligation(name, self._sorts(), hypotheses, self.before(goal), self.preamble)

    def starts(self, clause: str) -> Obligation:
        """The clause holds at the start."""
        first = {name: self.before(template) for name, template in self.start.items()}
        hypotheses = _united(self.state(clauses=False), first)
        goal = self.before(self.invariant[clause])
        return Obligation(f"{clause} at the start", self._sorts(), hypotheses, goal, self.preamble)

    def keeps(self, event: str, clause: str) -> Obligation:
        """The clause holds after the event if all clauses held before."""
        return self.leads(event, f"{event} keeps {clause}", self.invariant[clause])

    def leads(self, event: str, name: str, goal: str) -> Obligation:
        """After the event, `goal` holds (of the new state)."""
        step = self.events[event]
        following = {f"{v}.next": sort for v, sort in self.variables.items()}
        sorts = _united(self._sorts(), following, step.inputs)
        new = {v: self.before(step.assigns.get(v, f"{{{v}}}")) for v in self.variables}
        hypotheses = _united(
            self.state(),
            {name: self.before(guard) for name, guard in step.guards.items()},
            {f"new {v}": f"(= {v}.next {term})" for v, term in new.items()},
            {f"{name}, after": self.after(lemma) for name, lemma in self.lemmas.items()},
        )
        return Obligation(name, sorts, hypotheses, self.after(goal), self.preamble)

    def inductive(self) -> list[Obligation]:
        """Every clause at the start, and after every event."""
        return [
            *(self.starts(clause) for clause in self.invariant),
            *(self.keeps(event, clause) for event in self.events for clause in self.invariant),
        ]

    def steps(self) -> list[Obligation]:
        """The same with one obligation for the start and for each event: quicker, and says less of what fails."""
        whole = f"(and {' '.join(self.invariant.values())})"
        start = replace(self, invariant={"invariant": whole}).starts("invariant")
        return [start, *(self.leads(event, f"{event} keeps the invariant", whole) for event in self.events)]

    def mutant(
        self, event: str, *, guards: Mapping[str, str | None] | None = None, assigns: Templates | None = None
    ) -> System:
        """The system with guards of an event replaced, or dropped where None is given, and with other assignments.

        Raises:
            ValueError: the event has no such guard.
        """
        old = self.events[event]
        altered = guards or {}
        unknown = [name for name in altered if name not in old.guards]
        if unknown:
            raise ValueError(f"{event} has no guard {unknown[0]!r}; it has {', '.join(old.guards)}")
        kept = {name: altered.get(name, formula) for name, formula in old.guards.items()}
        changed = Event(
            old.inputs, {n: g for n, g in kept.items() if g is not None}, {**old.assigns, **(assigns or {})}
        )
        return replace(self, events={**self.events, event: changed})

    def _sorts(self) -> dict[str, str]:
        return _united(self.constants, self.variables)
