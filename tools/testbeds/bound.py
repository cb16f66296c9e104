"""Run a command that ends with who started it: ``python -m testbeds.bound PARENT SIGNAL COMMAND...``.

Whoever starts it may be gone before the kernel was asked to tell: so that is looked at after asking.
"""

from __future__ import annotations

import os
import signal
import sys

from edgemesh.node.parent_death import end_with


def ending_with_us(number: signal.Signals) -> list[str]:
    """What stands before a command for it to get the signal when the thread that starts it is gone."""
    return [sys.executable, "-m", "testbeds.bound", str(os.getpid()), str(number.value)]


def main() -> None:
    """See the module; the command takes this process's place."""
    parent, number, *command = sys.argv[1:]
    end_with(int(parent), signal.Signals(int(number)))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
