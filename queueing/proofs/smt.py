"""Obligations for SMT solvers: hypotheses and a goal, proved if two solvers find no counterexample.

The script asserts the hypotheses and the negation of the goal, in SMT-LIB 2.6; `unsat` from both z3 and cvc5, which
share no code, is the proof.  `sat` from both refutes it, with a counterexample; anything else proves nothing.

A negative control is the same obligation without one of its hypotheses: :meth:`Obligation.without`.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from queueing.proofs.certificate import Certificate, Kind, Refuted, Unchecked

__all__ = ["SOLVERS", "Answer", "Obligation", "write"]

SECONDS = 60  # of each solver, for one obligation


@dataclass(frozen=True, slots=True)
class Answer:
    """`sat`, `unsat` or `unknown`; and, if sat, values of the constants."""

    status: str
    values: Mapping[str, str] = field(default_factory=dict[str, str])


def _import(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise Unchecked(
            f"{name} is not installed; install the extra `proofs` (pip install tandem-queueing[proofs])"
        ) from None


def ask_z3(script: str, seconds: float) -> Answer:
    """Answer of z3."""
    z3 = _import("z3")
    context = z3.Context()
    solver = z3.Solver(ctx=context)
    solver.set("timeout", int(1000 * seconds))
    solver.from_string(script)
    status = str(solver.check())
    if status != "sat":
        return Answer(status)
    model = solver.model()
    constants = [d for d in model.decls() if d.arity() == 0]
    return Answer(status, {d.name(): str(model[d]) for d in constants})


def ask_cvc5(script: str, seconds: float) -> Answer:
    """Answer of cvc5."""
    cvc5 = _import("cvc5")
    terms = cvc5.TermManager()
    solver = cvc5.Solver(terms)
    solver.setOption("tlimit-per", str(int(1000 * seconds)))
    solver.setOption("produce-models", "true")
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, script, "obligation")
    symbols = parser.getSymbolManager()
    answer = "unknown"
    while True:
        command = parser.nextCommand()
        if command.isNull():
            break
        said = str(command.invoke(solver, symbols)).strip()
        if said.startswith("(error"):
            raise ValueError(f"cvc5 does not understand the script: {said}")
        if said in ("sat", "unsat", "unknown"):
            answer = said
    if answer != "sat":
        return Answer(answer)
    constants = [t for t in symbols.getDeclaredTerms() if not t.getSort().isFunction()]
    return Answer(answer, {str(t): str(solver.getValue(t)) for t in constants})


SOLVERS: Mapping[str, Callable[[str, float], Answer]] = {"z3": ask_z3, "cvc5": ask_cvc5}


@dataclass(frozen=True, slots=True)
class Obligation(Certificate):
    """The hypotheses imply the goal, for all values of the declared symbols.

    Args:
        name: of the obligation, in words that make a file name.
        sorts: symbol -> its declaration after the name, such as "() Real" or "(Client) Real".
        hypotheses: name -> formula (SMT-LIB terms).
        goal: formula.
        preamble: commands before the declarations, such as (declare-sort Client 0).

    Example:
        >>> sorts = {"x": "() Real", "y": "() Real"}
        >>> less = Obligation("order", sorts, {"above": "(> x y)", "positive": "(> y 0)"}, "(> x 0)")
        >>> print(less.script)  # doctest: +ELLIPSIS
        ; order
        (set-logic ALL)
        (declare-fun x () Real)
        ...
    """

    kind: ClassVar[Kind] = Kind.SOLVER
    name: str
    sorts: Mapping[str, str]
    hypotheses: Mapping[str, str]
    goal: str
    preamble: str = ""
    seconds: float = SECONDS

    @property
    def claim(self) -> str:
        """Name, hypotheses and goal."""
        return f"{self.name}: {' and '.join(self.hypotheses) or 'nothing'} implies {self.goal}"

    @property
    def script(self) -> str:
        """SMT-LIB 2.6: unsat if the claim holds."""
        lines = [f"; {self.name}", "(set-logic ALL)", *([self.preamble] if self.preamble else [])]
        lines += [f"(declare-fun {name} {sort})" for name, sort in self.sorts.items()]
        for name, formula in self.hypotheses.items():
            lines += [f"; {name}", f"(assert {formula})"]
        return "\n".join([*lines, "; the goal fails", f"(assert (not {self.goal}))", "(check-sat)", ""])

    def without(self, *names: str) -> Obligation:
        """The obligation without some hypotheses.

        Raises:
            ValueError: there is no such hypothesis.
        """
        unknown = [name for name in names if name not in self.hypotheses]
        if unknown:
            raise ValueError(
                f"{self.name} has no hypothesis {unknown[0]!r}; it has {', '.join(self.hypotheses)}"
            )
        kept = {name: formula for name, formula in self.hypotheses.items() if name not in names}
        return replace(self, name=f"{self.name} without {' and '.join(names)}", hypotheses=kept)

    def claiming(self, goal: str) -> Obligation:
        """The obligation with another goal."""
        return replace(self, name=f"{self.name} claiming {goal}", goal=goal)

    def check(self) -> None:
        """Have every solver find no counterexample.

        Raises:
            Refuted: all found one.
            Unchecked: one is missing, does not know, or they disagree.
        """
        answers = {name: ask(self.script, self.seconds) for name, ask in SOLVERS.items()}
        statuses = {answer.status for answer in answers.values()}
        if statuses == {"unsat"}:
            return
        if statuses == {"sat"}:
            values = next(iter(answers.values())).values
            shown = ", ".join(f"{name} = {value}" for name, value in sorted(values.items()))
            raise Refuted(f"{self.name}: fails for {shown}")
        said = ", ".join(f"{name} says {answer.status}" for name, answer in answers.items())
        raise Unchecked(f"{self.name}: {said}; give more time, or another form")


def write(obligations: list[Obligation], folder: Path) -> list[Path]:
    """Write the scripts into a folder, one file each; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for obligation in obligations:
        path = folder / (re.sub(r"[^a-z0-9]+", "-", obligation.name.lower()).strip("-") + ".smt2")
        path.write_text(obligation.script)
        paths.append(path)
    return paths
