"""Tile: the block of output that one program of a matrix product computes, shared by kernels and theory.

Notation: a product of `rows` x `reduction` by `reduction` x `columns` has a row per token and a column per output.  It
is cut into ⌈rows/m⌉·⌈columns/n⌉ tiles, each the sum of ⌈reduction/k⌉ steps that `split` programs share.  An accelerator
of P processors that hold `occupancy` programs each works on S = P·occupancy of them at a time: one **wave**.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Tile"]


@dataclass(frozen=True, slots=True)
class Tile:
    """Sides m x n of a tile of output, step k of the reduction, programs that share it, and their order.

    `m` tokens; `n` outputs; `k` entries of the reduction at a time; `split` programs per tile, which add up their parts
    in float32; `group` rows of tiles are gone through together, so that their weights are read while they are in cache.

    A tile that is partly filled costs a full one, so a product takes as long as its waves,

        waves(rows) = ⌈⌈rows/m⌉·⌈columns/n⌉·split / S⌉,

    a staircase of the batch's tokens.  Assumes that programs of one wave start together and take equally long.

    Raises:
        ValueError: a side is no power of two of at least 16, the least that tensor cores multiply, or `split` or
            `group` is no whole number of at least 1.

    Example:
        >>> tile = Tile(128, 128, 64)
        >>> tile.tiles(512, 4096), tile.waves(512, 4096, 132)
        (128, 1)
        >>> tile.waves(513, 4096, 132)  # one token more takes another wave
        2
        >>> tile.corners(4096, 132, most=1500)
        (512, 1024, 1536)
    """

    m: int
    n: int
    k: int
    split: int = 1
    group: int = 8

    def __post_init__(self) -> None:
        for field in fields(self):
            value: int = getattr(self, field.name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if field.name in ("split", "group"):
                if not whole or value < 1:
                    raise ValueError(f"tile has {field.name}={value!r}; give a whole number, at least 1")
            elif not whole or value < 16 or value & (value - 1):
                raise ValueError(f"tile has {field.name}={value!r}; give a power of two, at least 16")

    def tiles(self, rows: int, columns: int) -> int:
        """Programs of a product: ⌈rows/m⌉·⌈columns/n⌉·split."""
        _counts(rows=rows, columns=columns)
        return -(-rows // self.m) * self._row(columns)

    def waves(self, rows: int, columns: int, processors: int, occupancy: int = 1) -> int:
        """Waves of a product: programs over those that run at a time, rounded up."""
        return -(-self.tiles(rows, columns) // _room(processors, occupancy))

    def padded_flops(self, rows: int, columns: int, reduction: int) -> int:
        """FLOPs with every tile full: 2·⌈rows⌉_m·⌈columns⌉_n·⌈reduction⌉_k."""
        _counts(rows=rows, columns=columns, reduction=reduction)
        m, n, k = self.m, self.n, self.k
        return 2 * (-(-rows // m) * m) * (-(-columns // n) * n) * (-(-reduction // k) * k)

    def corners(self, columns: int, processors: int, occupancy: int = 1, *, most: int) -> tuple[int, ...]:
        """Token budgets at which one token more takes another wave, up to the first that is at least `most`.

        They are m·⌊w·S/C⌋ for the waves w, with C = ⌈columns/n⌉·split programs in a row of tiles; budgets between them
        leave processors idle in the last wave.
        """
        _counts(most=most)
        corners: list[int] = []
        rows = 0
        while not corners or corners[-1] < most:
            rows += self.m
            if self.waves(rows + 1, columns, processors, occupancy) > self.waves(
                rows, columns, processors, occupancy
            ):
                corners.append(rows)
        return tuple(corners)

    def law_tile(self, columns: int, processors: int, occupancy: int = 1) -> int | None:
        """Tile b (tokens) of the ceil law τ⌈n/b⌉ if waves follow one, else None.

        With C programs in a row of tiles: b = m if S divides C, and m·S/C if C divides S.  Otherwise no two numbers b
        and h have waves(n) = h·⌈n/b⌉ for all n: n = 1 asks for h = ⌈C/S⌉ and large n for h/b = C/(m·S), so that b would
        be no multiple of m, where alone waves change.
        """
        _counts(columns=columns)
        room, row = _room(processors, occupancy), self._row(columns)
        if row % room == 0:
            return self.m
        return self.m * room // row if room % row == 0 else None

    def _row(self, columns: int) -> int:
        """Programs in a row of tiles."""
        return -(-columns // self.n) * self.split


def _room(processors: int, occupancy: int) -> int:
    """Programs that run at a time."""
    _counts(processors=processors, occupancy=occupancy)
    return processors * occupancy


def _counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"a product has {name}={value!r}; give a whole number, at least 1")
