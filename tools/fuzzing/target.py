"""One thing to fuzz."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgemesh.errors import DecodeError, EdgemeshError, VersionError


@dataclass(frozen=True)
class Target:
    """One reader. It may refuse what it reads, with one of ``refusals`` and with nothing else."""

    name: str
    read: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    refusals: tuple[type[EdgemeshError], ...] = (DecodeError, VersionError)
    most_bytes: int = 4096
    """Of an input: small ones are tried more often, and what is wrong with a reader shows in them."""

    def outcome(self, payload: bytes) -> object:
        """What ``read`` says, or the refusal; whatever else is raised is a finding."""
        try:
            return self.read(payload)
        except self.refusals as refusal:
            assert str(refusal), "a refusal must say why"
            assert len(str(refusal)) < 2000, "a refusal must not repeat what it was sent"
            return refusal
