"""A weight-shared network (supernet): subnets that differ in depth and width, all of them views of one set of weights.

SubNetAct's three operators, on a residual convolutional network for small images:
    LayerSelect   stage m runs its first D_m blocks
    WeightSlice   a block uses the first ceil(W·C) of its C inner channels
    SubnetNorm    every subnet has its own mean and variance of each normalised channel; scale and shift are shared

A switch of subnets (:meth:`Supernet.actuate`) writes a control tuple and picks a row of statistics: no weight moves.

    block(x) = x + conv₂[:, :k](relu(norm(conv₁[:k](relu(norm(x))))))        k = ceil(W·C) inner channels
    bytes of Φ subnets = shared weights + |Φ|·statistics                    (queueing.models.supernet.SupernetMemory)

The residual stream keeps its full width, so that any prefix of the blocks may run.

Source: SubNetAct of SuperServe, NSDI 2025 (arXiv 2312.16733), section 3.  The network is our own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Architecture", "Subnet", "Supernet"]


@dataclass(frozen=True, slots=True)
class Subnet:
    """A control tuple.

    Args: depth = D_m >= 1, blocks that run, per stage; width = W in (0, 1], share of the inner channels of a block.
    """

    depth: tuple[int, ...]
    width: float

    def __post_init__(self) -> None:
        if not self.depth or not all(type(d) is int and d >= 1 for d in self.depth):
            raise ValueError(f"the depths {self.depth!r} are not whole numbers >= 1; give one per stage")
        if not 0 < self.width <= 1:
            raise ValueError(f"a width of {self.width}; give a share of the channels in (0, 1]")


@dataclass(frozen=True, slots=True)
class Architecture:
    """The whole network.

    Args: channels = of the residual stream, per stage, the image halved from stage to stage; blocks = per stage;
        inner = channels inside a block, per stage, default those of the stream; classes; inputs = channels of an image.
    """

    channels: tuple[int, ...] = (32, 64)
    blocks: tuple[int, ...] = (3, 3)
    inner: tuple[int, ...] = ()
    classes: int = 10
    inputs: int = 1

    def __post_init__(self) -> None:
        if not self.inner:
            object.__setattr__(self, "inner", self.channels)
        stages = {len(self.channels), len(self.blocks), len(self.inner)}
        numbers = (*self.channels, *self.blocks, *self.inner, self.classes, self.inputs)
        if len(stages) > 1 or not self.channels or min(numbers) < 1:
            raise ValueError(
                f"{self} is no network; give channels, blocks and inner channels >= 1 for each stage"
            )

    @property
    def largest(self) -> Subnet:
        """All blocks, all channels."""
        return Subnet(self.blocks, 1.0)

    def subnets(self, widths: Sequence[float] = (0.125, 0.25, 0.5, 1.0)) -> tuple[Subnet, ...]:
        """Every depth, the same for all stages as far as they have it, in every width; the largest last."""
        depths = [tuple(min(d, most) for most in self.blocks) for d in range(1, max(self.blocks) + 1)]
        return tuple(Subnet(depth, width) for depth in depths for width in widths)


class Norm(nn.Module):
    """SubnetNorm: batch normalisation with shared scale and shift, and statistics [subnets, 2, channels] of its own."""

    statistics: Tensor

    def __init__(self, channels: int, subnets: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        statistics = torch.stack([torch.zeros(channels), torch.ones(channels)]).repeat(subnets, 1, 1)
        self.register_buffer("statistics", statistics)
        self.row = 0
        self.gathered: list[Tensor] | None = None  # while statistics are measured

    def forward(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        if self.training or self.gathered is not None:
            if self.gathered is not None:
                flat = x.transpose(0, 1).reshape(c, -1)
                self.gathered.append(torch.stack([flat.mean(1), flat.var(1, unbiased=True)]))
            return functional.batch_norm(x, None, None, self.scale[:c], self.shift[:c], training=True)
        mean, variance = self.statistics[self.row, :, :c]
        return functional.batch_norm(x, mean, variance, self.scale[:c], self.shift[:c])


class Block(nn.Module):
    """A residual block whose inner channels can be sliced."""

    def __init__(self, channels: int, inner: int, subnets: int) -> None:
        super().__init__()
        self.before, self.inside = Norm(channels, subnets), Norm(inner, subnets)
        self.first = nn.Parameter(torch.empty(inner, channels, 3, 3))
        self.second = nn.Parameter(torch.zeros(channels, inner, 3, 3))  # a block begins as the identity
        nn.init.kaiming_normal_(self.first, nonlinearity="relu")

    def forward(self, x: Tensor, k: int) -> Tensor:
        """Add what the first `k` inner channels make of `x`, [batch, channels, height, width]."""
        y = functional.conv2d(functional.relu(self.before(x)), self.first[:k], padding=1)
        return x + functional.conv2d(functional.relu(self.inside(y)), self.second[:, :k], padding=1)


class Supernet(nn.Module):
    """All subnets in one network; it computes as the one that was actuated last, at first the largest.

    Args: architecture; subnets = those that can be actuated, whose statistics are kept; default all of `architecture`.
    Input: images [batch, inputs, height, width], float32.  Output: logits [batch, classes].
    Errors: ValueError in one sentence for a subnet that the architecture has not, or that was not announced.
    Not promised: accuracy of a subnet before :meth:`calibrate` has measured its statistics.
    """

    def __init__(self, architecture: Architecture, subnets: Sequence[Subnet] | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.subnets = tuple(architecture.subnets() if subnets is None else subnets)
        if not self.subnets or len(set(self.subnets)) < len(self.subnets):
            raise ValueError(f"{len(self.subnets)} subnets with repetition; give at least one, each once")
        for subnet in self.subnets:
            stages = len(subnet.depth) == len(architecture.blocks)
            if not stages or any(d > most for d, most in zip(subnet.depth, architecture.blocks, strict=True)):
                raise ValueError(
                    f"{subnet} does not fit stages of {architecture.blocks} blocks; give a depth per stage, none larger"
                )
        self.rows = {subnet: row for row, subnet in enumerate(self.subnets)}
        many, previous = len(self.subnets), architecture.inputs
        self.enter, self.blocks = nn.ParameterList(), list[list[Block]]()
        for channels, blocks, inner in zip(
            architecture.channels, architecture.blocks, architecture.inner, strict=True
        ):
            weight = torch.empty(channels, previous, 3, 3)
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
            self.enter.append(nn.Parameter(weight))
            self.blocks.append([Block(channels, inner, many) for _ in range(blocks)])
            previous = channels
        self.stages = nn.ModuleList(nn.ModuleList(blocks) for blocks in self.blocks)
        self.last, self.head = Norm(previous, many), nn.Linear(previous, architecture.classes)
        self.norms = [module for module in self.modules() if isinstance(module, Norm)]
        self.actuate(self.subnets[-1])

    def actuate(self, subnet: Subnet, *, statistics_of: Subnet | None = None) -> None:
        """Compute as `subnet` from now on: a control tuple and a row of statistics, in place.

        Args: statistics_of = the subnet whose statistics to use instead, to see what SubnetNorm is for.
        """
        row = self.rows.get(statistics_of or subnet)
        if row is None or subnet not in self.rows:
            raise ValueError(f"{subnet} was not announced; give it to the supernet when you make it")
        self.subnet = subnet
        for norm in self.norms:
            norm.row = row

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the active subnet for images [batch, inputs, height, width]."""
        for m, (weight, blocks) in enumerate(zip(self.enter, self.blocks, strict=True)):
            x = functional.conv2d(x, weight, padding=1, stride=1 if m == 0 else 2)
            k = self._inner(m)
            for d in range(self.subnet.depth[m]):
                x = blocks[d](x, k)
        return self.head(functional.relu(self.last(x)).mean((2, 3)))

    @torch.no_grad()
    def calibrate(self, images: Tensor, batch: int = 256) -> None:
        """Measure the statistics of every subnet on these images: SubnetNorm."""
        held = self.subnet
        for subnet in self.subnets:
            self.actuate(subnet)
            for norm in self.norms:
                norm.gathered = []
            for part in images.split(batch):
                self(part)
            for norm in self.norms:
                if norm.gathered:  # blocks that do not run gather nothing
                    found = torch.stack(norm.gathered).mean(0)
                    norm.statistics[norm.row, :, : found.shape[1]] = found
                norm.gathered = None
        self.actuate(held)

    @torch.no_grad()
    def extract(self, subnet: Subnet) -> Supernet:
        """Return a network of `subnet` alone, with copies of its weights: what one loads where nothing is shared."""
        held = self.subnet
        self.actuate(subnet)
        inner = tuple(self._inner(m) for m in range(len(self.architecture.channels)))
        whole = self.architecture
        small = Architecture(whole.channels, subnet.depth, inner, whole.classes, whole.inputs)
        alone = Supernet(small, (small.largest,))
        theirs = dict(alone.named_parameters()) | dict(alone.named_buffers())
        mine = dict(self.named_parameters()) | dict(self.named_buffers())
        for name, target in theirs.items():
            source = mine[name]
            if name.endswith("statistics"):
                source = source[self.rows[subnet] : self.rows[subnet] + 1]
            target.copy_(source[tuple(slice(n) for n in target.shape)])
        self.actuate(held)
        return alone.train(self.training)

    def _inner(self, stage: int) -> int:
        return math.ceil(self.subnet.width * self.architecture.inner[stage])

    @property
    def weights_bytes(self) -> int:
        """Bytes of the shared weights."""
        return sum(weight.numel() * weight.element_size() for weight in self.parameters())

    @property
    def statistics_bytes(self) -> int:
        """Bytes of the statistics of one subnet."""
        return sum(norm.statistics[0].numel() * norm.statistics.element_size() for norm in self.norms)
