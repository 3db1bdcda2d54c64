"""The command `tandem`: Ctrl-C ends it in one line also while its libraries are loaded, which takes a second."""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Load the command line and run it."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # and not ignored, as in the background
        signal.signal(signal.SIGINT, _stop)
    from validation import cli

    signal.signal(signal.SIGINT, usual)
    cli.main()


def _stop(*_: object) -> None:
    """End the process here: an exception might be taken for another one by the library that is half loaded."""
    sys.stderr.write("tandem: interrupted; nothing was written\n")
    sys.stderr.flush()
    os._exit(130)
