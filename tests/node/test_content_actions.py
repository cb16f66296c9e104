"""Content on a disk that fills up or fails (a small tmpfs), and content that a loss of power tore."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgemesh.node import content_store as content_store_module
from edgemesh.node.content_actions import ContentActions
from edgemesh.node.content_store import ContentStore
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Profile
from edgemesh.roles.actions import DropContent, FindContent, StoreChunk
from edgemesh.roles.events import ContentFound, ContentStored, ContentUnwritable, Event
from edgemesh.simulation.models import made_up_model
from edgemesh.transport.daemon_threads import DaemonThreads

_SIZE = 100_000
MODEL, CONTENT = made_up_model(content_bytes=3 * _SIZE, chunk_bytes=_SIZE)
WAIT = 30.0

Story = Callable[[ContentActions, "asyncio.Queue[Event]"], Awaitable[None]]


def _tell(store: ContentStore, story: Story) -> None:
    async def told() -> None:
        events: asyncio.Queue[Event] = asyncio.Queue()
        actions = ContentActions(store, asyncio.get_running_loop(), events.put_nowait, lambda message: None)
        await story(actions, events)

    asyncio.run(asyncio.wait_for(told(), WAIT))


def _found(store: ContentStore) -> Event:
    """What is said of the content on disk."""
    said: list[Event] = []

    async def story(actions: ContentActions, events: asyncio.Queue[Event]) -> None:
        actions.handlers()[FindContent](FindContent(MODEL))
        said.append(await events.get())

    _tell(store, story)
    return said[0]


def _keep(actions: ContentActions, index: int) -> None:
    data = CONTENT[index * _SIZE : (index + 1) * _SIZE]
    actions.handlers()[StoreChunk](StoreChunk(MODEL, index, data, index == 2))


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

    async def story(actions: ContentActions, events: asyncio.Queue[Event]) -> None:
        _keep(actions, 0)
        _keep(actions, 1)
        assert await events.get() == ContentUnwritable(MODEL.digest, "No space left on device")
        subprocess.run(["mount", "-o", "remount,size=1m", small_disk], check=True)
        actions.handlers()[FindContent](FindContent(MODEL))
        assert await events.get() == ContentFound(MODEL.digest, frozenset({0}))
        _keep(actions, 1)
        _keep(actions, 2)
        assert await events.get() == ContentStored(MODEL.digest)

    _tell(store, story)
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


def test_a_profile_that_cannot_be_read_is_measured_again(tmp_path: Path) -> None:
    """Found by a reader: on a damaged disk, or with other rights on the file, a device was never measured."""
    store = ContentStore(tmp_path)
    profile = Profile(MODEL.digest, "tflite", "2.14", 1, (0.01,) * MODEL.unit_count)
    store.keep_profile(profile)
    (kept,) = (tmp_path / "profiles").iterdir()
    kept.unlink()
    kept.mkdir()  # any error but that there is none

    assert store.profile(MODEL.digest, "2.14", 1) is None


def test_content_that_the_disk_does_not_give_up_is_dropped_all_the_same(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by a reader: a worn SD card becomes read-only, and dropping raised."""
    store = ContentStore(small_disk)
    store.put(b"", MODEL.digest)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    store.drop(MODEL.digest)
    assert not store.has(MODEL.digest)
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot delete {MODEL.digest[:20]} from the disk: Read-only file system"
    ]


@pytest.mark.parametrize("threads", [True, False], ids=["a thread", "no thread to give"])
def test_the_loop_does_not_wait_for_a_disk_to_free_the_bytes_of_content(
    threads: bool, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: to free gigabytes takes a card seconds, without heartbeats."""
    store, beside = ContentStore(small_disk), list[Callable[[], None]]()
    store.put(bytes(_SIZE), MODEL.digest)
    before = os.statvfs(small_disk).f_bavail

    def submitted(self: DaemonThreads, call: Callable[[], None]) -> None:
        if not threads:
            raise RuntimeError("can't start new thread")
        beside.append(call)

    async def story(actions: ContentActions, events: asyncio.Queue[Event]) -> None:
        monkeypatch.setattr(DaemonThreads, "submit", submitted)
        actions.handlers()[DropContent](DropContent(MODEL.digest))

    _tell(store, story)
    assert not store.has(MODEL.digest) and not store.path(MODEL.digest).exists()
    if threads:
        assert os.statvfs(small_disk).f_bavail == before
        (give_back,) = beside
        give_back()
    assert os.statvfs(small_disk).f_bavail > before


@pytest.mark.parametrize(
    ("torn", "right"),
    [
        (b"", frozenset()),
        (bytes(len(CONTENT)), frozenset()),
        (CONTENT[: 2 * _SIZE], frozenset({0, 1})),
        (CONTENT[:_SIZE] + bytes(_SIZE) + CONTENT[2 * _SIZE :], frozenset({0, 2})),
    ],
    ids=["empty", "zeros", "short", "a hole"],
)
def test_torn_content_is_not_believed_and_its_right_chunks_are_kept(
    torn: bytes, right: frozenset[int], tmp_path: Path
) -> None:
    store = ContentStore(tmp_path)
    store.path(MODEL.digest).write_bytes(torn)

    async def story(actions: ContentActions, events: asyncio.Queue[Event]) -> None:
        actions.handlers()[FindContent](FindContent(MODEL))
        assert await events.get() == ContentFound(MODEL.digest, right)
        for index in range(3):
            if index not in right or index == 2:
                _keep(actions, index)
        assert await events.get() == ContentStored(MODEL.digest)

    _tell(store, story)
    assert store.path(MODEL.digest).read_bytes() == CONTENT


def test_content_of_an_earlier_process_is_hashed_once_and_not_by_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ContentStore(tmp_path)
    store.path(MODEL.digest).write_bytes(CONTENT)
    threads: list[threading.Thread] = []
    hashed = content_store_module.file_digest

    def noted(path: Path) -> str:
        threads.append(threading.current_thread())
        return hashed(path)

    monkeypatch.setattr(content_store_module, "file_digest", noted)

    assert _found(store) == ContentStored(MODEL.digest)
    assert len(threads) == 1 and threads[0] is not threading.current_thread()
    assert _found(store) == ContentStored(MODEL.digest)
    assert len(threads) == 1


def test_a_program_ends_while_content_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by a reader: an agent that was asked to end did so once 8 GB were hashed."""
    store, hashing, go_on = ContentStore(tmp_path), threading.Event(), threading.Event()
    store.path(MODEL.digest).write_bytes(CONTENT)
    over: list[str] = []

    def slow(path: Path) -> str:
        hashing.set()
        go_on.wait(5)
        over.append("hashed")
        return MODEL.digest

    monkeypatch.setattr(content_store_module, "file_digest", slow)

    async def story(actions: ContentActions, events: asyncio.Queue[Event]) -> None:
        actions.handlers()[FindContent](FindContent(MODEL))
        assert hashing.wait(WAIT)

    _tell(store, story)
    over.append("ended")
    go_on.set()
    assert over[0] == "ended"


def test_a_look_that_gets_no_thread_is_said_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: nobody heard of it, and the model was never looked for again."""
    store = ContentStore(tmp_path)
    store.path(MODEL.digest).write_bytes(CONTENT)

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def story(actions: ContentActions, events: asyncio.Queue[Event]) -> None:
        find = actions.handlers()[FindContent]
        with monkeypatch.context() as short_of_threads:
            short_of_threads.setattr(threading.Thread, "start", none_left)
            find(FindContent(MODEL))
        assert await events.get() == ContentUnwritable(MODEL.digest, "can't start new thread")
        find(FindContent(MODEL))
        assert await events.get() == ContentStored(MODEL.digest)

    _tell(store, story)


def test_a_look_that_there_is_no_memory_for_is_said_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: who fetches waited for the answer for ever."""
    store = ContentStore(tmp_path)

    def none_left(path: Path) -> str:
        raise MemoryError

    async def story(actions: ContentActions, events: asyncio.Queue[Event]) -> None:
        store.path(MODEL.digest).write_bytes(CONTENT)
        with monkeypatch.context() as short_of_memory:
            short_of_memory.setattr(content_store_module, "file_digest", none_left)
            actions.handlers()[FindContent](FindContent(MODEL))
            assert await events.get() == ContentUnwritable(MODEL.digest, "MemoryError")
        actions.handlers()[FindContent](FindContent(MODEL))
        assert await events.get() == ContentStored(MODEL.digest)

    _tell(store, story)


def test_what_this_process_wrote_is_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = ContentStore(tmp_path / "put"), ContentStore(tmp_path / "fetched")
    store.put(CONTENT, MODEL.digest)
    for index in range(3):
        other.write_chunk(MODEL, index, CONTENT[index * _SIZE : (index + 1) * _SIZE])
    assert other.finish(MODEL)
    monkeypatch.delattr(content_store_module, "file_digest")

    assert _found(store) == _found(other) == ContentStored(MODEL.digest)


def test_content_that_is_dropped_while_it_is_hashed_is_not_there(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    store.path(MODEL.digest).write_bytes(CONTENT)

    async def story(actions: ContentActions, events: asyncio.Queue[Event]) -> None:
        handlers = actions.handlers()
        handlers[FindContent](FindContent(MODEL))
        handlers[DropContent](DropContent(MODEL.digest))
        assert await events.get() == ContentFound(MODEL.digest, frozenset())

    _tell(store, story)


def test_a_fetch_that_begins_while_the_one_before_is_hashed_is_not_taken_for_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, hashing, go_on = ContentStore(tmp_path), threading.Event(), threading.Event()
    hashed = content_store_module.file_digest

    def slow(path: Path) -> str:
        digest = hashed(path)
        hashing.set()
        assert go_on.wait(WAIT)
        return digest

    monkeypatch.setattr(content_store_module, "file_digest", slow)

    async def story(actions: ContentActions, events: asyncio.Queue[Event]) -> None:
        handlers = actions.handlers()
        for index in range(3):
            _keep(actions, index)
        assert await asyncio.to_thread(hashing.wait, WAIT)
        handlers[DropContent](DropContent(MODEL.digest))
        handlers[FindContent](FindContent(MODEL))
        assert await events.get() == ContentFound(MODEL.digest, frozenset())
        _keep(actions, 0)
        go_on.set()
        for index in (1, 2):
            _keep(actions, index)
        assert await events.get() == ContentStored(MODEL.digest)

    _tell(store, story)
    assert store.path(MODEL.digest).read_bytes() == CONTENT


def test_content_that_is_dropped_before_its_end_is_told_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, finished = ContentStore(tmp_path), threading.Event()
    finish = store.finish

    def noted(manifest: Manifest) -> bool | None:
        whole = finish(manifest)
        finished.set()
        return whole

    monkeypatch.setattr(store, "finish", noted)

    async def story(actions: ContentActions, events: asyncio.Queue[Event]) -> None:
        handlers = actions.handlers()
        for index in range(3):
            _keep(actions, index)
        assert finished.wait(WAIT)  # and the loop has not heard of it yet
        handlers[DropContent](DropContent(MODEL.digest))
        handlers[FindContent](FindContent(MODEL))
        assert await events.get() == ContentFound(MODEL.digest, frozenset())

    _tell(store, story)


def test_a_file_that_is_only_linked_is_not_written_to(tmp_path: Path) -> None:
    store, own = ContentStore(tmp_path / "store"), tmp_path / "own.tflite"
    own.write_bytes(changed := b"x" + CONTENT[1:])
    store.path(MODEL.digest).symlink_to(own)

    async def story(actions: ContentActions, events: asyncio.Queue[Event]) -> None:
        actions.handlers()[FindContent](FindContent(MODEL))
        assert await events.get() == ContentFound(MODEL.digest, frozenset())
        for index in range(3):
            _keep(actions, index)
        assert await events.get() == ContentStored(MODEL.digest)

    _tell(store, story)
    assert own.read_bytes() == changed
    assert store.path(MODEL.digest).read_bytes() == CONTENT


@pytest.mark.parametrize("way", ["put", "fetched"])
def test_content_is_on_the_disk_before_it_has_its_name(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ContentStore(tmp_path)
    if way == "fetched":
        for index in range(3):
            store.write_chunk(MODEL, index, CONTENT[index * _SIZE : (index + 1) * _SIZE])
    done: list[str] = []
    sync, replace_file = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        sync(descriptor)

    def noted_replace(old: Path, new: Path) -> None:
        done.append(f"name {Path(new).name}")
        replace_file(old, new)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    if way == "put":
        store.put(CONTENT, MODEL.digest)
    else:
        assert store.finish(MODEL)

    assert done == [f"sync {MODEL.digest}.part", f"name {MODEL.digest}", "sync models"]
