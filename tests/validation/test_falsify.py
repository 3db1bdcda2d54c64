"""The falsifier: what is known of library policies, broken variants of VTC, and files that are no policies."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from policies import Admission, Fcfs, Lift, Sarathi, Slai, Vtc
from policies.counters import Counters, counters
from queueing.policy import Policy
from validation.cli import main
from validation.falsify import (
    LARGE,
    PHASES,
    PROPERTIES,
    RUNS,
    Case,
    Finding,
    Run,
    Sent,
    exhaustive,
    falsify,
    patterns,
    phases,
    proved_by,
    served,
    smallest,
    watched,
)
from validation.policy_file import load_policy, tried

PLAIN = Path(__file__).with_name("plain_vtc.py")


def verdicts(policy: Policy, *names: str, depth: int = 2, python: bool = False) -> dict[str, Finding]:
    wanted = [p for p in PROPERTIES if not names or p.name in names]
    return {
        f.property.name: f
        for f in falsify(policy, depth, wanted, serve=partial(served, policy, python=python))
    }


# -- what is known of policies


@pytest.mark.parametrize(
    ("policy", "holding", "broken"),
    [
        (
            Vtc(),
            {"contract", "work-conserving", "memory", "order", "no-starvation", "fair", "vtc"},
            {"stall-free"},
        ),
        (Fcfs(), {"contract", "memory", "order", "no-starvation"}, {"fair", "vtc"}),
        (Vtc(lift=Lift.NEVER), {"contract", "memory"}, {"fair", "vtc", "no-starvation"}),
        (Sarathi(), {"contract", "work-conserving", "stall-free", "no-starvation"}, {"memory", "fair"}),
        (Slai(), {"contract", "work-conserving"}, {"order", "no-starvation"}),
    ],
    ids=lambda value: value.name if isinstance(value, Policy) else "",
)
def test_what_policies_keep_and_break(policy: Policy, holding: set[str], broken: set[str]) -> None:
    found = verdicts(policy)
    for name in holding:
        assert found[name].verdict != "broken", f"{name}: {found[name].reason}"
    for name in broken:
        finding = found[name]
        assert finding.verdict == "broken", name
        assert finding.case is not None
        if not finding.property.grows:  # the pattern itself breaks it, replayed
            assert finding.property.broken(served(policy, finding.case)) == finding.reason
    assert (found["fair"].verdict == "proved") == (policy == Vtc())


@dataclass(frozen=True, slots=True)
class Behind(Vtc):
    """VTC by its body, with clients that start far behind."""

    def init(self, requests: int) -> Counters:
        books = counters(requests)
        books.counter[3:] = 1000.0
        return books


@dataclass(frozen=True, slots=True)
class Renamed(Vtc):
    """VTC by another name."""


@pytest.mark.parametrize(
    "policy", [Behind(), Vtc(admission=Admission.PEAK), Vtc(admission=Admission.WHOLE_PROMPT)], ids=repr
)
def test_vtc_is_not_proved_beyond_its_theorem(policy: Policy) -> None:
    assert proved_by(policy) == {}


@pytest.mark.parametrize("policy", [Renamed(), Vtc(admission=Admission.CONTEXT_LIMIT)], ids=repr)
def test_vtc_is_proved_where_its_theorem_holds(policy: Policy) -> None:
    assert set(proved_by(policy)) == {"fair", "vtc"}


def test_a_policy_that_is_not_deterministic_is_told_so() -> None:
    first = True

    def moody(case: Case) -> Run:
        nonlocal first
        run = served(Fcfs(), case)
        first, was = False, first
        return Run(case, None, "broke a rule") if was else run

    (found,) = falsify(Fcfs(), 1, [p for p in PROPERTIES if p.name == "contract"], serve=moody)
    assert found.verdict == "broken"
    assert found.reason.startswith("the policy is not deterministic")


# -- variants of VTC, each from a file

MUTANTS = {
    "no lift": ("                if not waits(memory, view, u):", "                if False:"),
    "lift to the greatest": ("memory.counter[u] = max(memory.counter[u], memory.counter[view.client[k]])",
                             "memory.counter[u] = max(memory.counter[u], np.max(memory.counter))"),
    "admit the greatest": ("memory.counter[view.client[r]] < memory.counter[view.client[best]]",
                           "memory.counter[view.client[r]] > memory.counter[view.client[best]]"),
    "reserve no output": ("reserve = view.prompt[r] + view.predicted[r]", "reserve = view.prompt[r]"),
    "last is not kept": ("            memory.last[0] = view.client[r]\n",
                         "            if memory.last[0] == NONE:\n                memory.last[0] = view.client[r]\n"),
    "no lift on the empty queue": ("elif memory.last[0] != NONE:", "elif False:"),
    "the lift may lower": ("memory.counter[u] = max(memory.counter[u], memory.counter[view.client[k]])",
                           "memory.counter[u] = memory.counter[view.client[k]]"),
    "prompts are not charged": ("memory.counter[view.client[r]] += view.prompt[r]",
                                "memory.counter[view.client[r]] += 0"),
    "outputs cost one": ("+= 2 * (view.decoded[r]", "+= 1 * (view.decoded[r]"),
    "tokens are charged again": ("            memory.charged[r] = view.decoded[r]\n", ""),
    "no lift of the third client": ("elif memory.last[0] != NONE:", "elif memory.last[0] != NONE and u != 2:"),
    "the fourth client comes last": ("if memory.seen[r] != 1 or is_served(batch, r):",
                                     "if memory.seen[r] != 1 or is_served(batch, r) or ("
                                     "view.client[r] == 3 and len(view.waiting) > 1):"),
}  # fmt: skip


def written(folder: Path, old: str, new: str) -> Policy:
    source = PLAIN.read_text()
    assert source.count(old) == 1, f"{old!r} must stand once in {PLAIN.name}"
    path = folder / "mutant.py"
    path.write_text(source.replace(old, new))
    return load_policy(str(path))


def test_vtc_from_a_file_is_vtc() -> None:
    found = verdicts(load_policy(str(PLAIN)), "contract", "vtc", "fair", "order", "memory")
    assert {f.verdict for f in found.values()} == {"holds to depth 2"}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_broken_variant_is_rejected(mutant: str, tmp_path: Path) -> None:
    """With a counterexample of at most 12 events: arrivals, admissions and batches."""
    policy = written(tmp_path, *MUTANTS[mutant])
    found = verdicts(policy, "vtc", depth=1, python=True)["vtc"]
    assert found.verdict == "broken"
    assert found.case is not None
    assert found.events is not None
    assert found.events <= 12
    again = served(policy, found.case, python=True)
    assert found.property.broken(again) == found.reason


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("contract", "> free_blocks(batch):", "> min(free_blocks(batch), 7):"),
        ("vtc", "+= view.prompt[r]", "+= min(view.prompt[r], 4)"),
    ],
    ids=["memory is not used", "long prompts are not charged"],
)
def test_what_only_the_large_engine_shows(name: str, old: str, new: str, tmp_path: Path) -> None:
    found = verdicts(written(tmp_path, old, new), name, depth=1)[name]
    assert found.verdict == "broken"
    assert found.case is not None
    assert found.case.memory == LARGE


# -- patterns


def test_the_exhaustive_patterns_are_all_of_them() -> None:
    cases = [case.requests for case in exhaustive(2)]
    assert len(cases) == len(set(cases)) == 4 + 4 * 3 * 2 * 4
    assert all(np.all(np.diff([s.step for s in case]) >= 0) for case in cases)
    assert all(case.requests[0].step == 0 for case in phases(4))
    assert Case((Sent(0, 0, 1, 1), Sent(3, 1, 2, 2))).workload().arrival.tolist() == [0.0, 2.5]


def test_all_depths_are_searched_though_none_is_held_in_memory() -> None:
    total, cases = patterns(4)
    assert total == sum(1 for _ in cases)
    assert patterns(6)[0] == total + 4 * 24**4 + 4 * 24**5


# -- making patterns smaller


def test_making_smaller_ends_after_so_many_runs() -> None:
    case, runs = list(phases(16))[-1], 0

    def counted(case: Case) -> Run:
        nonlocal runs
        runs += 1
        return served(Fcfs(), case)

    def many(run: Run) -> str:
        return "many" if sum(s.prompt + s.output for s in run.case.requests) > 20 else ""

    cut = smallest(counted, many, case, runs=3)
    assert runs == 4
    assert many(served(Fcfs(), cut))
    small = smallest(counted, many, case)
    assert runs <= 4 + 1 + RUNS
    assert len(small.requests) < len(cut.requests) < len(case.requests)
    assert smallest(counted, many, case, until=0.0) == case


def test_patterns_of_growth_are_made_smaller() -> None:
    found = verdicts(Vtc(lift=Lift.NEVER), "no-starvation")["no-starvation"]
    assert found.case is not None
    assert PHASES[-1] <= len(found.case.requests) < 2 * PHASES[-1]


def test_the_search_ends_in_time_with_what_is_known() -> None:
    found = falsify(Fcfs(), 3, seconds=0.0)
    assert {f.verdict for f in found} == {"holds so far"}
    assert {f.reason for f in found} == {f"the time limit of 0 s ended the search at 0 of {patterns(3)[0]}"}


# -- files that are no policies

GOOD = """
from dataclasses import dataclass
from queueing.policy import NONE, SPF, Policy, is_decoding, is_preempted, next_waiting, plan, take_chunk, take_decodes


@dataclass(frozen=True, slots=True)
class Few(Policy):
    most: int = 32

    @plan
    def few(p, memory, view, batch):
        take_decodes(view, batch, p.most)
        for r in view.running:
            if not is_decoding(view, r) and not is_preempted(batch, r):
                take_chunk(view, batch, r, 512)
        r = next_waiting(view, batch, SPF, 0.0)
        if r != NONE and len(view.running) < p.most:
            take_chunk(view, batch, r, 512)
"""
FIRST = "        take_decodes(view, batch, p.most)\n"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (FIRST, FIRST + "        view.prompt[0] = 3\n", "line 13: the body writes to its view"),
        (FIRST, FIRST + "        view.now += 1\n", "line 13: the body writes to its view"),
        ("r != NONE and", "r != NONE and view.output[r] > 3 and", "line 17: the body reads view.output: no scheduler"),
        ("r != NONE and", "r != NONE and view.length[r] > 3 and", "line 17: the view has no 'length'"),
        (FIRST, "        while p.most > 0:\n            memory.nothing[0] += 1\n", r"line 1[23]: the body did not"),
        (FIRST, FIRST + '        x = {"a": object()}\n', "line 13: the body does not compile: Untyped global"),
        (FIRST, FIRST + "        q = view.prompt\n        if p.most < 0:\n            q[0] = 3\n",
         r"line 15: the body does not compile: No implementation .* setitem\(.*; NumbaTypeError: Cannot modify"),
        (FIRST, FIRST + "        take_chunk(view, batch, 99, 1)\n", "line 13: IndexError"),
        (FIRST, "", "Few broke a rule"),
        ("def few(p", "def few(p(", "line 11: invalid syntax"),
        ("from dataclasses", "import nothing_of_this_name\nfrom dataclasses", "line 2: ModuleNotFoundError"),
        ("most: int = 32", "most: int", "give every parameter a default"),
        ("    @plan\n", "", "mark one of its functions with @plan"),
        ("(Policy):", ":", "no class derived from queueing.policy.Policy"),
    ],
)  # fmt: skip
def test_files_that_are_no_policies(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ValueError, match=sentence):
        tried(load_policy(str(path)), path, seconds=4.0)


def test_an_index_out_of_range_is_found_though_only_a_few_patterns_reach_it(tmp_path: Path) -> None:
    """Compiled, nothing would be said of it."""
    path = tmp_path / "mine.py"
    beyond = "        if len(view.waiting) > 2:\n            memory.nothing[1] += 1\n"
    path.write_text(GOOD.replace(FIRST, FIRST + beyond))
    with pytest.raises(ValueError, match=r"mine\.py, line 14: IndexError: index 1 is out of bounds"):
        watched(load_policy(str(path)), path, 2, lambda done, total: None)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("while True: pass", r"mine\.py, line 2: not imported within 1 s; does a loop end\?"),
        ("import sys; sys.exit(3)", r"mine\.py, line 2: SystemExit: 3"),
        ("import os; os._exit(3)", r"mine\.py: the policy ended the process"),
        ("# caf\xe9", r"mine\.py is no Python source in UTF-8"),
    ],
)
def test_files_that_cannot_be_imported(line: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(GOOD.replace("\n", f"\n{line}\n", 1).encode("latin-1"))
    with pytest.raises(ValueError, match=sentence):
        load_policy(str(path), seconds=1.0)


def test_what_a_file_prints_is_no_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text("print('hello')\n" + GOOD)
    load_policy(str(path))
    said = capfd.readouterr()
    assert said.out == ""
    assert "hello" in said.err


LATE = "        if len(view.running) + len(view.waiting) > 4:\n"


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ("            raise ValueError('late')\n", r"mine\.py, line 14: ValueError: late"),
        (
            "            batch.count[0] //= memory.nothing[0]\n",
            r"mine\.py, line 14: FloatingPointError: divide by zero",
        ),
        (
            "            while p.most > 0:\n                batch.count[1] += 0\n",
            r"line 1[45]: the body did not return",
        ),
    ],
)
def test_policies_that_fail_late(
    trouble: str,
    sentence: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GOOD.replace(FIRST, FIRST + LATE + trouble))
    monkeypatch.setattr("validation.falsify.rehearsal", list)  # so that the compiled search meets it
    policy = load_policy(str(path))
    with pytest.raises(ValueError, match=sentence):
        watched(policy, path, 3, lambda done, total: None, seconds=1.5)
    assert "Traceback" not in capfd.readouterr().err


def test_policies_that_end_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    policy = load_policy(str(path))
    monkeypatch.setattr("validation.falsify.falsify", lambda *_, **__: os._exit(1))
    with pytest.raises(
        ValueError, match=r"mine\.py: the policy ended the process, on the pattern \[\(0, 0, 1, 1\)\]"
    ):
        watched(policy, path, 2, lambda done, total: None)


def test_compilation_has_a_time_limit_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    tried(load_policy(str(path)), path, seconds=2.0)
    path.write_text(GOOD.replace("512", "511"))
    with pytest.raises(ValueError, match=r"mine\.py: the body is not compiled within 0\.1 s"):
        tried(load_policy(str(path)), path, seconds=2.0, compiling=0.1)


def test_the_line_is_known_of_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("mine.py")
    path.write_text(GOOD.replace(FIRST, FIRST + "        take_chunk(view, batch, 99, 1)\n"))
    with pytest.raises(ValueError, match=r"^mine\.py, line 13: IndexError"):
        tried(load_policy("mine.py"), path, seconds=4.0)
    path.write_text("\n1 / 0\n")
    with pytest.raises(ValueError, match=r"^mine\.py, line 2: ZeroDivisionError"):
        load_policy("mine.py")
    path.write_text(GOOD.replace("most: int = 32", "most: int = 32\n    also: str = 'a'"))
    with pytest.raises(ValueError, match=r"^mine\.py: TypeError: field 'also'"):
        tried(load_policy("mine.py"), path, seconds=4.0)


def test_a_policy_is_named_where_there_are_several(tmp_path: Path) -> None:
    path = tmp_path / "two.py"
    path.write_text(GOOD + GOOD.replace("class Few", "class More"))
    with pytest.raises(ValueError, match="has 2 policies; name one"):
        load_policy(str(path))
    policy = load_policy(f"{path}:More")
    assert policy.name == "More"
    tried(policy, path, seconds=20.0)
    with pytest.raises(ValueError, match="has no policy 'Less'; it has Few, More"):
        load_policy(f"{path}:Less")
    with pytest.raises(ValueError, match="there is no policy file"):
        load_policy(str(tmp_path / "nothing.py"))


# -- the command


def test_a_breach_of_the_contract_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "mine.py", tmp_path / "out"
    path.write_text(GOOD.replace(FIRST, FIRST + "        if len(view.waiting) > 1:\n            return\n"))
    with pytest.raises(SystemExit) as stopped:
        main(["prove", "--policy", str(path), "--depth", "1", "--out", str(out), "--json"])
    assert stopped.value.code == 1
    records = {r["property"]: r for r in json.loads(capsys.readouterr().out)}
    assert records["contract"]["verdict"] == "broken"
    assert records["contract"]["memory"] == 6
    assert records["vtc"]["verdict"] == "not examined"


def test_counterexamples_need_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    for out in (path, path / "deeper"):
        with pytest.raises(SystemExit) as stopped:
            main(["prove", "--policy", str(path), "--out", str(out)])
        assert stopped.value.code == 2
        assert (
            capsys.readouterr().err
            == f"tandem: --out {out} is no folder and cannot become one; give another\n"
        )
