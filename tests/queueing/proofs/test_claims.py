"""The registry of claims: each proof again, each control wrong in fact, each place that is named there."""

from __future__ import annotations

import importlib
import json
import pkgutil
import random
import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import pytest
import sympy

from queueing import models
from queueing.proofs.certificate import PROOFS, Certificate, Kind, Unchecked
from queueing.proofs.claim import Claim, checked, claims_in
from queueing.proofs.identity import Identity
from queueing.proofs.rational import Optimum, Program

ROOT = Path(__file__).parents[3]
CLAIMS = claims_in("queueing", "policies")
PROVED_ELSEWHERE = (Kind.SOLVER, Kind.KERNEL)  # tests beside their modules need solvers and Coq
PROOFS_HERE = [claim for claim in CLAIMS if claim.kind in PROOFS and claim.kind not in PROVED_ELSEWHERE]


def named(claim: Claim) -> str:
    return claim.name


@pytest.mark.parametrize("claim", PROOFS_HERE, ids=named)
def test_the_proof_holds_and_every_control_is_refuted(claim: Claim):
    verdict = checked(claim)
    assert verdict.ok is True, verdict.reason
    assert verdict.certificates > 0
    assert verdict.controls
    assert all(verdict.controls.values())
    assert claim.evidence is not None
    assert claim.kind in {certificate.kind for certificate in claim.evidence()}


IDENTITIES = [
    pytest.param(certificate, id=f"{claim.name}: {certificate.name}")
    for claim in PROOFS_HERE
    for weakened in claim.controls.values()
    for certificate in weakened()
    if isinstance(certificate, Identity)
]


@pytest.mark.parametrize("wrong", IDENTITIES)
def test_a_refuted_identity_is_wrong_in_numbers(wrong: Identity):
    """What simplification could not make zero is not zero at numbers either."""
    difference = sympy.sympify(wrong.computed) - sympy.sympify(wrong.stated)
    draw = random.Random(0)
    symbols = sorted(difference.free_symbols, key=str)
    values = [{s: sympy.Rational(draw.randint(1, 19), 20) for s in symbols} for _ in range(4)]
    assert max(abs(complex(difference.subs(v).doit().evalf())) for v in values) > 1e-6


def test_every_claim_says_what_it_must():
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS) >= 100
    assert len({claim.statement for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", claim.name), claim.name
        assert claim.statement.endswith("."), claim.name
        assert claim.source, claim.name
        if claim.kind in PROOFS:
            assert claim.assumptions, claim.name
        json.dumps(dict(checked(claim).record()) if claim.evidence is None else {})


def test_every_kind_is_there():
    assert {claim.kind for claim in CLAIMS} == set(Kind)


def test_every_derivation_is_a_claim():
    """Of each model with a function `derivation`, and with a control."""
    modules = [
        importlib.import_module(f"queueing.models.{found.name}")
        for found in pkgutil.iter_modules(models.__path__)
    ]
    derived = [module for module in modules if hasattr(module, "derivation")]
    assert len(derived) >= 17
    for module in derived:
        evidence = [claim.evidence for claim in getattr(module, "CLAIMS", ())]
        assert module.derivation in evidence, f"{module.__name__} claims nothing of its derivation"


def places(claim: Claim) -> list[tuple[str, str]]:
    """(file, test) of each place; the test may be empty."""
    return re.findall(r"([\w./-]+/[\w.-]+\.\w+)(?:::(\w+))?", claim.where)


@pytest.mark.parametrize("claim", CLAIMS, ids=named)
def test_what_a_claim_points_to_exists(claim: Claim):
    found = places(claim)
    assert bool(found) == bool(claim.where), f"{claim.where} names no file"
    assert found or claim.kind in PROVED_ELSEWHERE, f"{claim.name} says not where to read on"
    for file, test in found:
        path = ROOT / file
        assert path.is_file(), file
        if claim.kind == Kind.TESTED:
            assert test, f"{claim.where} names no test"
        if test:
            assert re.search(rf"^def {test}\(", path.read_text(), re.MULTILINE), f"{file} has no test {test}"


def test_a_place_that_is_not_there_would_be_noticed():
    claim = Claim("x", "x.", "", Kind.TESTED, where="tests/queueing/proofs/test_claims.py::test_of_nothing")
    with pytest.raises(AssertionError, match="has no test test_of_nothing"):
        test_what_a_claim_points_to_exists(claim)


# --- verdicts

n = sympy.Symbol("n", positive=True)
RIGHT, WRONG = Identity("right", n + n, 2 * n), Identity("wrong", n + n, n)
ASLEEP = Program.of({"row": ("<=", 1)}, {"x": (1, {"row": 1})})
LOW = Optimum(ASLEEP, {"x": Fraction(1, 2)}, {"row": Fraction(1)})


class Gap(Certificate):
    """A certificate that nobody here can check."""

    kind = Kind.IDENTITY

    @property
    def claim(self) -> str:
        return "a gap"

    def check(self) -> None:
        raise Unchecked("there is no prover here")


def claim_of(evidence: Iterable[Certificate], *weakened: Certificate, kind: Kind = Kind.IDENTITY) -> Claim:
    proved = list(evidence)
    return Claim("tried", "A trial.", "none", kind, (), lambda: proved, {"weakened": lambda: weakened})


def test_a_proof_with_a_refuted_control_is_ok():
    verdict = checked(claim_of([RIGHT, RIGHT], WRONG))
    assert (verdict.ok, verdict.certificates, dict(verdict.controls)) == (True, 2, {"weakened": True})
    record = verdict.record()
    assert record["negative_controls"] == [{"name": "weakened", "refuted": True}]
    assert {"claim", "source", "kind", "ok", "seconds"} <= set(record)
    json.dumps(record)


@pytest.mark.parametrize(
    ("claim", "ok", "reason"),
    [
        (claim_of([RIGHT], RIGHT), False, "the negative control 'weakened' is not refuted"),
        (claim_of([RIGHT], WRONG, RIGHT), False, "the negative control 'weakened' is not refuted"),
        (claim_of([RIGHT]), False, "the negative control 'weakened' is not refuted"),
        (claim_of([RIGHT, WRONG], WRONG), False, "wrong: computed - stated = n, not 0"),
        (claim_of([LOW], WRONG, kind=Kind.RATIONAL), False, "1/2"),
        (claim_of([], WRONG), False, "no certificate was made"),
        (claim_of([Gap()], WRONG), None, "there is no prover here"),
        (claim_of([RIGHT], Gap()), None, "there is no prover here"),
        (
            Claim("cited", "A theorem.", "somebody", Kind.CITED),
            None,
            "cited: there is no certificate to check",
        ),
    ],
)
def test_what_is_not_ok_says_why(claim: Claim, ok: bool | None, reason: str):
    verdict = checked(claim)
    assert verdict.ok is ok
    assert reason in verdict.reason
    assert "\n" not in verdict.reason


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Claim("x", "x", "", Kind.SOLVER), "is proved (solver); give its evidence and a control"),
        (
            lambda: Claim("x", "x", "", Kind.IDENTITY, evidence=list),
            "is proved (identity); give its evidence",
        ),
        (
            lambda: Claim("x", "x", "", Kind.OPEN, evidence=list),
            "is open and no proof; it can have no certificate",
        ),
        (lambda: Claim("x", "x", "", Kind.TESTED), "is tested; say where"),
        (lambda: Claim("x", "x", "", Kind.MEASURED), "is measured; say where"),
    ],
)
def test_flaws_of_a_claim_are_named_in_one_sentence(make: Callable[[], Claim], sentence: str):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_two_claims_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """But one claim may be found in two modules."""
    package = tmp_path / "claims_of_a_stranger"
    package.mkdir()
    (package / "__init__.py").write_text("")
    one = "from queueing.proofs.claim import Claim\nfrom queueing.proofs.certificate import Kind\n"
    one += "CLAIMS = (Claim('twice', 'Said.', 'nobody', Kind.OPEN),)\n"
    (package / "first.py").write_text(one)
    (package / "second.py").write_text("from claims_of_a_stranger.first import CLAIMS\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [claim.name for claim in claims_in("claims_of_a_stranger")] == ["twice"]
    (package / "third.py").write_text(one)
    importlib.invalidate_caches()
    with pytest.raises(ValueError, match="two claims are named twice; give each its own name"):
        claims_in("claims_of_a_stranger")
