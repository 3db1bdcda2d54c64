"""The command `tandem`: typed options, `--json` everywhere, exit code 2 and one clear line on bad input.

Every sub-command prints a table for people, or with `--json` exactly one JSON object on standard output.  Progress goes
to standard error.  Results are written whole or not at all.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import policies
from queueing import metrics
from queueing.policy import Policy, Router
from queueing.proofs.claim import Verdict
from queueing.simulator import PolicyBreach, simulate
from queueing.system import System
from queueing.trace import Trace
from queueing.trace_io import form_of, save
from queueing.workload import Workload
from validation import engine_commands, experiments, report, report_commands, sweep_commands, theory_commands
from validation import prove as proofs
from validation.falsify import Finding, watched
from validation.options import FORMATS, LENGTHS, policy_of, read_workload, router_of, system_of
from validation.policy_file import load_policy, tried
from validation.result import Result
from validation.run_folder import Interrupted, requests_in_files, tables, telling_what_stays
from validation.timeline import MOST, timeline

__all__ = ["main"]

# some versions of typer bring their own copy of click; the base class of usage errors is found either way
USAGE_ERROR: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
INTERRUPTED = 130  # exit code of a command that Ctrl-C stopped


app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Queueing theory of LLM-inference scheduling, held against simulation.",
)


@contextmanager
def progress_bar(title: str) -> Generator[Callable[[int, int], None]]:
    """Yield a callback (done, total) that draws a bar with the time left on standard error, if that is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
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
        ["quantity", "unit", "published", "ours", "range", "verdict"],
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
    with progress_bar(f"experiment {name}") as progress:
        result = report.make(name, quick, out, workers, progress)
    if as_json:
        typer.echo(result.to_json())
    else:
        print_result(result)
        typer.echo(f"plots and {name}.json are in {out / name} ({result.seconds:.0f} s)")


# --- one run, and several side by side -----------------------------------------------------------------------------

TraceFile = Annotated[
    Path | None, typer.Option("--trace", help="a file of requests; without it requests are drawn")
]
Format = Annotated[str, typer.Option(help=f"format of the file: {', '.join(FORMATS)}")]
LengthsOption = Annotated[
    str, typer.Option("--lengths", help=f"{', '.join(LENGTHS)}, or PROMPT,OUTPUT in tokens")
]
Rate = Annotated[
    float | None, typer.Option(help="requests/s: Poisson arrivals, or the speed a trace is replayed at")
]
Requests = Annotated[
    int | None, typer.Option(help="how many requests; 2000 are drawn, a trace is taken whole")
]
Classes = Annotated[
    list[str] | None, typer.Option("--class", help="SHARE:TBT_S or SHARE:TBT_S:TTFT_S, repeatable")
]
SystemOption = Annotated[
    str,
    typer.Option(
        "--system", help=f"MODEL/HARDWARE, one of {', '.join(System.names())}, or a file of your own"
    ),
]
Nodes = Annotated[int, typer.Option(min=1, help="identical nodes")]
RouterOption = Annotated[str | None, typer.Option("--router", help=f"{', '.join(policies.router_names())}")]
Seed = Annotated[int, typer.Option(min=0, help="seeds the drawn requests and the router")]
Horizon = Annotated[float, typer.Option(help="stop at this time (s)")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]


def plain(quantities: Mapping[str, metrics.Quantity]) -> dict[str, dict[str, Any]]:
    """Quantities as JSON takes them: figures that are not finite become null."""
    return {
        name: {"value": q.value if math.isfinite(q.value) else None, "unit": q.unit}
        for name, q in quantities.items()
    }


@app.command("simulate")
def simulate_command(
    policy: Annotated[
        str, typer.Option(help=f"NAME or NAME:key=value,...; {', '.join(policies.names())}")
    ] = "sarathi",
    trace: TraceFile = None,
    form: Annotated[
        str, typer.Option("--format", help=f"format of the file: {', '.join(FORMATS)}")
    ] = "tandem",
    lengths: LengthsOption = "sharegpt",
    rate: Rate = None,
    requests: Requests = None,
    classes: Classes = None,
    system: SystemOption = "mistral-7b/rtx-6000-ada",
    nodes: Nodes = 1,
    router: RouterOption = None,
    seed: Seed = 0,
    horizon: Horizon = math.inf,
    out: Annotated[
        Path | None, typer.Option(help="save the trace: a path ending in .json, .csv or .parquet")
    ] = None,
    entries: Annotated[
        bool, typer.Option(help="also record which request got which tokens in which batch")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="keep the tables of the run, and the requests of --trace, in files of this new folder: "
            "for runs larger than the memory; --trace FOLDER/workload goes on with requests kept there"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Simulate one policy on a trace, or on drawn requests, and print its figures."""
    # what is wrong is known before the work, not after
    if out is not None:
        form_of(out)
    chosen, on, route = policy_of(policy), system_of(system), None if router is None else router_of(router)
    place = None if folder is None else tables(folder, trace)
    source = trace if folder is not None and form == "tandem" else None  # served from files
    if source is not None and (rate is not None or requests is not None or classes):
        raise ValueError("with --folder a trace is served as it is; leave out --rate, --requests and --class")
    with nullcontext() if folder is None else telling_what_stays(folder, warn):
        if folder is not None and source is not None:
            simulate(Workload([0.0], [1], [1]), on, chosen, nodes=nodes, router=route, horizon=horizon)
            workload = requests_in_files(folder, source)
        else:
            workload = read_workload(trace, form, lengths, rate, requests, classes or (), seed, warn)
        run = run_one(chosen, workload, on, nodes, route, seed, horizon, entries, "simulate", place)
        if out is not None:
            save(run, out)
        figures = metrics.summary(run)
    if as_json:
        typer.echo(json.dumps({"meta": dict(run.meta), "figures": plain(figures)}, indent=1, default=str))
    else:
        show(
            f"{run.meta['policy']} on {run.meta['system']}",
            ["quantity", "value", "unit"],
            figure_rows(figures),
        )


@app.command("compare")
def compare_command(
    policy: Annotated[list[str], typer.Option(help="NAME or NAME:key=value,...; give it once per policy")],
    trace: TraceFile = None,
    form: Annotated[
        str, typer.Option("--format", help=f"format of the file: {', '.join(FORMATS)}")
    ] = "tandem",
    lengths: LengthsOption = "sharegpt",
    rate: Rate = None,
    requests: Requests = None,
    classes: Classes = None,
    system: SystemOption = "mistral-7b/rtx-6000-ada",
    nodes: Nodes = 1,
    router: RouterOption = None,
    seed: Seed = 0,
    horizon: Horizon = math.inf,
    as_json: Json = False,
) -> None:
    """Simulate several policies on the same requests and print their figures side by side."""
    workload = read_workload(trace, form, lengths, rate, requests, classes or (), seed, warn)
    on, route = system_of(system), None if router is None else router_of(router)
    chosen = [policy_of(text) for text in policy]  # all of them, before the first run
    runs = [
        run_one(each, workload, on, nodes, route, seed, horizon, False, text)
        for each, text in zip(chosen, policy, strict=True)
    ]
    figures = {text: metrics.summary(run) for text, run in zip(policy, runs, strict=True)}
    if as_json:
        found = {
            text: {"meta": dict(run.meta), "figures": plain(figures[text])}
            for text, run in zip(policy, runs, strict=True)
        }
        typer.echo(json.dumps(found, indent=1, default=str))
        return
    quantities = list(dict.fromkeys(name for each in figures.values() for name in each))
    rows: list[list[str]] = []
    for name in quantities:
        unit = next(each[name].unit for each in figures.values() if name in each)
        rows.append(
            [
                name,
                unit,
                *(figure_text(each[name].value if name in each else None) for each in figures.values()),
            ]
        )
    show(f"{len(workload)} requests on {runs[0].meta['system']}", ["quantity", "unit", *policy], rows)


# --- theory ----------------------------------------------------------------------------------------------------------


def print_report(title: str, report: Mapping[str, Any]) -> None:
    """Print a report of theory: its batches, its prices, and its figures."""
    batches = report["batches"]
    header = ["content", "per_second", "tokens", "linear_seconds", "tokens_per_second"]
    show("batches of the optimum", header, [[figure_text(batch[key]) for key in header] for batch in batches])
    prices = report["prices_percent"]
    show(
        "what a little more is worth",
        ["limit", "% of the load"],
        [[k, figure_text(v)] for k, v in prices.items()],
    )
    plain_figures = {
        k: v for k, v in report.items() if isinstance(v, bool | int | float | str) and k != "reason"
    }
    show(title, ["quantity", "value"], [[k, figure_text(v)] for k, v in plain_figures.items()])
    for clause in report["binds"]:
        typer.echo(clause)
    typer.echo(f"{report['certificate']['claim']} ({report['certificate']['kind']} certificate, checked)")


@app.command()
def tile(
    model: Annotated[str, typer.Option(help="model, as in MODEL/HARDWARE")] = "mistral-7b",
    hardware: Annotated[str, typer.Option(help="hardware, as in MODEL/HARDWARE")] = "rtx-6000-ada",
    system: Annotated[
        str | None, typer.Option(help="MODEL/HARDWARE, or a file of your own, instead of both")
    ] = None,
    lengths: LengthsOption = "sharegpt",
    budget: theory_commands.Budget = None,
    tbt: theory_commands.TbtOption = None,
    nodes: theory_commands.Nodes = 1,
    pure: theory_commands.Pure = False,
    as_json: Json = False,
) -> None:
    """Compute the batches that carry the most load, and prove that none carry more."""
    chosen = system_of(f"{model}/{hardware}" if system is None else system)
    report = theory_commands.tile_report(chosen, lengths, budget, tbt, nodes, pure)
    if as_json:
        typer.echo(json.dumps(report, indent=1))
    else:
        print_report(f"throughput-optimal tiling, {lengths} on {chosen.name}", report)


@app.command()
def prove(
    names: Annotated[list[str] | None, typer.Argument(help="claims, by name; all by default")] = None,
    kernel: Annotated[
        bool, typer.Option("--kernel", help="also the proofs that Coq's kernel checks")
    ] = False,
    smt: Annotated[
        Path | None, typer.Option(help="write the solvers' scripts (SMT-LIB) into this folder")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="a policy file, FILE.py or FILE.py:NAME: what it keeps, and what breaks it"),
    ] = None,
    depth: Annotated[int, typer.Option(min=1, max=6, help="requests of the patterns that are all tried")] = 3,
    out: Annotated[Path, typer.Option(help="folder for counterexamples of --policy")] = Path("results"),
    workers: Annotated[int, typer.Option(min=1, help="processes that check claims side by side")] = 1,
    as_json: Json = False,
) -> None:
    """Check every claim of the library again: how it is known, and what refutes it when it is weakened.

    With --policy, look for what breaks a policy of your own instead: what is broken is a finding, and the exit code is
    1 only if that is the contract.
    """
    if policy is not None:
        if names or kernel or smt is not None:
            raise ValueError(
                "--policy looks for what breaks a policy; give no claims, --kernel or --smt with it"
            )
        show_findings(policy, depth, out, as_json)
        return
    claims = proofs.chosen_claims(names or [], kernel)
    if smt is not None:
        typer.echo(f"{len(proofs.write_scripts(claims, smt))} scripts written to {smt}", err=True)
    with progress_bar("checking claims") as tick:
        verdicts = proofs.prove(claims, tick, workers)
    if as_json:
        typer.echo(json.dumps([verdict.record() for verdict in verdicts], indent=1))
    elif names:
        for verdict in verdicts:
            print_claim(verdict)
    else:
        rows = [
            [v.claim.name, str(v.claim.kind), proofs.verdict_text(v), f"{sum(v.controls.values())}/{len(v.controls)}",
             f"{v.seconds:.2f}", v.claim.source]
            for v in verdicts
        ]  # fmt: skip
        show("claims", ["claim", "kind", "verdict", "controls refuted", "s", "source"], rows)
        for verdict in verdicts:
            if verdict.claim.evidence is not None and not verdict.ok:
                typer.echo(f"{verdict.claim.name}: {verdict.reason}")
    if any(verdict.ok is False for verdict in verdicts):
        raise typer.Exit(1)


def show_findings(text: str, depth: int, out: Path, as_json: bool) -> None:
    """Falsify the policy of a file, write its counterexamples, and print what was found."""
    if not next(place for place in (out, *out.absolute().parents) if place.exists()).is_dir():
        raise ValueError(f"--out {out} is no folder and cannot become one; give another")
    policy, path = load_policy(text), Path(text.partition(".py")[0] + ".py")
    tried(policy, path, seconds=20.0)
    with progress_bar(f"looking for what breaks {policy.name}") as tick:
        findings = watched(policy, path, depth, tick)
    records = [finding_record(policy, finding, out) for finding in findings]
    if as_json:
        typer.echo(json.dumps(records, indent=1))
    else:
        print_findings(policy, records)
    if any(f.property.name == "contract" and f.verdict == "broken" for f in findings):
        raise typer.Exit(1)


def print_findings(policy: Policy, records: Sequence[Mapping[str, Any]]) -> None:
    """A table of what was found, and the counterexamples below."""
    rows = [
        [r["property"], r["verdict"], r["reason"], "" if r["events"] is None else str(r["events"])]
        for r in records
    ]
    show(f"{policy.name}: what holds, and what breaks it", ["property", "verdict", "why", "events"], rows)
    for r in records:
        if r["requests"]:
            files = "; " + ", ".join(r["files"]) if r["files"] else ""
            what = f"{r['memory']} tokens of memory, (step, client, prompt, output) {r['requests']}"
            typer.echo(f"{r['property']}: {what}{files}")


def finding_record(policy: Policy, finding: Finding, out: Path) -> dict[str, Any]:
    """A finding as plain data; its counterexample is written as a trace that can be loaded, and drawn."""
    files: list[Path] = []
    if finding.case is not None and (trace := finding.trace) is not None:
        out.mkdir(parents=True, exist_ok=True)
        stem = out / f"{type(policy).__name__}-{finding.property.name}"
        save(trace, stem.with_suffix(".json"))
        files = [stem.with_suffix(".json")]
        if len(finding.case.requests) <= MOST:
            files += timeline(trace, f"{policy.name}, {finding.property.name}: {finding.reason}", stem)
    return {
        "property": finding.property.name,
        "statement": finding.property.statement,
        "verdict": finding.verdict,
        "reason": finding.reason,
        "events": finding.events,
        "memory": None if finding.case is None else finding.case.memory,
        "requests": [] if finding.case is None else [list(sent) for sent in finding.case.requests],
        "files": [str(path) for path in files],
    }


def print_claim(verdict: Verdict) -> None:
    """One claim in full."""
    claim = verdict.claim
    lines = [
        ["statement", claim.statement],
        *[["assuming", assumption] for assumption in claim.assumptions],
        ["source", claim.source],
        ["known by", f"{claim.kind}, {verdict.certificates} certificates, {verdict.seconds:.2f} s"],
        ["verdict", proofs.verdict_text(verdict)],
        *[[f"without: {name}", "refuted" if refuted else "NOT refuted"] for name, refuted in verdict.controls.items()],
        *([["because", verdict.reason]] if verdict.reason else []),
        *([["read on", claim.where]] if claim.where else []),
    ]  # fmt: skip
    show(claim.name, ["", ""], lines)


@app.command("serve")
def serve_command(
    model: Annotated[
        str, typer.Option(help="folder of a checkpoint, a .gguf file, or a hub id where there is a network")
    ],
    prompts: Annotated[Path, typer.Option(help="a prompt per line, or .jsonl with an object per line")],
    policy: Annotated[
        str, typer.Option(help=f"NAME or NAME:key=value,...; {', '.join(policies.names())}")
    ] = "sarathi",
    output: Annotated[int, typer.Option(min=1, help="most tokens of a text that does not say")] = 128,
    rate: Annotated[
        float | None, typer.Option(help="Poisson arrivals (requests/s); all at once without")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token")] = 0.0,
    seed: Seed = 0,
    blocks: Annotated[
        int | None, typer.Option(min=1, help="KV blocks of 16 tokens; enough for all that run, without")
    ] = None,
    max_running: Annotated[int, typer.Option(min=1, help="requests that hold KV memory at once")] = 128,
    replicas: Annotated[int, typer.Option(min=1, help="engines, each a process of its own")] = 1,
    router: RouterOption = None,
    backend: Annotated[str, typer.Option(help="reference (torch) or triton")] = "reference",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16; the checkpoint's own without")
    ] = None,
    ignore_end: Annotated[bool, typer.Option(help="go on past the end of a text")] = False,
    out: Annotated[
        Path | None, typer.Option(help="save the trace: a path ending in .json, .csv or .parquet")
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve prompts with a real model under a policy, and print texts and figures."""
    if out is not None:
        form_of(out)
    asked = engine_commands.Serving(
        model, prompts, policy_of(policy), output, rate, seed, temperature, blocks, max_running, replicas,
        None if router is None else router_of(router), backend, device, dtype, ignore_end,
    )  # fmt: skip
    with progress_bar("serving") as tick:
        trace, texts = engine_commands.serve(asked, tick)
    if out is not None:
        save(trace, out)
    figures = metrics.summary(trace)
    if as_json:
        record = {"meta": dict(trace.meta), "figures": plain(figures), "texts": texts}
        typer.echo(json.dumps(record, indent=1, default=str))
        return
    for i, text in enumerate(texts):
        typer.echo(f"[{i}] {text}")
    show(f"{trace.meta['policy']} on {model}", ["quantity", "value", "unit"], figure_rows(figures))


@app.command("calibrate")
def calibrate_command(
    model: Annotated[str, typer.Option(help="folder of a checkpoint, a .gguf file, or a hub id")],
    out: Annotated[Path, typer.Option(help="folder for measurements.csv and system.json")],
    most_tokens: Annotated[int, typer.Option(min=2, help="tokens of the largest batch timed")] = 256,
    most_context: Annotated[int, typer.Option(min=1, help="tokens of the longest history timed")] = 512,
    most_decodes: Annotated[int, typer.Option(min=1, help="decodes of the largest batch timed")] = 32,
    mixes: Annotated[
        int, typer.Option(min=1, help="mixed batches, drawn, beside the grid of pure ones")
    ] = 60,
    repeats: Annotated[int, typer.Option(min=1, help="times that each batch is timed")] = 5,
    seed: Seed = 0,
    backend: Annotated[str, typer.Option(help="reference (torch) or triton")] = "reference",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16")] = None,
    as_json: Json = False,
) -> None:
    """Time batches of a model on this machine, fit the laws of iteration time, and save a system to simulate."""
    asked = engine_commands.Calibrating(
        model, out, most_tokens, most_context, most_decodes, mixes, repeats, seed, backend, device, dtype
    )
    with progress_bar("timing batches") as tick:
        record = engine_commands.calibrate(asked, tick)
    if as_json:
        typer.echo(json.dumps(record, indent=1))
    else:
        rows = [[key, figure_text(value)] for key, value in record.items() if not isinstance(value, dict)]
        rows += [[f"held-out error, {law}", figure_text(error)] for law, error in record["tried"].items()]
        show(f"{model} on this machine", ["quantity", "value"], rows)


@app.command()
def capacity(
    classes: Annotated[
        list[str], typer.Option("--class", help="LENGTHS@RATE in requests/s, once for each class")
    ],
    system: SystemOption = "mistral-7b/rtx-6000-ada",
    budget: theory_commands.Budget = None,
    tbt: theory_commands.TbtOption = None,
    nodes: theory_commands.Nodes = 1,
    pure: theory_commands.Pure = False,
    plot: Annotated[Path | None, typer.Option(help="draw the region of two classes into this file")] = None,
    as_json: Json = False,
) -> None:
    """Say whether a load can be carried: by which batches, or what stands in the way."""
    report, region = theory_commands.capacity_report(system_of(system), classes, budget, tbt, nodes, pure)
    if plot is not None:
        theory_commands.region_plot(region, plot)
    if as_json:
        typer.echo(json.dumps(report, indent=1))
    else:
        print_report(f"capacity of {report['system']}", report)
        typer.echo(report["reason"])


sweep_commands.register(app, progress_bar, show)
report_commands.register(app, progress_bar)


def run_one(
    policy: Policy,
    workload: Workload,
    system: System,
    nodes: int,
    router: Router | None,
    seed: int,
    horizon: float,
    entries: bool,
    title: str,
    folder: Path | None = None,
) -> Trace:
    """Simulate one policy with a progress bar."""
    with progress_bar(title) as progress:
        return simulate(
            workload,
            system,
            policy,
            nodes=nodes,
            router=router,
            seed=seed,
            horizon=horizon,
            record_entries=entries,
            folder=folder,
            progress=progress,
        )


def figure_rows(figures: Mapping[str, metrics.Quantity]) -> list[list[str]]:
    """Rows of a table of quantities."""
    return [[name, figure_text(q.value), q.unit] for name, q in figures.items()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit with 2 and one line on bad input, with 130 when interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        code: Any = app(
            args=given, standalone_mode=False
        )  # some versions of typer return 130 when interrupted
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Interrupted as stop:
        warn(f"interrupted; {stop}")
        sys.exit(INTERRUPTED)
    except (ValueError, OverflowError, MemoryError, ImportError, OSError, PolicyBreach) as error:
        fail(str(error))
    except USAGE_ERROR as error:
        fail(error.format_message())
    if code == INTERRUPTED:
        typer.echo("tandem: interrupted; nothing was written", err=True)
        sys.exit(INTERRUPTED)
    if isinstance(code, int) and code != 0:
        sys.exit(code)


def warn(message: str) -> None:
    """Say something on standard error and go on."""
    typer.echo(f"tandem: {message}", err=True)


def fail(message: str) -> NoReturn:
    """Say what is wrong in one line and exit with 2."""
    typer.echo(f"tandem: {' '.join(message.split())}", err=True)
    sys.exit(2)
