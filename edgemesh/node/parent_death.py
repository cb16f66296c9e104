"""A child of ``edgemesh up`` or ``demo`` ends when its parent dies, however that happens."""

from __future__ import annotations

import ctypes
import os
import signal

PARENT_VARIABLE = "EDGEMESH_PARENT"
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Arrange for SIGTERM when the process named by the environment is gone (Linux; elsewhere nothing)."""
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if parent is not None:
        end_with(int(parent))


def end_with(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Arrange for the signal when this process's ``parent`` is gone (Linux; elsewhere nothing)."""
    if not hasattr(signal, "SIGTERM"):
        return
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:  # it died before we asked
        os.kill(os.getpid(), number)
