"""`tandem prove`: claims one by one, as a table and as JSON; policies from files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import claims_in
from queueing.trace_io import load
from validation import prove as proofs
from validation.cli import app, main

PLAIN = Path(__file__).with_name("plain_vtc.py")
CLAIMS = {claim.name: claim for claim in claims_in(*proofs.PACKAGES)}
runner = CliRunner()


def first(kind: Kind) -> str:
    return next(name for name, claim in CLAIMS.items() if claim.kind == kind)


def test_one_claim_in_full_and_as_json() -> None:
    name = first(Kind.IDENTITY)
    shown = runner.invoke(app, ["prove", name])
    assert shown.exit_code == 0
    assert "proved" in shown.output
    (record,) = json.loads(runner.invoke(app, ["prove", name, "--json"]).output)
    assert {"claim", "source", "kind", "ok", "seconds", "negative_controls"} <= set(record)
    assert record["ok"] is True
    assert record["negative_controls"]
    assert all(control["refuted"] for control in record["negative_controls"])


def test_side_by_side_the_same_is_found() -> None:
    """Verdicts in the order of the claims, whichever process found them; progress to the end."""
    chosen = [CLAIMS[first(kind)] for kind in (Kind.CITED, Kind.IDENTITY, Kind.RATIONAL, Kind.OPEN)]
    seen: list[tuple[int, int]] = []
    one = proofs.prove(chosen, lambda *done: None)
    two = proofs.prove(chosen, lambda *done: seen.append(done), workers=2)
    assert [dataclasses.replace(v, seconds=0.0) for v in one] == [
        dataclasses.replace(v, seconds=0.0) for v in two
    ]
    assert seen[-1] == (4, 4)


def test_claims_without_a_certificate_are_shown_as_such() -> None:
    for kind in (Kind.CITED, Kind.OPEN):
        shown = runner.invoke(app, ["prove", first(kind)])
        assert shown.exit_code == 0
        assert str(kind) in shown.output
        assert "proved" not in shown.output.replace("unproved", "")


def test_solver_scripts_are_written(tmp_path: Path) -> None:
    name = first(Kind.SOLVER)
    runner.invoke(app, ["prove", name, "--smt", str(tmp_path), "--json"])
    scripts = list(tmp_path.rglob("*.smt2"))
    assert scripts
    assert any("controls" in path.parts for path in scripts)
    assert all("(check-sat)" in path.read_text() for path in scripts)


def test_the_kernels_claims_come_only_if_asked_for() -> None:
    names = {claim.name for claim in proofs.chosen_claims([], kernel=False)}
    everything = {claim.name for claim in proofs.chosen_claims([], kernel=True)}
    assert everything == set(CLAIMS)
    assert everything - names == {name for name, claim in CLAIMS.items() if claim.kind == Kind.KERNEL}
    assert len([c for c in CLAIMS.values() if c.kind == Kind.KERNEL]) >= 6
    assert len(CLAIMS) >= 25


def test_a_policy_file_is_falsified_replayed_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="timelines need matplotlib, of the extra `plots`")
    path = tmp_path / "lcf.py"
    path.write_text(PLAIN.read_text().replace("if not waits(memory, view, u):", "if False:"))
    shown = runner.invoke(
        app, ["prove", "--policy", str(path), "--depth", "1", "--out", str(tmp_path / "out"), "--json"]
    )
    found = {record["property"]: record for record in json.loads(shown.output)}
    assert found["vtc"]["verdict"] == "broken"
    assert found["vtc"]["events"] <= 12
    assert found["contract"]["verdict"] == "holds to depth 1"
    saved = [Path(file) for file in found["vtc"]["files"]]
    assert {file.suffix for file in saved} == {".json", ".png", ".svg"}
    assert len(load(saved[0]).requests["prompt"]) == len(found["vtc"]["requests"])


def test_a_claim_that_fails_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends with 1 if a certificate is refuted, or if a control is not."""
    true = next(claim for claim in CLAIMS.values() if claim.kind == Kind.IDENTITY)
    unguarded = dataclasses.replace(true, controls={"nothing weakened": true.evidence})
    for claim, code in ((true, None), (unguarded, 1)):
        monkeypatch.setattr(proofs, "claims_in", lambda *_, claim=claim: [claim])
        try:
            main(["prove", "--json"])
            stopped = None
        except SystemExit as end:
            stopped = end.code
        assert stopped == code


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prove", "no-such-claim"], "there is no claim 'no-such-claim'; did you mean"),
        (["prove", "--policy", "nowhere.py"], "there is no policy file nowhere.py"),
        (["prove", "rad-sandwich", "--policy", "nowhere.py"], "give no claims, --kernel or --smt with it"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["tandem", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.strip().splitlines()) == 1
