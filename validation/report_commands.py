"""The sub-command `tandem report`: every experiment, published figure and claim of a run on one page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from validation import experiments, report
from validation.prove import chosen_claims, prove
from validation.result import write_atomically
from validation.run_folder import Interrupted

__all__ = ["register"]

ProgressBar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


def register(app: typer.Typer, progress_bar: ProgressBar) -> None:
    """Add the sub-command to the command line."""

    @app.command("report")
    def report_command(  # pyright: ignore[reportUnusedFunction]
        names: Annotated[
            list[str] | None, typer.Argument(help="experiments, by name; all by default")
        ] = None,
        quick: Annotated[bool, typer.Option(help="the smaller size of each, ten minutes in all")] = False,
        out: Annotated[Path, typer.Option(help="folder of the results and of the page")] = Path("results"),
        workers: Annotated[int, typer.Option(min=1, help="processes")] = 2,
        claims: Annotated[bool, typer.Option(help="check the claims, too")] = True,
        kernel: Annotated[
            bool, typer.Option("--kernel", help="also the proofs that Coq's kernel checks")
        ] = False,
        fresh: Annotated[
            bool, typer.Option(help="make every result again, also those that are on disk")
        ] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="print one JSON object and nothing else")
        ] = False,
    ) -> None:
        """Run the experiments, check the claims, and put all of it on one self-contained page, OUT/report.html.

        A report that was stopped goes on: what was made at this size in this environment is taken up again.
        """
        chosen = names or list(experiments.MODULES)
        for name in chosen:
            experiments.load(name)  # all of them, before the first is run
        report.writable(out)
        with progress_bar(f"{len(chosen)} experiments") as tick:
            done: dict[str, float] = {}

            def told(name: str, finished: int, total: int) -> None:
                done[name] = finished / max(total, 1)
                tick(int(1000 * sum(done.values())), 1000 * len(chosen))

            try:
                sections = report.gather(chosen, quick, out, workers, fresh, told)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"results that are finished stay in {out}, and the same command makes the others"
                ) from None
        with progress_bar("claims") as tick:
            verdicts = prove(chosen_claims([], kernel), tick, workers) if claims else []
        host = report.environment()
        page = report.page(sections, verdicts, quick, out, host)
        write_atomically(out / "report.html", page.encode())
        whole = report.as_json(sections, verdicts, host)
        write_atomically(out / "report.json", whole.encode())
        if as_json:
            typer.echo(whole)
        else:
            for section in sections:
                said = f"{'failed' if section.failed else 'not run'}: {section.reason}"
                if section.result is not None:
                    said = f"{section.result.seconds:.0f} s"
                typer.echo(f"{section.name}: {'taken up, ' if section.again else ''}{said}")
            failing = [v.claim.name for v in verdicts if v.ok is False]
            typer.echo(f"{len(verdicts)} claims, {len(failing)} failing: {', '.join(failing) or 'none'}")
            typer.echo(f"the page is {out / 'report.html'} ({len(page) / 1e6:.1f} MB)")
        if any(v.ok is False for v in verdicts) or any(section.failed for section in sections):
            raise typer.Exit(1)
