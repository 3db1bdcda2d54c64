"""SOAP and SPRPT: against classical formulae, an event-by-event simulation, and laws without atoms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from queueing.models.priority import Jobs, derivation, limited_preemption, soap, sprpt
from queueing.proofs.identity import Identity

points = st.lists(
    st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 9)),
    min_size=1,
    max_size=8,
    unique_by=lambda p: p[:2],
)
loads = st.floats(0.05, 0.95)
shares = st.sampled_from([0.0, 0.5, 1.0, 1.5, math.inf])


def jobs_of(atoms, step=1.0):
    return Jobs(*zip(*atoms, strict=True), step)


def rate_for(jobs, load):
    return load / jobs.mean(jobs.size)


def first_come(y, a):
    return 0 * (y + a)


# --- classical cases of SOAP


@given(atoms=points, load=loads)
def test_constant_ranks_give_pollaczek_khinchine(atoms, load):
    jobs = jobs_of(atoms)
    rate = rate_for(jobs, load)
    wait = rate * jobs.mean(jobs.size**2) / (2 * (1 - load))
    for rank in (first_come, lambda y, a: -a + 0 * y):
        assert soap(jobs, rate, rank) == pytest.approx(wait + jobs.size)
    assert (
        jobs.mean(soap(jobs, rate, lambda y, a: a + 0 * y)) != pytest.approx(wait + jobs.mean(jobs.size))
        or jobs.mean(jobs.size**2) < 2 * jobs.mean(jobs.size) ** 2
    )  # least age first wins for variable sizes only


@given(atoms=points, load=loads)
def test_classes_give_the_formulae_of_cobham_and_of_preemptive_resume(atoms, load):
    jobs = jobs_of(atoms)  # the prediction is the class
    rate = rate_for(jobs, load)
    kept = soap(jobs, rate, lambda y, a: np.where(a == 0, y, -np.inf))
    resumed = soap(jobs, rate, lambda y, a: y + 0 * a)
    x, y, g = jobs.size, jobs.prediction, jobs.weight
    for i in range(len(x)):
        above, upto = y < y[i], y <= y[i]
        spare = (1 - rate * g[above] @ x[above]) * (1 - rate * g[upto] @ x[upto])
        assert kept[i] == pytest.approx(rate * g @ x**2 / (2 * spare) + x[i])
        busy = rate * g[upto] @ x[upto] ** 2 / (2 * spare)
        assert resumed[i] == pytest.approx(busy + x[i] / (1 - rate * g[above] @ x[above]))


@given(atoms=points, load=loads, step=st.sampled_from([1.0, 0.25, 2**-10]))
def test_least_age_first_is_foreground_background_in_rounds_of_one_step(atoms, load, step):
    """The youngest goes first, and within a step who came first: peers do not interrupt the last step of a job."""
    atoms = atoms if step > 0.1 else [(1, 1, 1)]  # many steps for one size, where the limit is plain
    x, g = np.array([a[0] for a in atoms], float), np.array([a[2] for a in atoms], float)
    jobs = Jobs(x, 0 * x, g, step)
    rate = rate_for(jobs, load)
    found = soap(jobs, rate, lambda y, a: a + 0 * y)
    for i in range(len(x)):
        cut = np.minimum(x, x[i])
        upto, before = rate * jobs.mean(cut), rate * jobs.mean(np.minimum(x, x[i] - step))
        exact = rate * jobs.mean(cut**2) / (2 * (1 - upto) * (1 - before)) + x[i] / (1 - before)
        assert found[i] == pytest.approx(exact)
    if step < 0.1:  # foreground-background with equal sizes shares the server to the end
        assert found[0] == pytest.approx(load / (2 * (1 - load) ** 2) + 1 / (1 - load), rel=0.05)


def test_srpt_of_exponential_sizes_tends_to_schrage_and_miller():
    rate, step, most = 0.7, 0.1, 15.0
    size = (np.arange(150) + 0.5) * step
    jobs = Jobs(size, size, stats.expon.cdf(size + step / 2) - stats.expon.cdf(size - step / 2), step / 2)

    def load(x):  # load of sizes up to x
        return rate * (1 - math.exp(-x) * (1 + x))

    def response(x):
        square = 2 - math.exp(-x) * (x * x + 2 * x + 2) + x * x * math.exp(-x)
        served = integrate.quad(lambda t: 1 / (1 - load(t)), 0, x)[0]
        return rate * square / (2 * (1 - load(x)) ** 2) + served

    exact = integrate.quad(lambda x: math.exp(-x) * response(x), 0, most, epsabs=1e-7)[0]
    found = jobs.mean(sprpt(jobs, rate, math.inf).computed)
    assert found == pytest.approx(exact, rel=0.01)
    assert found < 0.8 / (1 - rate)  # far below first come first served


# --- SPRPT with limited preemption


@given(atoms=points, load=loads, share=shares)
def test_the_formula_is_soap(atoms, load, share):
    jobs = jobs_of(atoms, 0.5)
    computed, stated = sprpt(jobs, rate_for(jobs, load), share)
    assert computed == pytest.approx(stated, rel=1e-9)


@given(atoms=points, load=loads)
def test_without_preemption_it_is_shortest_predicted_first(atoms, load):
    jobs = jobs_of(atoms)
    rate = rate_for(jobs, load)
    _, stated = sprpt(jobs, rate, 0.0)
    x, y, g = jobs.size, jobs.prediction, jobs.weight
    for i in range(len(x)):
        before, upto = (rate * g[mask] @ x[mask] for mask in (y < y[i], y <= y[i]))
        assert stated[i] == pytest.approx(rate * g @ x**2 / (2 * (1 - before) * (1 - upto)) + x[i])


@given(atoms=points, load=loads, share=st.sampled_from([1.0, 2.0, math.inf]))
def test_with_perfect_predictions_it_is_shortest_remaining_first(atoms, load, share):
    sizes = {x: w for x, _, w in atoms}
    jobs = jobs_of([(x, x, w) for x, w in sizes.items()])
    rate = rate_for(jobs, load)
    _, stated = sprpt(jobs, rate, share)
    x, g = jobs.size, jobs.weight

    def below(t, strictly):  # load of sizes up to t
        mask = x < t if strictly else x <= t
        return rate * g[mask] @ x[mask]

    for i in range(len(x)):
        square = g @ np.minimum(x, x[i]) ** 2
        wait = rate * square / (2 * (1 - below(x[i], False)) * (1 - below(x[i], True)))
        residence = sum(1 / (1 - below(t + 0.5, True)) for t in range(int(x[i])))
        assert stated[i] == pytest.approx(wait + residence)


@given(atoms=points, load=loads)
def test_with_atoms_the_formula_of_densities_counts_the_ties_twice(atoms, load):
    jobs = jobs_of(atoms)
    rate = rate_for(jobs, load)
    computed, _ = sprpt(jobs, rate, 0.0)
    x, y, g = jobs.size, jobs.prediction, jobs.weight
    i, wait = int(np.argmax(y)), rate * g @ x**2 / 2
    before = rate * g[y < y[i]] @ x[y < y[i]]
    assert computed[i] == pytest.approx(wait / ((1 - load) * (1 - before)) + x[i])
    assert computed[i] < wait / (1 - load) ** 2 + x[i]


def test_grids_tend_to_the_formula_of_densities():
    """Sizes and predictions uniform and independent, no preemption: 1/2 + (λ/6)/(1 - λ/2) by integration."""
    rate = 1.2
    exact = 0.5 + rate / 6 / (1 - rate / 2)
    off = []
    for cells in (10, 20, 40):
        jobs = Jobs.gridded(lambda x, y: np.ones_like(x), 1.0, cells)
        off.append(abs(jobs.mean(sprpt(jobs, rate, 0.0).computed) / exact - 1))
    assert off[0] > 3 * off[1] > 9 * off[2]  # second order
    assert off[2] < 1e-3


# --- simulation


def simulated(jobs, rate, rank, n, rng):
    """Response times of n jobs, in order of arrival, served by least rank; event by event, half columns as in soap."""
    h = jobs.step
    arrival = rng.exponential(1 / rate, n).cumsum().tolist()
    kind = rng.choice(len(jobs.weight), n, p=jobs.weight)
    last = round(jobs.size.max() / h)
    table = rank(jobs.prediction[:, None], np.arange(2 * last)[None, :] * h / 2)
    ranks = np.broadcast_to(table, (len(jobs.weight), 2 * last)).tolist()
    ends = np.rint(2 * jobs.size / h).astype(int).tolist()
    response, present, now, come = [0.0] * n, [], 0.0, 0
    while come < n or present:
        if not present:
            now = arrival[come]
        while come < n and arrival[come] <= now:
            present.append([ranks[kind[come]][0], come, 0, h])  # rank, job, column, left of the column
            come += 1
        job = min(present)
        _, i, column, left = job
        if column % 2 == 1:
            served = min(left, arrival[come] - now) if come < n else left
            now, job[3] = now + served, left - served
            if served < left:
                continue
        job[2:] = column + 1, h
        if job[2] == ends[kind[i]]:
            present.remove(job)
            response[i] = now - arrival[i]
        else:
            job[0] = ranks[kind[i]][job[2]]
    return np.array(response)


NOISY = Jobs([1, 1, 2, 2, 4, 4, 8], [1, 2, 1, 3, 4, 2, 6], [4, 1, 2, 2, 1, 1, 1], 0.5)
RANKS = {
    "no preemption": limited_preemption(0.0),
    "preemption in the first half": limited_preemption(0.5),
    "preemption always": limited_preemption(math.inf),
    "least age first": lambda y, a: a + 0 * y,
    "up and down": lambda y, a: y + np.where(np.floor(a) % 2 == 1, 3.0, 0.0),
}


def interval(values, confidence):
    """Student interval of the mean from 40 batches in a row."""
    means = [chunk.mean() for chunk in np.array_split(values, 40)]
    half = stats.t.ppf((1 + confidence) / 2, 39) * np.std(means, ddof=1) / math.sqrt(40)
    return np.mean(means) - half, np.mean(means) + half


@pytest.mark.parametrize("name", RANKS)
def test_soap_lies_in_the_interval_of_a_simulation(name):
    """60,000 jobs at load 0.7; a correct formula fails with probability 1e-4 in each case, if batches are normal.

    Control: the mean of first come first served lies outside each interval.
    """
    rate = rate_for(NOISY, 0.7)
    found = simulated(NOISY, rate, RANKS[name], 60_000, np.random.default_rng(11))
    low, high = interval(found[2_000:], 1 - 1e-4)
    assert low <= NOISY.mean(soap(NOISY, rate, RANKS[name])) <= high
    fifo = NOISY.mean(soap(NOISY, rate, first_come))
    assert not low <= fifo <= high


# --- algebra and bad input


def test_every_identity_holds_and_a_changed_one_fails():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, 2 * identity.stated).holds


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Jobs([1.5], [1], [1]), "finer step"),
        (lambda: Jobs([0], [1], [1]), "positive multiples"),
        (lambda: Jobs([1], [1, 2], [1]), "as many sizes"),
        (lambda: Jobs([1], [1], [0]), "not all zero"),
        (lambda: Jobs([1], [-1], [1]), "predictions are nonnegative"),
        (lambda: soap(Jobs([2], [2], [1]), 0.5, first_come), "below 0.5"),
        (lambda: soap(Jobs([2], [2], [1]), 0.1, lambda y, a: y + a + np.nan), "no nan"),
        (lambda: sprpt(Jobs([2], [2.5], [1]), 0.1, 1.0), "finer step"),
        (lambda: sprpt(Jobs([2], [2], [1]), 0.1, 0.3), "finer step"),
        (lambda: limited_preemption(-0.1), "C >= 0"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
