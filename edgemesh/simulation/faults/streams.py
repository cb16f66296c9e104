"""Streams: of frames only the newest matters, so an old one may give way, and few are under way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from edgemesh.errors import SupersededError
from edgemesh.protocol.activation import Activation
from edgemesh.simulation.faults.schedules import Deed

_RULE = "the newest frame matters"


class Streams:
    """Looks at the frames of each stream, in the order in which their camera had them."""

    def __init__(self, broken: Callable[[str, str, str], None]) -> None:
        self._broken = broken
        self._frames: dict[str, list[Deed]] = defaultdict(list)
        self._ended: dict[str, str | None] = {}
        """Code of each frame that has ended; None for a result."""
        self._sent: dict[str, set[str]] = defaultdict(set)
        """Frames of each stream that were sent and have not ended."""
        self._longest: dict[str, int] = defaultdict(int)
        """Hops of the longest route that each stream took."""

    @property
    def newest(self) -> list[Deed]:
        """The last frame of each stream."""
        return [frames[-1] for frames in self._frames.values()]

    def submitted(self, deed: Deed) -> None:
        """A camera has a frame."""
        if deed.stream:
            self._frames[deed.stream].append(deed)

    def sent(self, deed: Deed, header: Activation) -> None:
        """A client has a frame's input published for a device."""
        if not deed.stream:
            return
        under_way = self._sent[deed.stream]
        under_way.add(deed.name)
        longest = self._longest[deed.stream] = max(self._longest[deed.stream], len(header.route))
        # One on each device of the route, and one on the way.
        if len(under_way) > 1 + longest:
            text = f"{len(under_way)} frames of {deed.stream} are under way over {longest} devices"
            self._broken("few frames are under way", text, deed.name)

    def cancelled(self, deed: Deed) -> None:
        """Nobody waits for a frame any more; until then it could take another's place."""
        self._sent[deed.stream].discard(deed.name)

    def ended(self, deed: Deed, code: str | None) -> None:
        """A job ended with ``code``; None for a result."""
        if not deed.stream:
            if code == SupersededError.code:
                self._broken(_RULE, f"{deed.name} is no frame, and ended in {code}", deed.name)
            return
        self._ended[deed.name] = code
        self._sent[deed.stream].discard(deed.name)
        frames = self._frames[deed.stream]
        newer = frames[frames.index(deed) + 1 :]
        if code == SupersededError.code and not any(self._ended.get(frame.name) is None for frame in newer):
            text = f"{deed.name} gave way, and no newer frame has a result or is under way"
            self._broken(_RULE, text, deed.name)
