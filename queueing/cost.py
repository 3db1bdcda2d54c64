"""Cost of a request: h(x, y), the service that x input and y output tokens are worth; fair schedulers count in it.

Source: Sheng et al., OSDI 2024, arXiv 2401.00588 (weighted tokens, FLOPs, a quadratic fitted to one GPU).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["TOKENS", "Cost"]


@dataclass(frozen=True, slots=True)
class Cost:
    """h(x, y) = input·x + output·y + product·x·y + input_square·x² + output_square·y² + constant.

    Linear costs of tokens are `Cost(1, 2)`, the VTC authors' choice.  Every coefficient is at least 0, so that h does
    not fall in x or y.

    Raises:
        ValueError: a coefficient is negative or not finite, or all but the constant are 0.

    Example:
        >>> Cost.parse("1/4")
        Cost(input=1.0, output=4.0, product=0.0, input_square=0.0, output_square=0.0, constant=0.0)
        >>> Cost(1, 2)(256, 256)
        768.0
    """

    input: float = 1.0
    output: float = 2.0
    product: float = 0.0
    input_square: float = 0.0
    output_square: float = 0.0
    constant: float = 0.0

    def __post_init__(self) -> None:
        values = (self.input, self.output, self.product, self.input_square, self.output_square, self.constant)
        if any(not 0 <= value < math.inf for value in values):
            raise ValueError(
                f"a cost must not fall with tokens: give coefficients of at least 0, not {values}"
            )
        if not any(values[:-1]):
            raise ValueError("a cost of nothing but a constant charges no token; give a coefficient above 0")

    def __call__(self, x: Any, y: Any) -> Any:
        """h(x, y), for numbers or arrays."""
        whole = self.input * x + self.output * y + self.product * x * y + self.constant
        return whole + self.input_square * x * x + self.output_square * y * y

    @property
    def linear(self) -> bool:
        """Whether h(x, y) = wp·x + wq·y, as the theorems have it."""
        return not (self.product or self.input_square or self.output_square or self.constant)

    @classmethod
    def profiled(cls) -> Cost:
        """Milliseconds of a Llama-2-7B on an A10G, fitted by the VTC authors (their cost_profile.json)."""
        return cls(0.21001891, 0.10075395, 0.0039868, 0.0, 0.00324733, 1.14601454)

    @classmethod
    def flops(cls, parameters: float, layers: int, hidden: int) -> Cost:
        """Floating-point operations of a dense decoder: 2·parameters a token, and 4·layers·hidden a pair of tokens.

        A token attends to those up to itself, n·(n + 1)/2 pairs among n = x + y; both matrix products of the attention
        count, and every output token is counted as if it were fed back, though the last is not.

        Args:
            parameters: those that multiply an activation, without the embedding table.
            layers, hidden: of the model; hidden is heads times their size.

        Example:
            >>> mistral = Cost.flops(7.1e9, 32, 4096)
            >>> f"{mistral(1000, 0):.3g}"
            '1.45e+13'
        """
        pairs = 2.0 * layers * hidden  # of the n² + n that make twice the pairs
        return cls(2.0 * parameters + pairs, 2.0 * parameters + pairs, 2.0 * pairs, pairs, pairs)

    @classmethod
    def parse(cls, text: str) -> Cost:
        """A cost from "profiled" or its coefficients in order, separated by "/"."""
        if text == "profiled":
            return cls.profiled()
        try:
            values = [float(part) for part in text.split("/")]
        except ValueError:
            values = []
        if not 1 <= len(values) <= 6:
            raise ValueError(f'a cost is "profiled" or up to six numbers separated by "/", not {text!r}')
        return cls(*values)


TOKENS = Cost(1.0, 2.0)  # one per input token and two per output token, the VTC authors' choice
