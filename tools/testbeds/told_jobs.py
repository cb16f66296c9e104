"""What a program on a testbed tells of its jobs, a line of JSON for each: all of them, or an error."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any

from benchmarks.report import NotMeasurableError


class ToldJobs:
    """Reads while the program runs: one that waits for a reader is late with its jobs."""

    def __init__(self, what: str, process: subprocess.Popen[bytes], count: int) -> None:
        """``count`` is how many jobs it has to tell of; ``what`` names it in an error."""
        assert process.stdout is not None
        self._what = what
        self._process = process
        self._count = count
        self._lines: list[bytes] = []
        self._reader = threading.Thread(target=self._lines.extend, args=(process.stdout,), daemon=True)
        self._reader.start()

    def all(self) -> list[dict[str, Any]]:
        """Wait for its end. Raises NotMeasurableError where it died: jobs that nobody told of are not
        measured, and would count neither as lost nor as slow."""
        self._reader.join()
        status = self._process.wait()
        if status != 0 or len(self._lines) != self._count:
            raise NotMeasurableError(
                f"{self._what} ended with status {status} and told of {len(self._lines)} of {self._count} "
                "jobs: see its error above"
            )
        return [json.loads(line) for line in self._lines]
