"""Log lines for refused messages, limited in rate so that a flood of garbage is not a flood of log."""

from __future__ import annotations

from edgemesh.errors import EdgemeshError
from edgemesh.roles.actions import Action, Log

_QUIET_SECONDS = 10.0


class Refusals:
    """One line per subject and ten seconds; the next line says how many were left out."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def log(self, subject: str, error: EdgemeshError, now: float) -> list[Action]:
        """The line for a refused message on topic kind ``subject``, or nothing while it is quiet."""
        return self.tell(subject, f"refused a message on {subject}: {error}", now)

    def tell(self, subject: str, text: str, now: float) -> list[Action]:
        """The line ``text`` about ``subject``, or nothing while it is quiet."""
        last = self._last.get(subject)
        if last is not None and now - last < _QUIET_SECONDS:
            self._left_out[subject] = self._left_out.get(subject, 0) + 1
            return []
        self._last[subject] = now
        left_out = self._left_out.pop(subject, 0)
        also = f" (and {left_out} more like it)" if left_out else ""
        return [Log("warning", f"{text}{also}", subject)]
