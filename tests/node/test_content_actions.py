"""Content on a disk that fills up: a small tmpfs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgemesh.node.content_actions import ContentActions
from edgemesh.node.content_store import ContentStore
from edgemesh.protocol.presence import Profile
from edgemesh.roles.actions import FindContent, StoreChunk
from edgemesh.roles.events import ContentFound, ContentStored, ContentUnwritable, Event
from edgemesh.simulation.models import made_up_model

_SIZE = 100_000
MODEL, CONTENT = made_up_model(content_bytes=3 * _SIZE, chunk_bytes=_SIZE)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Room for one chunk and a half."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "small", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_what_the_disk_does_not_take_is_said_and_what_it_took_stays(small_disk: Path) -> None:
    store = ContentStore(small_disk)

    async def told() -> None:
        events: asyncio.Queue[Event] = asyncio.Queue()
        actions = ContentActions(store, asyncio.get_running_loop(), events.put_nowait, lambda message: None)
        handlers = actions.handlers()

        def keep(index: int) -> None:
            data = CONTENT[index * _SIZE : (index + 1) * _SIZE]
            handlers[StoreChunk](StoreChunk(MODEL, index, data, index == 2))

        keep(0)
        keep(1)
        assert await events.get() == ContentUnwritable(MODEL.digest, "No space left on device")
        subprocess.run(["mount", "-o", "remount,size=1m", small_disk], check=True)
        handlers[FindContent](FindContent(MODEL))
        assert await events.get() == ContentFound(MODEL.digest, frozenset({0}))
        keep(1)
        keep(2)
        assert await events.get() == ContentStored(MODEL.digest)

    asyncio.run(asyncio.wait_for(told(), 30.0))
    assert store.path(MODEL.digest).read_bytes() == CONTENT


def test_a_profile_that_the_disk_does_not_take_is_not_kept(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ContentStore(small_disk)
    profile = Profile(MODEL.digest, "tflite", "2.14", 1, (0.01,) * MODEL.unit_count)
    store.keep_profile(profile)
    with (small_disk / "all there is").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    store.keep_profile(replace(profile, seconds=(0.02,) * MODEL.unit_count))

    assert store.profile(MODEL.digest, "2.14", 1) == profile
    assert "No space left on device" in caplog.text
