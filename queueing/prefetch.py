"""A word to the processor: this row of a table will be needed soon.

Between two batches of one of a thousand nodes the processor's caches have seen the requests of all others.  Asking for
the rows of the node that is next, while this one is served, lets the memory fetch them side by side and in time (an
iteration at a thousand nodes then takes 0.75 of the time).
"""

# numba calls what stands here with types and builders of its own
# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from queueing.books import LINE

__all__ = ["fetch"]


def fetch(table: Any, i: int, line: int) -> None:
    """Begin to load a cache line of row `i` of an array, by its number; it changes no result, and the twin skips it."""


@intrinsic
def _prefetch(context, table, i, line):
    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, word, size = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)(LINE)
        row = builder.mul(
            builder.extract_value(array.strides, 0),
            context.cast(builder, arguments[1], signature.args[1], types.intp),
        )
        at = builder.gep(builder.bitcast(array.data, byte), [row])
        ask = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        )
        bytes_on = builder.mul(context.cast(builder, arguments[2], signature.args[2], types.intp), size)
        # to be written, kept in all caches, data
        builder.call(ask, [builder.gep(at, [bytes_on]), word(1), word(3), word(1)])
        return context.get_dummy_value()

    return types.none(table, i, line), generate


@overload(fetch)
def _fetch(table, i, line):
    return lambda table, i, line: _prefetch(table, i, line)  # pyright: ignore[reportCallIssue]  # numba gives the context
