"""One style for every figure: colour-blind safe, theory as a line, measurement with its interval, SVG and PNG."""

from __future__ import annotations

import io
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from queueing.data import Lacking
from validation.result import plain, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "MARKERS", "figure", "save"]

# Okabe and Ito's palette, told apart under all common kinds of colour blindness; markers do the same in grey
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "font.size": 9.0,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.hashsalt": "tandem",
}


@contextmanager
def figure(
    columns: int = 1, rows: int = 1, width: float = 4.6, height: float = 3.4
) -> Generator[tuple[Figure, Any]]:
    """Yield a figure and its array of axes [rows, columns] in the project's style, drawn without a display."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Lacking("plots need matplotlib: pip install 'tandem-queueing[plots]'") from error
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(width * columns, height * rows))
        yield drawing, drawing.subplots(rows, columns, squeeze=False)


def save(drawing: Figure, path: Path, data: Any = None) -> list[Path]:
    """Write the figure as PNG and SVG beside each other, each whole or not at all; return the paths.

    `data`, what is drawn, goes beside them as JSON if it is given.
    """
    written: list[Path] = []
    for suffix in (".png", ".svg"):
        buffer = io.BytesIO()
        drawing.savefig(buffer, format=suffix[1:], metadata={"Date": None} if suffix == ".svg" else None)
        write_atomically(path.with_suffix(suffix), buffer.getvalue())
        written.append(path.with_suffix(suffix))
    if data is not None:
        write_atomically(path.with_suffix(".json"), json.dumps(plain(data), indent=1).encode())
        written.append(path.with_suffix(".json"))
    return written
