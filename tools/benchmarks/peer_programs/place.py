"""What a process of a peer is told, and the half that it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.models import opened
from edgemesh.protocol.manifest import Boundary
from edgemesh.runtime.registry import runtime_for

REQUESTER, FIRST, SECOND = 0, 1, 2
Arrays = list[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Place:
    """One of three processes: the requester, the first half, the second half."""

    folder: str
    cut: int
    rank: int
    ports: tuple[int, ...]
    keeps_buffers: bool = True
    """Whether its process reuses large buffers as an executor of edgemesh does."""

    def boundary(self, half: int) -> Boundary:
        """What ``half`` (FIRST or SECOND) takes, or with ``SECOND + 1`` what comes out in the end."""
        manifest = opened(Path(self.folder)).manifest
        return manifest.boundaries[(0, self.cut, manifest.unit_count)[half - FIRST]]

    def inputs(self) -> Arrays:
        """The input of every job."""
        return opened(Path(self.folder)).inputs()

    def half(self, half: int) -> Callable[[Arrays], Arrays]:
        """The units of ``half`` on one thread of this process."""
        model = opened(Path(self.folder))
        start, stop = ((0, self.cut), (self.cut, model.manifest.unit_count))[half - FIRST]
        loaded = runtime_for(model.manifest.format).open(model.path, model.manifest, 1).load(start, stop)

        def run(arrays: Arrays) -> Arrays:
            return [np.ascontiguousarray(array) for array in loaded.run(arrays)]

        return run


class Requests(Protocol):
    """The requester's end of one way."""

    def once(self) -> Arrays:
        """One job from its input to its outputs."""
        ...

    def stream(self, count: int, window: int) -> None:
        """``count`` jobs, ``window`` of them under way."""
        ...


class Windowed:
    """Requests that begin and end apart, so that several are under way; a way says how each is done."""

    def once(self) -> Arrays:
        """One job."""
        self._begin()
        return self._end()

    def stream(self, count: int, window: int) -> None:
        """Begin ``count`` jobs and end them in order, at most ``window`` begun and not ended."""
        for number in range(count):
            if number >= window:
                self._end()
            self._begin()
        for _ in range(min(window, count)):
            self._end()

    def _begin(self) -> None:
        raise NotImplementedError

    def _end(self) -> Arrays:
        raise NotImplementedError
