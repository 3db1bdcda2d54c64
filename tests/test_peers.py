"""RAD's tile model agrees, request by request, with pyserq, a simulator written by others in another language."""

import numpy as np
import pytest

from benchmarks.peers import Peer, program, run_pyserq
from policies.rad import Rad
from policies.sarathi import Sarathi
from queueing import metrics as m
from queueing.simulator import simulate
from queueing.system import System
from queueing.trace import Trace

pytest.importorskip("pyserq", reason="pyserq is not installed (extra `peers`)")

HORIZON = 200.0


@pytest.fixture(scope="module", params=[20.0, 30.0])
def peer(request) -> Peer:
    return run_pyserq(program(request.param, HORIZON, seed=1), HORIZON)


def ours(peer: Peer, policy=None) -> Trace:
    return simulate(peer.workload, System.rad_tile_model(), policy or Rad(), horizon=HORIZON)


def figures(trace: Trace) -> dict[str, float]:
    """The peer's figures, from our trace; its shares are of time and its means leave out what is censored."""
    its = trace.iterations
    ttft, e2e = m.ttft(trace), m.e2e(trace)
    return {
        "iterations": len(its["start"]),
        "mean_decode_batch": m.composition(trace)["mean_decodes"],
        "prefill_share": its["seconds"][its["prefill"] > 0].sum() / HORIZON,
        "finished": int(trace.finished.sum()),
        "ttft": float(ttft[np.isfinite(ttft)].mean()),
        "e2e": float(e2e[np.isfinite(e2e)].mean()),
        "tbt": m.tbt_mean(trace),
    }


def test_on_the_same_requests_every_figure_is_the_same(peer):
    """The peer reports the requests it drew, and they are served here: no statistical error is left.

    The figures agree to a part in 10,000, what a batch more or less at the horizon makes, far inside the 1 % for
    iterations per second and the 2 % for the mean decode batch that the comparison asks for.
    """
    found = figures(ours(peer))
    assert found["iterations"] / HORIZON == pytest.approx(peer.iterations / HORIZON, rel=0.01)
    assert found["mean_decode_batch"] == pytest.approx(peer.mean_decode_batch, rel=0.02)
    for name, value in found.items():
        assert value == pytest.approx(getattr(peer, name), rel=1e-4), name


@pytest.mark.parametrize("policy", [Rad(tile=64, chunk=64), Sarathi(128)])
def test_another_policy_would_be_noticed(peer, policy):
    """Negative control: with half the tile, or mixed batches, latencies and decode batches part from the peer's.

    Iterations per second hardly do: at these loads every policy always runs batches of one tile.
    """
    found = figures(ours(peer, policy))
    off = {name for name, value in found.items() if value != pytest.approx(getattr(peer, name), rel=1e-3)}
    assert off >= {"ttft", "tbt", "mean_decode_batch"}


def test_the_requests_drawn_follow_the_laws_asked_for(peer):
    """What the peer drew is RAD's instance: prompts on 128 U{1..8}, outputs geometric with rate 1/200, cut at 512.

    Means within 4.5 standard errors: a true law is refused with probability below 1e-5.  Negative control: an output
    law that is not cut would have mean 200.5.
    """
    prompt, output = peer.workload.prompt, peer.workload.output
    assert set(np.unique(prompt // 128)) == set(range(1, 9))
    assert np.all(prompt % 128 == 0)
    k = np.arange(512)
    mean = float(np.exp(-k / 200).sum())
    error = 4.5 * output.std() / np.sqrt(len(output))
    assert abs(output.mean() - mean) < error
    assert abs(output.mean() - 200.5) > error
    assert output.max() == 512
