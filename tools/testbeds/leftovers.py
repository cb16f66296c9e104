"""What a testbed that was killed has left behind: known by its name, removed at the next start.

Namespaces and folders carry the process id of their maker. Processes end by themselves (the kernel signals
them); what does not is found in the namespace that it runs in.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

NAMESPACES = Path("/run/netns")
_NAME = re.compile(r"^emtb(\d+)-")


_counter = itertools.count(1)


def prefix() -> str:
    """Of names that belong together; another at each call."""
    return f"emtb{os.getpid()}-{next(_counter)}-"


def new_folder() -> Path:
    """For what ends with this testbed; its path is short, as a Unix socket's must be."""
    return Path(tempfile.mkdtemp(prefix=prefix()))


def remove_leftovers() -> list[str]:
    """Remove what dead testbeds left; the names of what was removed."""
    removed = []
    for path in _of_the_dead(NAMESPACES):
        found = subprocess.run(
            ["ip", "netns", "pids", path.name], capture_output=True, text=True, check=False
        )
        for pid in found.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "delete", path.name], capture_output=True, check=False)
        removed.append(path.name)
    for path in _of_the_dead(Path(tempfile.gettempdir())):
        shutil.rmtree(path, ignore_errors=True)
        removed.append(path.name)
    return removed


def _of_the_dead(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    known = [(path, _NAME.match(path.name)) for path in sorted(folder.iterdir())]
    return [path for path, name in known if name is not None and not Path(f"/proc/{name[1]}").exists()]
