"""Work that kills its own process, in a module that a worker imports in no time."""

import os
import signal
from pathlib import Path

__all__ = ["dies_always", "dies_once"]


def dies_once(item):
    """Square of k, given (folder, k); the first process that is asked for k = 3 is killed."""
    folder, k = item
    marker = Path(folder) / "died"
    if k == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return k * k


def dies_always(item):
    """Square of k, given (folder, k); every process that is asked for k = 3 is killed."""
    if item[1] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item[1] * item[1]
