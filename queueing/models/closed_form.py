"""The pair that every closed form returns: the value by another route, and the value of the formula."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

__all__ = ["ClosedForm"]

Value = TypeVar("Value")


class ClosedForm(NamedTuple, Generic[Value]):
    """A figure `computed` from the model without the formula, and as `stated` by the formula, in the same unit.

    Example:
        >>> ClosedForm(computed=sum(range(11)), stated=10 * 11 // 2)
        ClosedForm(computed=55, stated=55)
    """

    computed: Value
    stated: Value
