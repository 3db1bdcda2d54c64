"""The sub-command `tandem sweep`: policies × loads × systems × seeds, resumable, into one table."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

import policies
from queueing.system import System
from validation.executors import EXECUTORS
from validation.options import LENGTHS
from validation.sweep import Records
from validation.sweep_point import Point
from validation.sweep_run import Sweep, sweep

__all__ = ["register", "seeds_of", "shown"]

INTERRUPTED = 130  # exit code of a command that Ctrl-C stopped
SHOWN = ("ttft, median", "ttft, p99", "tbt, p99", "throughput", "goodput")  # figures of the table for people
MOST_ROWS = 40  # of that table
MOST_POINTS = 1_000_000  # a file each
AXES = ("policy", "rate", "system")

ProgressBar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
Show = Callable[[str, Sequence[str], Sequence[Sequence[str]]], None]


def seeds_of(texts: Sequence[str]) -> list[int]:
    """Seeds from numbers and ranges "FIRST-LAST", both ends included."""
    found: list[int] = []
    for text in texts:
        first, dash, last = text.partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)) or (
            dash and int(last) < int(first)
        ):
            raise ValueError(f"--seed {text!r} is neither a whole number >= 0 nor a range such as 0-9")
        each = range(int(first), int(last if dash else first) + 1)
        if len(each) > MOST_POINTS:
            raise ValueError(f"--seed {text} are {len(each)} seeds; a sweep has {MOST_POINTS} points at most")
        found += each
    return found


def shown(found: Sweep) -> list[list[str]]:
    """Rows for people: the mean over seeds of some figures, with half its interval."""
    everything = Records(found.records)
    rows: list[list[str]] = []
    for values in dict.fromkeys(tuple(record[axis] for axis in AXES) for record in found.records):
        here = everything.where(**dict(zip(AXES, values, strict=True)))
        cells = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
        for name in SHOWN:
            if name not in found.units:
                cells.append("-")
                continue
            mean, low, high = here.mean(name)
            cells.append(f"{mean:.4g}" + (f" ±{(high - low) / 2:.2g}" if high - low < float("inf") else ""))
        rows.append([*cells, str(len(here.records))])
    return rows


def register(app: typer.Typer, progress_bar: ProgressBar, show: Show) -> None:
    """Add the command to `app`, with the progress bar and the tables of its other commands."""

    @app.command("sweep")
    def sweep_command(  # pyright: ignore[reportUnusedFunction]  # typer calls it
        policy: Annotated[
            list[str],
            typer.Option(help=f"NAME or NAME:key=value,..., repeatable; {', '.join(policies.names())}"),
        ],
        rate: Annotated[list[float], typer.Option(help="Poisson arrivals (requests/s), repeatable")],
        out: Annotated[
            Path, typer.Option(help="folder of the sweep; the same again does what is missing there")
        ],
        system: Annotated[
            list[str] | None,
            typer.Option(help=f"MODEL/HARDWARE, one of {', '.join(System.names())}, or a file; repeatable"),
        ] = None,
        seed: Annotated[
            list[str] | None, typer.Option(help="a number, or a range such as 0-9; repeatable; 0 without")
        ] = None,
        lengths: Annotated[
            str, typer.Option(help=f"{', '.join(LENGTHS)}, or PROMPT,OUTPUT in tokens")
        ] = "sharegpt",
        requests: Annotated[int, typer.Option(help="requests of each point")] = 2000,
        classes: Annotated[
            list[str] | None, typer.Option("--class", help="SHARE:TBT_S or SHARE:TBT_S:TTFT_S, repeatable")
        ] = None,
        nodes: Annotated[int, typer.Option(min=1, help="identical nodes")] = 1,
        router: Annotated[str | None, typer.Option(help=f"{', '.join(policies.router_names())}")] = None,
        executor: Annotated[str, typer.Option(help=f"{', '.join(EXECUTORS)}")] = "joblib",
        workers: Annotated[int, typer.Option(min=1, help="processes")] = 2,
        ray_address: Annotated[
            str | None, typer.Option(help="of a running Ray cluster; without, Ray is started on this machine")
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="print one JSON object and nothing else")
        ] = False,
    ) -> None:
        """Simulate policies × loads × systems × seeds, on every core or a cluster, into one table.

        What is finished is on disk: the same command again does only what is missing.
        """
        systems = ["mistral-7b/rtx-6000-ada"] if system is None else system
        seeds = seeds_of(["0"] if seed is None else seed)
        asked = len(policy) * len(rate) * len(systems) * len(seeds)
        if asked > MOST_POINTS:
            raise ValueError(f"these are {asked} points; a sweep has {MOST_POINTS} at most, so make several")
        points = [
            Point(*axes, lengths, requests, nodes, router, tuple(classes or ()))
            for axes in product(policy, rate, systems, seeds)
        ]
        began, counted = time.perf_counter(), [0, len(points)]
        try:
            with progress_bar("sweep") as bar:

                def tick(done: int, total: int) -> None:
                    counted[:] = done, total
                    bar(done, total)

                found = sweep(
                    points, out, executor=executor, workers=workers, ray_address=ray_address, progress=tick
                )
        except KeyboardInterrupt:
            typer.echo(
                f"tandem: interrupted; {counted[0]} of {counted[1]} points are kept in {out}, "
                "and the same command again does the others",
                err=True,
            )
            sys.exit(INTERRUPTED)
        seconds = time.perf_counter() - began
        record: dict[str, Any] = {
            "table": str(found.table),
            "points": len(found.records),
            "computed": found.computed,
            "seconds": seconds,
            "processor_seconds": found.processor_seconds,
            "units": found.units,
        }
        if as_json:
            typer.echo(json.dumps(record, indent=1))
            return
        rows = shown(found)
        header = [*AXES, *(f"{name} ({found.units.get(name, '-')})" for name in SHOWN), "seeds"]
        show("sweep: means over seeds, ± half of the 95 % interval", header, rows[:MOST_ROWS])
        more = f" ({len(rows) - MOST_ROWS} rows more)" if len(rows) > MOST_ROWS else ""
        typer.echo(
            f"{len(found.records)} points, {found.computed} of them computed now ({seconds:.0f} s), "
            f"are in {found.table}{more}"
        )
