"""A word to the processor: this row of a table will be needed soon.

Between two batches of one of a thousand nodes the processor's caches have seen the requests of all others.  Asking for
the rows of the node that is next, while this one is served, lets the memory fetch them side by side and in time (an
iteration at a thousand nodes then takes 0.7 of the time).
"""

# numba calls what stands here with types and builders of its own
# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

__all__ = ["fetch"]

LINES = (0, 64)  # bytes from the start of a row: its first two cache lines


def fetch(table: Any, i: int) -> None:
    """Begin to load the first lines of row `i` of a structured array; it changes no result, and the twin skips it."""


@intrinsic
def _prefetch(context, table, i):
    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        row = builder.mul(
            builder.extract_value(array.strides, 0),
            context.cast(builder, arguments[1], signature.args[1], types.intp),
        )
        at = builder.gep(builder.bitcast(array.data, byte), [row])
        ask = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        )
        for line in LINES:  # to be written, kept in all caches, data
            first = builder.gep(at, [ir.IntType(64)(line)])
            builder.call(ask, [first, word(1), word(3), word(1)])
        return context.get_dummy_value()

    return types.none(table, i), generate


@overload(fetch)
def _fetch(table, i):
    return lambda table, i: _prefetch(table, i)  # pyright: ignore[reportCallIssue]  # numba gives the context
