"""The solver HiGHS, saying nothing on standard output, where a command with `--json` prints one object."""

from __future__ import annotations

import highspy

__all__ = ["SilentHighs"]


class SilentHighs(highspy.Highs):
    """A HiGHS without log and without callbacks.

    `output_flag` alone is not enough: from version 1.16 on, the first solver of a process prints a banner when its
    constructor registers callbacks, before any option can be set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setOptionValue("output_flag", False)

    def enableCallbacks(self) -> None:  # noqa: N802 (the name is HiGHS's)
        """Registers none."""
