"""The command `tandem`: typed options, `--json` everywhere, exit code 2 and one clear line on bad input.

Every sub-command prints a table for people, or with `--json` exactly one JSON object on standard output.  Progress goes
to standard error.  Results are written whole or not at all.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from validation import experiments
from validation.result import Result, write_atomically

__all__ = ["main"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Queueing theory of LLM-inference scheduling, held against simulation.",
)


@contextmanager
def progress_bar(title: str, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback (done, total) that draws a bar with the time left on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table for people."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for k, name in enumerate(header):
        table.add_column(name, justify="left" if k == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)


def figure_text(value: Any) -> str:
    """A number as people read it; a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# --- experiments ---------------------------------------------------------------------------------------------------


def print_result(result: Result) -> None:
    """Print the rows of an experiment, then the tables behind them."""
    rows = [
        [
            r.quantity,
            r.unit,
            figure_text(r.published),
            figure_text(r.ours),
            f"[{figure_text(r.low)}, {figure_text(r.high)}]",
            r.verdict,
        ]
        for r in result.rows
    ]
    for title, table in result.tables.items():
        if table:
            header = [key for key in table[0] if not key.endswith((" low", " high"))]
            show(title, header, [[with_interval(entry, key) for key in header] for entry in table])
    show(
        f"{result.name}: published and ours",
        ["quantity", "unit", "published", "ours", "95 % interval", "verdict"],
        rows,
    )
    for note in result.notes:
        typer.echo(note)


def with_interval(entry: Mapping[str, Any], key: str) -> str:
    """A table cell, with its interval where the table has one."""
    text = figure_text(entry[key])
    low, high = entry.get(f"{key} low"), entry.get(f"{key} high")
    if low is None or high is None or not math.isfinite(low):
        return text
    return f"{text} ±{figure_text((high - low) / 2)}"


@app.command()
def experiment(
    name: Annotated[str, typer.Argument(help="name of the experiment, or `list`")],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")] = False,
    quick: Annotated[bool, typer.Option(help="a smaller size of the same thing")] = False,
    out: Annotated[Path, typer.Option(help="folder for plots and the JSON file")] = Path("results"),
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 2,
) -> None:
    """Hold a published claim against the simulator: published figure, ours with its interval, verdict."""
    if name == "list":
        listing = {key: (experiments.load(key).__doc__ or "").splitlines()[0] for key in experiments.MODULES}
        if as_json:
            typer.echo(json.dumps(listing))
        else:
            show("experiments", ["name", "claim"], [list(item) for item in listing.items()])
        return
    module = experiments.load(name)
    folder = out / name
    with progress_bar(f"experiment {name}", shown=True) as progress:
        result: Result = module.run(quick=quick, out=folder, workers=workers, progress=progress)
    write_atomically(folder / f"{name}.json", result.to_json())
    if as_json:
        typer.echo(result.to_json())
    else:
        print_result(result)
        typer.echo(f"plots and {name}.json are in {folder} ({result.seconds:.0f} s)")
