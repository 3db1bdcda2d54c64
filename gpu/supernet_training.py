"""Train a supernet on digits that a package ships, and measure its subnets: accuracy, seconds per batch, switching.

Data: the 1,797 handwritten digits of scikit-learn, 8 × 8, each put somewhere on a larger canvas and covered with noise,
so that small subnets are worse than large ones; of the digits as they are every subnet knows 98 %.  Subnets are chosen
by what they know of one part, the validation digits, and judged by another, the test digits.
Training: the sandwich rule (the largest, the smallest and random subnets in every step), as of slimmable networks and
Once-for-All, recalled.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gpu.supernet import Architecture, Subnet, Supernet

__all__ = [
    "Digits",
    "Profile",
    "Study",
    "Switching",
    "accuracy",
    "digits",
    "profile",
    "study",
    "switching",
    "train",
]

Progress = Callable[[int, int], None]
DIGIT = 8  # pixels of a side
TRAINING, VALIDATION = 1100, 348  # digits; the other 349 are for the test


class Digits(NamedTuple):
    """Images [n, 1, side, side] and labels [n], to train on, to choose by and to test on; no digit is in two parts."""

    images: Tensor
    labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def digits(*, canvas: int = 12, noise: float = 0.25, copies: int = 3, seed: int = 0) -> Digits:
    """Return noisy, displaced digits: 1,100 to train on, `copies` times; 348 to choose by and 349 to test on, twice.

    Args: canvas = side of the images, pixels >= 8; noise = standard deviation, where ink is 1; copies; seed = of the
        split, the places and the noise.
    Errors: ImportError naming the extra where scikit-learn is missing.
    """
    if canvas < DIGIT or copies < 1 or noise < 0:
        raise ValueError(f"canvas {canvas}, noise {noise}, copies {copies}; give at least 8 pixels, 0 and 1")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("the digits come with scikit-learn; install the extra `serverless`") from None
    shipped: Any = load_digits()
    ink, label = torch.tensor(shipped.images, dtype=torch.float32) / 16, torch.tensor(shipped.target)
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(ink), generator=random)
    cuts = order.tensor_split((TRAINING, TRAINING + VALIDATION))
    parts = zip(cuts, (copies, 2, 2), strict=True)
    drawn = [
        (
            torch.cat([_placed(ink[part], canvas, noise, random) for _ in range(times)]),
            label[part].repeat(times),
        )
        for part, times in parts
    ]
    return Digits(*drawn[0], *drawn[1], *drawn[2])


def _placed(ink: Tensor, canvas: int, noise: float, random: torch.Generator) -> Tensor:
    corner = torch.randint(0, canvas - DIGIT + 1, (len(ink), 2), generator=random).tolist()
    images = noise * torch.randn((len(ink), 1, canvas, canvas), generator=random)
    for image, digit, (top, left) in zip(images, ink, corner, strict=True):
        image[0, top : top + DIGIT, left : left + DIGIT] += digit
    return images - 0.3  # about the mean of the ink


def train(
    net: Supernet,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch: int = 64,
    rate: float = 0.05,
    random: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Train all subnets at once by the sandwich rule, then measure the statistics of each.

    Each step adds the gradients of the largest, the smallest and `random` other subnets; Nesterov's momentum 0.9, one
    cycle of the learning rate up to `rate`.  On one thread a run is a function of its arguments.
    """
    if epochs < 1 or batch < 1:
        raise ValueError(f"{epochs} epochs in batches of {batch}; give at least one of each")
    draws = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4, nesterov=True)
    steps = epochs * math.ceil(len(images) / batch)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    net.train()
    done = 0
    for _ in range(epochs):
        for part in torch.randperm(len(images), generator=draws).split(batch):
            others = torch.randint(len(net.subnets), (random,), generator=draws).tolist()
            optimiser.zero_grad()
            for row in (len(net.subnets) - 1, 0, *others):
                net.actuate(net.subnets[row])
                functional.cross_entropy(net(images[part]), labels[part]).backward()
            optimiser.step()
            cycle.step()
            done += 1
            if progress is not None:
                progress(done, steps)
    net.eval()
    net.calibrate(images[:TRAINING])
    net.actuate(net.subnets[-1])


@torch.no_grad()
def accuracy(net: Supernet, images: Tensor, labels: Tensor) -> float:
    """Share of the images that the active subnet gets right."""
    parts = zip(images.split(256), labels.split(256), strict=True)  # larger ones leave the cache
    return sum(int((net(some).argmax(1) == right).sum()) for some, right in parts) / len(images)


class Profile(NamedTuple):
    """Per subnet: accuracy [K], and CPU seconds [K][B] of a batch of 1 ... B, which do not fall in the batch."""

    accuracy: list[float]
    latency: list[list[float]]


@torch.no_grad()
def profile(
    net: Supernet,
    subnets: Sequence[Subnet],
    images: Tensor,
    labels: Tensor,
    *,
    largest_batch: int = 16,
    repeats: int = 15,
    progress: Progress | None = None,
) -> Profile:
    """Measure accuracy on these images, and the median CPU seconds of each batch over rounds of all of them.

    Rounds, so that a slow moment of a shared machine falls on all; CPU seconds of one thread, so that other processes
    do not count; the running maximum over batches, since a larger batch takes no less.
    """
    seconds: list[list[list[float]]] = [[[] for _ in range(largest_batch)] for _ in subnets]
    for done in range(repeats + 1):
        for subnet, row in zip(subnets, seconds, strict=True):
            net.actuate(subnet)
            for b in range(1, largest_batch + 1):
                began = time.process_time()
                net(images[:b])
                if done:  # the first round warms up
                    row[b - 1].append(time.process_time() - began)
        if progress is not None:
            progress(done + 1, repeats + 1)
    worth: list[float] = []
    for subnet in subnets:
        net.actuate(subnet)
        worth.append(accuracy(net, images, labels))
    latency: list[list[float]] = []
    for row in seconds:
        highest = 0.0
        latency.append([highest := max(highest, statistics.median(times)) for times in row])
    return Profile(worth, latency)


class Switching(NamedTuple):
    """Seconds to actuate a subnet in place, median and 99th percentile, and to load one, a copy made anew, median."""

    actuate: float
    actuate_p99: float
    load: float


def switching(net: Supernet, *, times: int = 2000, loads: int = 30) -> Switching:
    """Measure switches between the subnets in turn, and, beside them, copies of a standalone subnet."""
    taken: list[float] = []
    for i in range(times):
        subnet = net.subnets[i % len(net.subnets)]
        began = time.perf_counter()
        net.actuate(subnet)
        taken.append(time.perf_counter() - began)
    alone = net.extract(net.subnets[-1])
    copied: list[float] = []
    for _ in range(loads):
        began = time.perf_counter()
        copy.deepcopy(alone)
        copied.append(time.perf_counter() - began)
    taken.sort()
    return Switching(statistics.median(taken), taken[int(0.99 * times)], statistics.median(copied))


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """A trained supernet and what was measured of it: plain numbers, and batches to execute.

    `training`, CPU seconds; `profile` of all subnets, in the order of `subnets`, its accuracy on the validation images;
    `tested`, accuracy of each on the test images; `borrowed`, the same with the statistics of the largest instead of
    its own; `switching`, s; `shared`, bytes of the weights with the statistics of all subnets; `one`, of the largest
    subnet alone; `separate`, of all subnets as networks of their own.
    """

    net: Supernet
    data: Digits
    training: float
    profile: Profile
    tested: list[float]
    borrowed: list[float]
    switching: Switching
    shared: int
    one: int
    separate: int

    @property
    def subnets(self) -> tuple[Subnet, ...]:
        """In the order of the figures."""
        return self.net.subnets

    @torch.no_grad()
    def execute(self, subnet: int, batch: int) -> float:
        """Switch to the subnet of this number, compute a batch, and return the CPU seconds it took."""
        began = time.process_time()
        self.net.actuate(self.net.subnets[subnet])
        self.net(self.data.test_images[:batch])
        return time.process_time() - began


def study(
    architecture: Architecture,
    *,
    epochs: int,
    repeats: int = 15,
    seed: int = 0,
    progress: Progress | None = None,
) -> Study:
    """Make, train and measure a supernet on the digits, single-threaded; all chance in it comes from `seed`."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    net, data = Supernet(architecture), digits(seed=seed)
    began = time.process_time()
    train(net, data.images, data.labels, epochs=epochs, seed=seed, progress=progress)
    took = time.process_time() - began
    measured = profile(net, net.subnets, data.validation_images, data.validation_labels, repeats=repeats)
    tested: list[float] = []
    borrowed: list[float] = []
    for subnet in net.subnets:
        for statistics_of, found in ((subnet, tested), (net.subnets[-1], borrowed)):
            net.actuate(subnet, statistics_of=statistics_of)
            found.append(accuracy(net, data.test_images, data.test_labels))
    alone = [net.extract(subnet) for subnet in net.subnets]
    sizes = [model.weights_bytes + model.statistics_bytes for model in alone]
    shared = net.weights_bytes + len(net.subnets) * net.statistics_bytes
    return Study(net, data, took, measured, tested, borrowed, switching(net), shared, sizes[-1], sum(sizes))
