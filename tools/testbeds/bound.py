"""Run a command that ends with who started it: ``python -m testbeds.bound PARENT SIGNAL COMMAND...``.

Whoever starts it may be gone before the kernel was asked to tell: so that is looked at after asking.
"""

from __future__ import annotations

import os
import signal
import sys

from edgemesh.node.parent_death import end_with


def main() -> None:
    """See the module; the command takes this process's place."""
    parent, number, *command = sys.argv[1:]
    end_with(int(parent), signal.Signals(int(number)))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
