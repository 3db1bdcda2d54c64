"""Sampling: words against the authors' vectors, draws against softmax, tokens in any company, kernel and reference.

Chi-square tests reject a right sampler with probability 1e-9 each; a few dozen run, so that a false alarm has a
probability below 1e-7.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from triton import language as tl

from gpu.kernels.sample import cost, kernel, reference
from queueing.hardware import HARDWARE, MODELS, ModelShape
from tests.gpu.kernels.launches import programs
from tests.gpu.kernels.paged import planted

pytestmark = pytest.mark.usefixtures("poisoned")
SEEDS = st.integers(0, 2**32 - 1)
KEYS = st.integers(-(2**63), 2**64 - 1)
FALSE_ALARM = 1e-9
DRAWS = 20_000

# counter, key and words of Philox-4x32-10 (kat_vectors of Random123, the authors' library)
KNOWN = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_words_are_the_authors(counter, key, words) -> None:
    computed = reference.philox(tuple(torch.tensor([c]) for c in counter), key)
    assert tuple(int(w) for w in computed) == words


@triton.jit
def words_kernel(counters, key, words, philox: tl.constexpr):
    i = tl.arange(0, 8)
    c0, c1, c2, c3 = philox(
        tl.load(counters + i).to(tl.uint32),
        tl.load(counters + 8 + i).to(tl.uint32),
        tl.load(counters + 16 + i).to(tl.uint32),
        tl.load(counters + 24 + i).to(tl.uint32),
        tl.load(key).to(tl.uint32),
        (tl.load(key) >> 32).to(tl.uint32),
    )
    tl.store(words + i, c0.to(tl.int64))
    tl.store(words + 8 + i, c1.to(tl.int64))
    tl.store(words + 16 + i, c2.to(tl.int64))
    tl.store(words + 24 + i, c3.to(tl.int64))


@given(seed=SEEDS, key=st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=5)
def test_kernel_and_reference_draw_the_same_words(seed, key) -> None:
    counters = torch.from_numpy(np.random.default_rng(seed).integers(0, 2**32, (4, 8)))
    words = torch.zeros_like(counters)
    words_kernel[(1,)](counters, torch.tensor([key]), words, philox=kernel.philox)
    assert torch.equal(words, torch.stack(reference.philox(tuple(counters), key)))


@triton.jit
def exponential_kernel(words, out, exponential: tl.constexpr, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    tl.store(out + i, exponential(tl.load(words + i).to(tl.uint32)))


def test_exponential_variables_are_exact_to_a_few_roundings() -> None:
    """From the least word to the largest, in the kernel too; all are finite and positive."""
    some = np.random.default_rng(0).integers(0, 2**32, 2000)
    words = np.unique(np.concatenate((np.r_[0:24], 2**32 - 1 - np.r_[0:24], 2 ** np.r_[0:32], some)))[:2048]
    words = np.pad(words, (0, 2048 - words.size), "edge")
    u = ((words.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)).astype(np.float64)
    stated = -np.log1p(-np.minimum(u, 1 - 2.0**-24))
    out = torch.zeros(2048)
    exponential_kernel[(1,)](torch.from_numpy(words), out, exponential=kernel.exponential, SIZE=2048)
    for computed in (reference.exponential(torch.from_numpy(words)), out):
        assert computed.numpy() == pytest.approx(stated, rel=4 * 2.0**-23)
        assert computed.min() > 0
        assert computed.max() < 17


def rows(count: int, vocab: int, seed: int, greedy: float = 0.3):
    """Logits, temperatures (some 0), requests and positions."""
    rng = np.random.default_rng(seed)
    temperature = np.where(rng.random(count) < greedy, 0.0, rng.uniform(0.2, 3.0, count))
    return (
        torch.from_numpy(rng.standard_normal((count, vocab)).astype(np.float32)),
        torch.from_numpy(temperature.astype(np.float32)),
        torch.from_numpy(rng.integers(0, 2**62, count)),
        torch.from_numpy(rng.integers(0, 2**32, count)),
    )


def draws(sample, logits, seed: int, temperature: float, count: int = DRAWS, first: int = 0):
    """Tokens of `count` requests with the same logits at one position."""
    requests = torch.arange(first, first + count)
    warmth, position = torch.full((count,), temperature), torch.full((count,), 7)
    return sample(logits.expand(count, -1), warmth, seed, requests, position)


def statistic(tokens, probabilities) -> float:
    """Pearson's chi-square of the tokens' frequencies."""
    expected = probabilities * tokens.numel()
    seen = torch.bincount(tokens, minlength=expected.numel())
    return float(((seen - expected) ** 2 / expected).sum())


@given(seed=KEYS, vocab=st.integers(2, 9), shape=SEEDS, temperature=st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=10)
def test_frequencies_are_softmax(seed, vocab, shape, temperature) -> None:
    """At least 100 are expected of every token."""
    logits = torch.from_numpy(np.random.default_rng(shape).uniform(-0.7, 0.7, vocab)).float()
    probabilities = torch.softmax(logits.double() / temperature, 0)
    limit = chi2.isf(FALSE_ALARM, vocab - 1)
    assert statistic(draws(reference.sample, logits, seed, temperature), probabilities) <= limit


@given(seed=KEYS)
@settings(max_examples=5)
def test_frequencies_of_another_temperature_are_caught(seed) -> None:
    logits = torch.tensor([0.0, 0.5, 1.0, 1.5])
    tokens = draws(reference.sample, logits, seed, 1.25)
    assert statistic(tokens, torch.softmax(logits.double(), 0)) > chi2.isf(FALSE_ALARM, 3)


@pytest.mark.parametrize("key", ["seed", "request", "position"])
@given(seed=st.integers(0, 2**62), request_=st.integers(0, 2**62), position=st.integers(0, 2**31))
@settings(max_examples=5)
def test_neighbours_draw_independently(key, seed, request_, position) -> None:
    """Pairs of tokens whose keys differ by one, of four equally likely: 16 cells, uniform if they are independent."""
    columns = torch.zeros(DRAWS, 4)
    ones = torch.ones(DRAWS)
    requests = request_ + torch.arange(DRAWS) * 2
    positions = torch.full((DRAWS,), position)
    pairs = []
    for step in (0, 1):
        of = {"seed": seed, "request": requests, "position": positions}
        of[key] = of[key] + step
        pairs.append(reference.sample(columns, ones, of["seed"], of["request"], of["position"]))
    uniform = torch.full((16,), 1 / 16, dtype=torch.float64)
    assert statistic(4 * pairs[0] + pairs[1], uniform) <= chi2.isf(FALSE_ALARM, 15)
    assert statistic(4 * pairs[0] + pairs[0], uniform) > chi2.isf(FALSE_ALARM, 15)  # a key that is not read


@given(count=st.integers(1, 8), vocab=st.integers(1, 50), seed=SEEDS, key=KEYS, data=st.data())
def test_a_token_does_not_know_its_company(count, vocab, seed, key, data) -> None:
    logits, *of = rows(count, vocab, seed)
    tokens = reference.sample(logits, of[0], key, *of[1:])
    chosen = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=12))
    assert torch.equal(
        reference.sample(logits[chosen], of[0][chosen], key, *(x[chosen] for x in of[1:])), tokens[chosen]
    )


@given(vocab=st.integers(1, 40), seed=SEEDS, key=KEYS, warm=st.booleans())
def test_temperature_zero_is_the_first_maximum_and_masked_columns_are_never_drawn(
    vocab, seed, key, warm
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.integers(0, 3, (4, vocab)).astype(np.float32)
    masked = rng.random((4, vocab)) < 0.5
    masked[:, rng.integers(vocab)] = False
    logits[masked] = -np.inf
    names = torch.arange(4)
    tokens = reference.sample(
        torch.from_numpy(logits), torch.full((4,), float(warm)), key, names, names
    ).numpy()
    assert not masked[np.arange(4), tokens].any()
    if not warm:
        assert tokens.tolist() == [row.tolist().index(row.max()) for row in logits]


def shortfall(sample, logits, temperature, key, request_, position) -> float:
    """How much better the reference scores its own tokens than those of `sample`; infinite for a token that is none."""
    tokens = sample(logits, temperature, key, request_, position)
    stated = reference.sample(logits, temperature, key, request_, position)
    if ((tokens < 0) | (tokens >= logits.shape[1])).any():
        return np.inf
    groups = torch.arange(-(-logits.shape[1] // 4))[None]
    words = reference.philox((groups, position[:, None], request_[:, None], request_[:, None] >> 32), key)
    noise = -reference.exponential(torch.stack(words, -1).flatten(1)[:, : logits.shape[1]]).log()
    warm = temperature[:, None] > 0
    scores = torch.where(warm, logits / temperature[:, None].clamp(min=1e-9) + noise, logits)
    gap = (scores.gather(1, stated[:, None]) - scores.gather(1, tokens[:, None])).flatten()
    # at temperature 0 nothing is rounded, and a tie goes to the first
    return float(torch.where(warm[:, 0], gap, (stated != tokens).float()).max())


AN_ULP_OR_TWO = 1e-5  # of scores up to 30


@given(count=st.integers(1, 4), vocab=st.integers(1, 600), seed=SEEDS, key=KEYS)
@settings(max_examples=10)
def test_kernel_is_the_reference(count, vocab, seed, key) -> None:
    logits, temperature, request_, position = rows(count, vocab, seed)
    assert shortfall(kernel.sample, logits, temperature, key, request_, position) <= AN_ULP_OR_TWO


CAUGHT = {
    "words in another order": ("tl.join(w0, w2), tl.join(w1, w3)", "tl.join(w0, w1), tl.join(w2, w3)"),
    "the same words in every block": ("(start // 4 + group)", "group"),
    "the position is not read": ("zeros + place.to", "zeros + 0 * place.to"),
    "half of the request": ("zeros + (name >> 32)", "zeros + 0 * (name >> 32)"),
    "half of the seed": ("(key >> 32).to", "(0 * key).to"),
    "no temperature": ("score / warmth", "score"),
    "always warm": ("if warmth > 0.0", "if warmth >= 0.0"),
    "the other sign": ("- tl.log(exponential", "+ tl.log(exponential"),
    "one logarithm": ("- tl.log(exponential(words))", "- exponential(words)"),
    "the last maximum": ("better = score > best", "better = score >= best"),
    "any lane's maximum": ("tl.min(tl.where(best == tl.max(best, 0), where, VOCAB), 0)",
                           "tl.max(tl.where(best == tl.max(best, 0), where, 0), 0)"),
    "beyond the row": ("mask=column < VOCAB", "mask=column < VOCAB + 8"),
    "a column too few": ("mask=column < VOCAB", "mask=column < VOCAB - 1"),
    "the first row for all": ("logits + r * VOCAB", "logits + 0 * r"),
    "a round too few": ("static_range(10)", "static_range(9)"),
    "keys that do not move": ("k0 += W0", "k0 += 0"),
}  # fmt: skip


@pytest.mark.parametrize(("right", "wrong"), CAUGHT.values(), ids=CAUGHT)
def test_planted_errors_are_caught(right, wrong, tmp_path) -> None:
    assert shortfall(planted(kernel, right, wrong, tmp_path).sample, *hard()) > 100 * AN_ULP_OR_TWO


def test_without_a_planted_error_nothing_is_caught() -> None:
    assert shortfall(kernel.sample, *hard()) <= AN_ULP_OR_TWO


def hard():
    """Rows over two blocks: draws, one flat, one of the second block; ties of a lane and of two; a maximum at the end.

    They lie in larger memory whose rest would win.
    """
    vocab = kernel.BLOCK + 6
    around = torch.full((8, vocab), 1e4)
    logits = around[1:-1]
    logits[:] = 0.5 * torch.randn(6, vocab, generator=torch.Generator().manual_seed(0))
    logits[0] = 0
    logits[1, : kernel.BLOCK] = -torch.inf
    logits[2, [3, 5]] = 9.0
    logits[3, [3, kernel.BLOCK + 3]] = 9.0
    logits[4, -1] = 9.0
    temperature = torch.tensor([1.0, 0.7, 0.0, 0.0, 0.0, 0.2])
    request_, position = (2**33 + 1) * torch.arange(1, 7), 1 + torch.arange(6)
    return logits, temperature, 2**40 + 5, request_, position


def test_costs_are_those_of_launch_and_tensors() -> None:
    shape = ModelShape("toy", 1, 16, 1, 1, 16, 16, 96)
    logits, *of = rows(5, shape.vocab, 0)
    out = reference.sample(logits, of[0], 0, *of[1:])
    assert programs(kernel, "sample_kernel", logits, of[0], 0, *of[1:], launcher="sample") == cost.programs(
        shape, 5
    )
    assert cost.bytes_moved(shape, 5) == sum(t.nbytes for t in (logits, *of, out))


def test_floor_of_the_design_at_mistral_on_h100() -> None:
    model, h100 = MODELS["mistral-7b"], HARDWARE["h100"]
    assert 64e3 <= cost.bytes_moved(model, 1) <= 129e3  # "64-128 KB/row"
    assert cost.floor(model, 64, h100) < 3e-6  # "about 0"
    assert cost.flops(model, 1) / h100.flops < cost.floor(model, 1, h100) / 10  # bytes decide


def test_bad_rows_are_named() -> None:
    one, two = torch.zeros(1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="2 rows of logits"):
        kernel.sample(torch.zeros(2, 4), torch.ones(2), 0, two, one)
    with pytest.raises(ValueError, match="contiguous"):
        kernel.sample(torch.zeros(4, 2).T, torch.ones(2), 0, two, two)
    assert kernel.sample(torch.zeros(0, 4), torch.ones(0), 0, one[:0], one[:0]).shape == (0,)
