"""Faults of one connection: its process is stopped, its link is cut, its acknowledgement is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgemesh.simulation.clock import VirtualClock

Call = tuple[Callable[..., object], tuple[Any, ...]]


class LinkFaults:
    """What a connection asks before anything arrives at either end."""

    def __init__(self, clock: VirtualClock) -> None:
        self.cut = False
        """Nothing gets through, either way."""
        self.paused = False
        """The client's process is stopped; its kernel goes on."""
        self.loses_acknowledgement_of: str | None = None
        """Part of the topic whose next PUBACK is lost."""
        self.silent_since = clock.now
        """When the silence under way began."""
        self._given_up = False
        """Whether the client has stopped to wait for what a link that is cut holds back."""
        self._clock = clock
        self._under_way: list[Call] = []
        """What TCP holds back on a link that is cut."""
        self._unread: list[Call] = []
        """What the client's process has not seen yet."""

    @property
    def silent(self) -> bool:
        """Whether the broker hears nothing of the client, and the client nothing of the broker."""
        return self.cut or self.paused

    def hold(self, call: Callable[..., object], *arguments: Any) -> None:
        """Something is under way on a link that is cut."""
        self._under_way.append((call, arguments))

    def at_process(self, call: Callable[[], object]) -> None:
        """Something has arrived: now, or when the process goes on."""
        if self.paused:
            self._unread.append((call, ()))
        else:
            call()

    def tell(self, call: Callable[[], object]) -> None:
        """The broker ended the connection: the client learns it when something can reach it."""
        if self.cut and not self._given_up:
            self._under_way.append((self.tell, (call,)))
        else:
            self.at_process(call)

    def sever(self) -> None:
        """Cut the link."""
        self._begin_silence()
        self.cut = True
        self._given_up = False

    def mend(self) -> None:
        """Mend the link."""
        self.cut = False
        self.loses_acknowledgement_of = None
        self._release(self._under_way)

    def give_up(self) -> None:
        """The keep-alive has passed on a link that is cut: the client's own end says what happened."""
        if self.cut:
            self._given_up = True
            told = [entry for entry in self._under_way if entry[0] == self.tell]
            self._under_way = [entry for entry in self._under_way if entry[0] != self.tell]
            self._release(told)

    def pause(self) -> None:
        """Stop the process."""
        self._begin_silence()
        self.paused = True

    def resume(self) -> None:
        """Let the process go on."""
        self.paused = False
        self._release(self._unread)

    def _begin_silence(self) -> None:
        if not self.silent:
            self.silent_since = self._clock.now

    def _release(self, held: list[Call]) -> None:
        waiting, held[:] = list(held), []
        for call, arguments in waiting:
            self._clock.call_later(0.0, call, *arguments)
