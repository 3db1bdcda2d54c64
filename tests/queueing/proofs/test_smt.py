"""Obligations for solvers: proved by both, refuted by both, or neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from queueing.proofs import smt
from queueing.proofs.certificate import Refuted, Unchecked
from queueing.proofs.smt import SOLVERS, Answer, Obligation, write

SORTS = {"x": "() Real", "y": "() Real"}
ORDER = Obligation("x is above 0", SORTS, {"above": "(> x y)", "positive": "(> y 0)"}, "(> x 0)")
needs_solvers = pytest.mark.skipif(
    not all(pytest.importorskip(name, reason=f"needs {name}, of the extra `proofs`") for name in SOLVERS),
    reason="needs z3 and cvc5",
)


@needs_solvers
def test_what_follows_is_proved_and_what_does_not_is_refuted_with_values() -> None:
    ORDER.check()
    for name in ORDER.hypotheses:
        with pytest.raises(Refuted, match=r"without \w+: fails for x = .*, y = "):
            ORDER.without(name).check()
    assert not ORDER.claiming("(> x 1)").holds
    with pytest.raises(ValueError, match="has no hypothesis 'below'; it has above, positive"):
        ORDER.without("below")


@needs_solvers
@pytest.mark.parametrize("solver", list(SOLVERS))
def test_each_solver_answers_alone(solver: str) -> None:
    """Also with quantifiers, sorts of one's own and arrays."""
    assert SOLVERS[solver](ORDER.script, 10.0).status == "unsat"
    sat = SOLVERS[solver](ORDER.without("above").script, 10.0)
    assert sat.status == "sat"
    assert set(sat.values) == {"x", "y"}
    everyone = Obligation(
        "instance",
        {"c": "(Client) Real", "a": "() Client"},
        {"all": "(forall ((u Client)) (>= (c u) 0))"},
        "(>= (c a) 0)",
        "(declare-sort Client 0)",
    )
    assert SOLVERS[solver](everyone.script, 10.0).status == "unsat"


def test_disagreement_and_ignorance_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def says(*answers: str) -> dict[str, object]:
        return {f"s{k}": (lambda _script, _seconds, a=a: Answer(a)) for k, a in enumerate(answers)}

    for answers in (("unsat", "sat"), ("unsat", "unknown"), ("unknown", "unknown"), ("sat", "unknown")):
        monkeypatch.setattr(smt, "SOLVERS", says(*answers))
        with pytest.raises(Unchecked, match="s0 says"):
            ORDER.check()
    monkeypatch.setattr(smt, "SOLVERS", says("unsat", "unsat"))
    ORDER.check()


def test_a_missing_solver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "z3", None)
    with pytest.raises(Unchecked, match="z3 is not installed; install the extra `proofs`"):
        ORDER.check()


def test_scripts_are_written_for_any_solver(tmp_path: Path) -> None:
    (path,) = write([ORDER], tmp_path / "smt")
    assert path.name == "x-is-above-0.smt2"
    assert path.read_text() == ORDER.script
    assert ORDER.script.rstrip().endswith("(check-sat)")
