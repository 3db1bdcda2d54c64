"""Choice of the next token in Triton: one program per row, which it goes through once."""

# Bodies of kernels carry no hints: Triton types them by what they are launched with, which may carry its options too.
# pyright: basic, reportMissingParameterType=false, reportCallIssue=false, reportArgumentType=false, reportAssignmentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpu.kernels.variants import Variant

__all__ = ["VARIANTS", "exponential", "philox", "sample", "sample_kernel"]

BLOCK = 2048  # columns that a program looks at at a time


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Philox-4x32-10 on words of 32 bits; see :func:`gpu.kernels.sample.reference.philox`."""
    M0: tl.constexpr = 0xD2511F53
    M1: tl.constexpr = 0xCD9E8D57
    W0: tl.constexpr = 0x9E3779B9
    W1: tl.constexpr = 0xBB67AE85
    for _ in tl.static_range(10):
        high0, low0 = tl.umulhi(c0, M0), c0 * M0
        high1, low1 = tl.umulhi(c2, M1), c2 * M1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += W0
        k1 += W1
    return c0, c1, c2, c3


@triton.jit
def exponential(words):
    """Exponential variables -log(1 - u); see :func:`gpu.kernels.sample.reference.exponential`.

    With w = 1 - u as rounded, log(1 - u) is log(w)·u/(1 - w) to a few roundings, and -u where w is 1.

    Source: Kahan, in Goldberg, "What every computer scientist should know about floating-point arithmetic", theorem 4.
    """
    u = tl.minimum((words.to(tl.float32) + 0.5) * 2.3283064365386963e-10, 0.999999940395355224609375)
    w = 1.0 - u
    return tl.where(w == 1.0, u, -tl.log(w) * (u / tl.where(w == 1.0, 1.0, 1.0 - w)))


@triton.jit(do_not_specialize=["seed"])
def sample_kernel(
    logits, temperature, request, position, out, seed, VOCAB: tl.constexpr, BLOCK: tl.constexpr
):
    """Program r: row r.  Each lane keeps the best score of its columns, the first if there are more."""
    r = tl.program_id(0).to(tl.int64)
    warmth = tl.load(temperature + r)
    name = tl.load(request + r)
    place = tl.load(position + r)
    key = seed.to(tl.int64)
    group = tl.arange(0, BLOCK // 4)
    zeros = tl.zeros([BLOCK // 4], tl.uint32)
    lane = tl.arange(0, BLOCK)
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    where = lane
    for start in range(0, VOCAB, BLOCK):
        column = start + lane
        score = tl.load(logits + r * VOCAB + column, mask=column < VOCAB, other=float("-inf")).to(tl.float32)
        if warmth > 0.0:
            w0, w1, w2, w3 = philox(
                (start // 4 + group).to(tl.uint32),
                zeros + place.to(tl.uint32),
                zeros + name.to(tl.uint32),
                zeros + (name >> 32).to(tl.uint32),
                key.to(tl.uint32),
                (key >> 32).to(tl.uint32),
            )
            words = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), [BLOCK])
            score = score / warmth - tl.log(exponential(words))
        better = score > best
        best = tl.where(better, score, best)
        where = tl.where(better, column, where)
    first = tl.min(tl.where(best == tl.max(best, 0), where, VOCAB), 0)
    tl.store(out + r, first.to(tl.int64))


def sample(logits: Tensor, temperature: Tensor, seed: int, request: Tensor, position: Tensor) -> Tensor:
    """The next token of each row: its most likely one at temperature 0, else a draw from softmax(logits/temperature).

    Arguments and result are those of :func:`gpu.kernels.sample.reference.sample`.  The random words are the same; a
    logarithm may differ in its last bits, so a token differs only where two scores are within a few of them.

    Raises:
        ValueError: there is not one temperature, request and position per row, or the logits are not contiguous.
    """
    rows, vocab = logits.shape
    if any(given.shape != (rows,) for given in (temperature, request, position)):
        shapes = [tuple(given.shape) for given in (temperature, request, position)]
        raise ValueError(
            f"{rows} rows of logits meet temperatures, requests and positions of shapes {shapes}; give one per row"
        )
    if not logits.is_contiguous():
        raise ValueError("sampling reads whole rows; give contiguous logits")
    out = torch.empty(rows, dtype=torch.int64, device=logits.device)
    if rows:
        key = (seed + (1 << 63)) % (1 << 64) - (1 << 63)  # the same bits, in a signed word
        sample_kernel[(rows,)](
            logits, temperature, request, position, out, key, VOCAB=vocab, BLOCK=BLOCK, num_warps=8
        )
    return out


VARIANTS = (
    Variant(
        "sample",
        sample_kernel,
        {
            "logits": "*fp32",
            "temperature": "*fp32",
            "request": "*i64",
            "position": "*i64",
            "out": "*i64",
            "seed": "i64",
        },
        {"VOCAB": 32000, "BLOCK": BLOCK},
        frozenset({"logits", "temperature", "request", "position", "out"}),
        {"num_warps": 8},
    ),
)
