"""Where independent work runs: in this process, on its cores by joblib, or on a cluster by Ray, behind one call.

:func:`each` yields results as they are ready, in no promised order, each with the position of its item, so that what
is made of them can be the same whoever ran them.  A worker that dies (killed, out of memory) costs the items it had in
hand, which are given to another; who keeps dying is reported in one sentence.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
from collections.abc import Callable, Generator, Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

__all__ = ["EXECUTORS", "each", "in_order", "require"]

EXECUTORS = ("joblib", "ray", "serial")
PATIENCE = 3  # deaths in a row, without a single result between them, after which nobody tries again
WINDOW = 1000  # tasks that Ray knows at once
KNOCK = 5.0  # s in which a cluster answers; Ray itself asks for minutes
# Set to 0 before Ray is imported, it keeps a Ray of this machine on the loopback, whatever the system.
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

Item = TypeVar("Item")
Result = TypeVar("Result")
Pairs = Generator[tuple[int, Result]]


def require(executor: str, workers: int = 1, address: str | None = None) -> None:
    """Say now, and not in the middle of the work, that an executor cannot be had.

    Raises:
        ValueError: there is none of that name, no worker, or an address that nobody asks.
        ImportError: it is not installed.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"there is no executor {executor!r}; give one of {', '.join(EXECUTORS)}")
    if workers < 1:
        raise ValueError(f"{workers} workers do no work; give at least 1")
    if address is not None and executor != "ray":
        raise ValueError(
            f"the address of a Ray cluster means nothing to {executor}; give --executor ray with it"
        )
    if executor == "serial":
        return
    if executor == "ray" and address is None:
        os.environ.setdefault(LOOPBACK, "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told
    try:
        importlib.import_module(executor)
    except ImportError:
        package = {"joblib": "joblib", "ray": "'tandem-queueing[scale]'"}[executor]
        raise ImportError(
            f"the executor {executor} is not installed: pip install {package}, or give --executor serial"
        ) from None


def each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    executor: str = "joblib",
    workers: int = 2,
    address: str | None = None,
) -> Pairs[Result]:
    """Yield (k, function(items[k])) for every k once, whenever it is ready.

    Args:
        function: defined in a module, and pure: it may be called again for an item whose worker died.
        items: what it is called with.
        executor: "serial", "joblib" or "ray".
        workers: processes of joblib, or processors of a Ray that is started here.
        address: of a running Ray cluster; without one, Ray is started on this machine and stopped at the end.

    Raises:
        ValueError, ImportError: as :func:`require`.
        ChildProcessError: workers die again and again.
        Exception: what `function` raised.
    """
    require(executor, workers, address)
    if executor == "ray":
        yield from _by_ray(function, items, workers, address)
    elif executor == "serial" or workers == 1:
        for k, item in enumerate(items):
            yield k, function(item)
    else:
        yield from _by_joblib(function, items, workers)


def in_order(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Result]:
    """[function(item) for item in items] on processes of this machine, as :func:`each` does it.

    Args:
        function: as of :func:`each`.
        items: what it is called with.
        workers: processes.
        progress: called with (how many are done, how many there are), as they are done.
    """
    found: dict[int, Result] = {}
    for k, result in each(function, items, workers=workers):
        found[k] = result
        progress(len(found), len(items))
    return [found[k] for k in range(len(items))]


def _in_worker(function: Callable[[Item], Result], k: int, item: Item) -> tuple[int, Result]:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # an interrupt is for the parent, which then stops the workers
    return k, function(item)


def _by_joblib(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Pairs[Result]:
    joblib: Any = importlib.import_module("joblib")
    waiting = dict(enumerate(items))
    deaths = 0
    while waiting:
        # one item at a time: a batch of several would be lost as a whole
        pool = joblib.Parallel(workers, backend="loky", batch_size=1, return_as="generator_unordered")
        results = pool(joblib.delayed(_in_worker)(function, k, item) for k, item in list(waiting.items()))
        try:
            for k, result in results:
                deaths = 0
                del waiting[k]
                yield k, result
        except BrokenProcessPool:
            deaths += 1
            if deaths == PATIENCE:
                raise _given_up(len(waiting)) from None
        finally:
            results.close()


def _called(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


def _by_ray(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, address: str | None
) -> Pairs[Result]:
    ray: Any = importlib.import_module("ray")
    ours = not ray.is_initialized()
    if ours:
        _start(ray, workers, address)
    task = ray.remote(num_cpus=1, max_retries=PATIENCE)(_called)
    work = ray.put(function)  # once, and not with every item
    rest = iter(enumerate(items))
    running: dict[Any, int] = {}
    try:
        while True:
            running |= {task.remote(work, item): k for k, item in islice(rest, WINDOW - len(running))}
            if not running:
                return
            ready, _ = ray.wait(list(running), num_returns=1)
            for reference in ready:
                yield running.pop(reference), ray.get(reference)
    except ray.exceptions.RayTaskError as problem:
        raise problem.cause from None
    except ray.exceptions.RayError:
        raise _given_up(len(running)) from None
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if ours:
            ray.shutdown()


def _start(ray: Any, workers: int, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        ray.init("local", num_cpus=workers, include_dashboard=False, **quiet)
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():
            socket.create_connection((host, int(port)), KNOCK).close()
        ray.init(address, **quiet)
    except (OSError, OverflowError, RuntimeError, ValueError, ImportError, SystemExit) as problem:
        raise ConnectionError(
            f"there is no Ray cluster to reach at {address} ({problem}); see `ray status`"
        ) from None


def _given_up(left: int) -> ChildProcessError:
    return ChildProcessError(
        f"workers died {PATIENCE} times in a row without a result between ({left} left to do): they were killed, or "
        "ran out of memory; what is finished is kept, run the same again with fewer workers"
    )
