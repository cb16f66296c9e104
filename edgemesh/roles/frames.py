"""Frames: of a stream of which only the newest matters, few are under way and one waits here.

What has been handed to a slow link is not taken back, so a frame that waits there gets old. One that waits
here gives way as soon as a newer one comes.
"""

from __future__ import annotations

Stream = tuple[str, str]
"""Model and name of the stream."""


class Frames:
    """Names of jobs; one that is no frame of a stream is not seen here."""

    def __init__(self) -> None:
        self._under_way: dict[Stream, set[str]] = {}
        self._held: dict[Stream, str] = {}
        self._newest: dict[Stream, str] = {}

    def under_way(self, stream: Stream) -> frozenset[str]:
        """Frames that were sent, or tried to be, and have not ended."""
        return frozenset(self._under_way.get(stream, ()))

    def came(self, stream: Stream, job: str) -> None:
        """A camera has a frame, which is the newest until the next one comes or the stream is at rest."""
        self._newest[stream] = job

    def is_newest(self, stream: Stream, job: str) -> bool:
        """Whether no newer frame has come since."""
        return self._newest.get(stream) == job

    def may_go(self, stream: Stream, most: int) -> bool:
        """Whether a new frame may be sent: fewer than ``most`` are under way, and none waits."""
        return stream not in self._held and len(self._under_way.get(stream, ())) < most

    def goes(self, stream: Stream, job: str) -> None:
        """A frame is sent."""
        self._under_way.setdefault(stream, set()).add(job)

    def hold(self, stream: Stream, job: str) -> str | None:
        """A frame waits from now on; the one that gives way to it, where there is one."""
        older = self._held.get(stream)
        self._held[stream] = job
        return older

    def ended(self, stream: Stream, job: str) -> str | None:
        """A frame has ended, wherever it was; the one that waits now, where there is one."""
        if self._held.get(stream) == job:
            del self._held[stream]
        under_way = self._under_way.get(stream)
        if under_way is not None:
            under_way.discard(job)
            if not under_way:
                del self._under_way[stream]
        if stream not in self._under_way and stream not in self._held:
            self._newest.pop(stream, None)
        return self._held.get(stream)

    def take_held(self, stream: Stream, most: int) -> bool:
        """Let the frame that waits go, if fewer than ``most`` are under way; whether it goes."""
        if stream not in self._held or len(self._under_way.get(stream, ())) >= most:
            return False
        self.goes(stream, self._held.pop(stream))
        return True
