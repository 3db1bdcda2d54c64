"""Kernel proofs: what Coq accepts, what it does not, and what rests on an axiom."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from queueing.proofs import kernel
from queueing.proofs.certificate import Refuted, Unchecked
from queueing.proofs.claim import checked
from queueing.proofs.kernel import SOURCES, KernelProof, coq_version
from queueing.proofs.kernel_rad import CLAIMS

needs_coq = pytest.mark.skipif(
    coq_version() is None, reason="needs coqc and coqchk (Debian: apt-get install coq)"
)

SMALL = """
From Coq Require Import Lia.
Theorem sum (n : nat) : n <= 2 * n.
Proof. lia. Qed.
Axiom wishful : forall n : nat, n = 0.
Theorem wished (n : nat) : n = 0.
Proof. apply wishful. Qed.
Theorem given_up (n : nat) : n = 1.
Admitted.
"""


@needs_coq
def test_proofs_axioms_and_gaps_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sound = SMALL.partition("Axiom")[0]
    (tmp_path / "KernelSound.v").write_text(sound)
    (tmp_path / "KernelSmall.v").write_text(SMALL)
    (tmp_path / "KernelWrong.v").write_text(sound.replace("2 * n", "0 * n"))
    monkeypatch.setattr(kernel, "SOURCES", tmp_path)
    proof = KernelProof("KernelSound", "sum")
    proof.check()
    assert "2 * n" in proof.statement
    for theorem in ("wished", "given_up"):
        with pytest.raises(Refuted, match="rests on axioms"):
            KernelProof("KernelSmall", theorem).check()
    with pytest.raises(Refuted, match="KernelSmall rests on"):  # the file has an axiom, says coqchk
        KernelProof("KernelSmall", "sum").check()
    with pytest.raises(Refuted, match="sum in KernelWrong"):
        KernelProof("KernelWrong", "sum").check()
    with pytest.raises(Refuted):
        KernelProof("KernelSound", "sum", (("2 * n", "0 * n"),)).check()
    with pytest.raises(Refuted):
        KernelProof("KernelSound", "no_such_theorem").check()
    with pytest.raises(ValueError, match=r"does not contain 'three'; alter something that is there"):
        KernelProof("KernelSound", "sum", (("three", "four"),)).check()


@needs_coq
def test_a_claim_of_the_library_is_proved_by_the_kernel() -> None:
    """One of them; `make proofs` checks all."""
    verdict = checked(next(claim for claim in CLAIMS if claim.name == "rad-sandwich"))
    assert verdict.ok, verdict.reason
    assert all(verdict.controls.values())


def test_no_source_gives_up() -> None:
    for path in SOURCES.glob("*.v"):
        source = path.read_text()
        assert "Admitted" not in source, path
        assert "Axiom" not in source, path
        assert "Print Assumptions" in source, path


def test_without_coq_nothing_is_proved_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel.shutil, "which", lambda _: None)
    with pytest.raises(Unchecked, match="Coq is not installed"):
        KernelProof("Rad", "rad_batch").check()
    assert checked(CLAIMS[0]).ok is None


def test_a_process_of_a_pool_leaves_no_folder_behind() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        folder = pool.submit(_made).result()
        assert folder.is_dir()  # while the process lives: the control
    assert not folder.exists()


def _made() -> Path:
    return Path(kernel._folder().name)
