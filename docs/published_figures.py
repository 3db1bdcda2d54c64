"""Written when the site is built: the table of all published figures, for docs/published.md."""

import re
from itertools import groupby
from pathlib import Path

from validation import experiments
from validation.published import Figure, figures

FOLDERS = ("experiments", "hardware")


def link(experiment: str, docs: Path) -> str:
    """To the page that shows `tandem experiment NAME`, from `docs`; the bare name where there is none."""
    shown = re.compile(rf"tandem experiment\s[^`]*(?<![\w-]){re.escape(experiment)}(?![\w-])")
    for folder in FOLDERS:
        for page in sorted((docs / folder).glob("*.md")):
            if shown.search(page.read_text(encoding="utf-8")):
                return f"[{experiment}]({page.relative_to(docs).as_posix()})"
    return experiment


def amount(figure: Figure) -> str:
    """The figure with its unit."""
    if figure.value is None:
        return "sign" if figure.unit in ("", "sign") else f"order ({figure.unit})"
    return f"{figure.value:.10g}" + ("" if figure.unit == "1" else f" {figure.unit}")


def plain(text: str) -> str:
    """Text of a cell that Markdown leaves alone."""
    return re.sub(r"([|*_<$\\])", r"\\\1", text)


def subject(figure: Figure) -> str:
    """What stands before the colon of its key."""
    return figure.key.partition(":")[0]


def table(docs: Path) -> str:
    """A section per subject, a line per figure."""
    links = {name: link(name, docs) for name in experiments.MODULES}
    lines: list[str] = []
    for name, some in groupby(
        sorted(figures().values(), key=subject), key=subject
    ):  # within each as in the registry
        lines += [f"## {name}", "", "| figure | claim | value | source | tested by, or why not |"]
        lines += ["|---|---|---|---|---|"]
        for figure in some:
            source = f"{figure.source} ({figure.certainty})"
            cells = [*map(plain, (figure.key.partition(": ")[2], figure.claim, amount(figure), source))]
            cells.append(links[figure.experiment] if figure.experiment else plain(figure.reason or ""))
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def write_table(app):
    """For docs/published.md; a file that is newer is read again, so it is written only if it changed."""
    path, text = Path(app.srcdir) / "_generated" / "published.md", table(Path(app.srcdir))
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", write_table)
    return {"parallel_read_safe": True}
