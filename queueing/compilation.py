"""One source, two lives: compiled by numba for speed, or interpreted line by line as its own oracle.

A function decorated with :func:`kernel` is compiled when it is called from compiled code.  :func:`interpreted` returns
its plain-Python twin, in which every kernel it calls is interpreted too, so that a debugger steps through the very
lines that ran compiled.  :func:`fingerprint` names a function by its code and by the code of every kernel and the
value of every constant it uses; the compiled loop is cached on disk under that name, so that an edit of a helper in
another file can never meet stale machine code.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import types
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher

__all__ = ["compiled", "fingerprint", "has_file", "interpreted", "kernel", "loop"]

_F = TypeVar("_F", bound=Callable[..., Any])

njit: Any = numba.njit  # its hints do not know the options that matter here
# Without reference counts: ten times faster. Inlined by force: a call would pass a hundred words of the loop's books.
_OPTIONS = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}
_unstamped: list[Any] = []
_twins: dict[Any, Callable[..., Any]] = {}


def kernel(function: _F) -> _F:
    """Compile `function` with the compiled code that calls it; called from Python, its :func:`interpreted` twin runs.

    Reference counting of arrays is off, so kernels may slice arrays but not make new ones.
    """
    dispatcher = njit(function, **_OPTIONS)
    # it has no wrapper for calls from Python: keep no entry point, and answer such a call with the twin
    dispatcher._insert = lambda *_, **__: None  # noqa: SLF001
    dispatcher._compile_for_args = lambda *_, **__: interpreted(function)  # noqa: SLF001
    _keep(dispatcher)
    return cast("_F", dispatcher)


def compiled(function: Callable[..., Any]) -> Any:
    """Return `function` as a dispatcher whose identity is its fingerprint, equal in every process.

    Numba keys its disk cache by argument types, and a function argument's type is its dispatcher's identity; a stable
    identity is what lets a loop that takes a policy as an argument be found on disk again.
    """
    source = function.py_func if isinstance(function, Dispatcher) else function
    dispatcher = njit(source, **_OPTIONS)
    dispatcher._set_uuid(f"tandem-{fingerprint(source)}")  # noqa: SLF001
    return dispatcher


def loop(function: Callable[..., Any], *arguments: Callable[..., Any]) -> Any:
    """Compile `function`, to be called from Python with the functions `arguments` among its arguments.

    Each combination of functions is a loop of its own with a file of its own on disk, so that no run depends on what
    other scripts compiled.  Functions typed at a prompt have no file, and then nothing is kept.
    """
    return _loop(function, tuple(arguments))


@functools.cache
def _loop(function: types.FunctionType, arguments: tuple[Callable[..., Any], ...]) -> Any:
    keep = all(has_file(argument) for argument in arguments)
    digest = hashlib.sha256("".join(map(fingerprint, arguments)).encode()).hexdigest()[:16]
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__qualname__ = f"{function.__name__}_{digest}"
    copy.__module__ = function.__module__
    dispatcher = njit(copy, _nrt=False, no_cfunc_wrapper=True)
    if keep:
        _keep(dispatcher)
    _stamp_caches()
    return dispatcher


def _keep(dispatcher: Any) -> None:
    """Keep machine code on disk, if the source lies in a file and there is a place to write."""
    if has_file(dispatcher.py_func):
        with contextlib.suppress(RuntimeError):  # nowhere to write
            dispatcher.enable_caching()
            _unstamped.append(dispatcher)


def _stamp_caches() -> None:
    """Date the machine code on disk by every source it was made of, and never stumble over what cannot be read.

    Numba compares a cached function with the time stamp of its own file only, and so misses an edit of a helper in
    another file; and it fails on an entry that names a class which has since been renamed.
    """
    while _unstamped:
        dispatcher = _unstamped.pop()
        file = dispatcher._cache._cache_file  # noqa: SLF001
        file._source_stamp = fingerprint(dispatcher)  # noqa: SLF001
        file._load_index = functools.partial(_index_or_nothing, file._load_index)  # noqa: SLF001
        file._load_data = functools.partial(_data_or_missing, file._load_data)  # noqa: SLF001


def _index_or_nothing(load: Callable[[], dict[Any, str]]) -> dict[Any, str]:
    try:
        return load()
    except Exception:  # noqa: BLE001  # whatever unpickling another version's entries raises, compile again
        return {}


def _data_or_missing(load: Callable[[str], Any], name: str) -> Any:
    try:
        return load(name)
    except Exception as trouble:  # a damaged file is as good as none, which numba knows by OSError
        raise OSError(name) from trouble


def _globals_used(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    codes = [function.__code__]
    names: dict[str, None] = {}
    while codes:
        code = codes.pop()
        names.update(dict.fromkeys(code.co_names))
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    for name in names:
        if name in function.__globals__:
            value = function.__globals__[name]
            yield name, value
            if isinstance(value, types.ModuleType):  # module.constant, module.kernel
                yield from ((f"{name}.{a}", getattr(value, a)) for a in names if hasattr(value, a))
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, cell.cell_contents


def fingerprint(function: Callable[..., Any]) -> str:
    """Digest of the code of `function`, of every kernel it reaches, and of the constants it reads, each by its name."""
    digest = hashlib.sha256(repr(_OPTIONS).encode())
    seen: set[int] = set()

    def note(*parts: Any) -> None:
        digest.update(repr(parts).encode())

    def visit(name: str, value: Any) -> None:
        value = value.py_func if isinstance(value, Dispatcher) else value
        if isinstance(value, types.FunctionType):
            note(name, "function", value.__name__)
            if id(value) in seen:
                return
            seen.add(id(value))
            note_code(value.__code__)
            for k, default in enumerate(value.__defaults__ or ()):
                visit(f"default {k}", default)
            for used in _globals_used(value):
                visit(*used)
        elif isinstance(value, types.CodeType):
            note_code(value)
        elif isinstance(value, np.ndarray):
            note(name, value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest())
        elif isinstance(value, type) and issubclass(value, Enum):
            note(name, [(m.name, m.value) for m in value])
        elif isinstance(value, type) and hasattr(value, "_fields"):
            note(name, value.__qualname__, value._fields)
        elif isinstance(value, tuple):
            note(name, type(value).__name__, len(value))
            for k, item in enumerate(value):
                visit(f"{name}[{k}]", item)
        elif value is None or isinstance(value, bool | int | float | complex | str | np.generic):
            note(name, type(value).__name__, value)

    def note_code(code: types.CodeType) -> None:
        note(code.co_code, code.co_names, code.co_varnames, code.co_freevars)
        for k, constant in enumerate(code.co_consts):
            visit(
                f"constant {k}",
                tuple(sorted(map(repr, constant))) if isinstance(constant, frozenset) else constant,
            )

    visit("", function)
    return digest.hexdigest()[:32]


def has_file(function: Callable[..., Any]) -> bool:
    """Whether the source of `function` lies in a file, so that numba can keep its machine code beside it."""
    try:
        return inspect.getsourcefile(function) is not None and bool(inspect.getsource(function))
    except (OSError, TypeError):
        return False


def interpreted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the plain-Python twin of `function`: same code object, every kernel it calls interpreted too.

    Functions without :func:`kernel` are followed as well: they do not compile, but what they call must not be entered
    from Python in its compiled form, which has no wrapper for that.
    """
    source = function.py_func if isinstance(function, Dispatcher) else function
    if not isinstance(source, types.FunctionType):
        return source
    if source in _twins:
        return _twins[source]
    scope = dict(source.__globals__)
    twin = types.FunctionType(
        source.__code__, scope, source.__name__, source.__defaults__, source.__closure__
    )
    _twins[source] = twin  # before descending: kernels may call each other
    for name, value in _globals_used(source):
        if isinstance(value, Dispatcher | types.FunctionType):
            scope[name] = interpreted(value)
    return twin
