"""Addresses: topics with one name in them, kept once they are built."""

from __future__ import annotations

from edgemesh.protocol.topics import TOPICS, Topics

_KEPT = 4096
"""Names come from received messages: they must not grow the process."""


class Addresses:
    """``Topics.build`` for one name; formatting and checking took a tenth of a small hop (measured)."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._built: dict[tuple[str, str], str] = {}

    def of(self, kind: str, name: str) -> str:
        """The topic of ``kind`` for the device, requester or other ``name`` in its pattern."""
        built = self._built.get((kind, name))
        if built is None:
            what = TOPICS[kind].pattern.partition("{")[2].partition("}")[0]
            built = self._topics.build(kind, **{what: name})
            if len(self._built) >= _KEPT:
                self._built.clear()
            self._built[kind, name] = built
        return built
