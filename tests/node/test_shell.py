"""The shell: what one handler cannot do keeps nothing else of an event from being done."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from edgemesh.node.shell import Shell
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, DropContent, JobEnded
from edgemesh.roles.events import Connected, Event

ENDED = JobEnded("job", "face", 0.1)


class _Wants:
    """A role that answers every event with the same actions."""

    def __init__(self, *actions: Action) -> None:
        self._actions = list(actions)

    def handle(self, event: Event, now: float) -> list[Action]:
        return self._actions


def test_an_action_that_cannot_be_carried_out_is_logged_and_the_others_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Found by a reader: on a disk that takes nothing, a job of a model that was removed had no end."""
    ended: list[JobEnded] = []

    def drop(action: DropContent) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    loop: Any = SimpleNamespace(time=lambda: 0.0)
    shell = Shell(_Wants(DropContent("0" * 64), ENDED), Topics("home"), loop)
    shell.handle_also({DropContent: drop, JobEnded: ended.append})
    shell.deliver(Connected())

    assert ended == [ENDED]
    assert "DropContent" in caplog.text and "Read-only file system" in caplog.text
