"""Content that nobody has named for a long time leaves the disk; all other content stays."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edgemesh.node.content_age import KEPT_SECONDS, sort_by_age
from edgemesh.node.content_store import ContentStore, KeptFile
from edgemesh.node.content_sweep import ContentSweep
from edgemesh.node.device_agent import DeviceAgent, agent_settings
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.topics import Topics
from edgemesh.roles.events import Connected, Disconnected, Event, MessageReceived
from edgemesh.simulation.models import made_up_model
from edgemesh.transport.address import BrokerAddress

WAIT = 10.0
DAY = 86400.0
NOW = 1_800_000_000.0
OLD, OTHER = "0" * 63 + "1", "0" * 63 + "2"
MODEL, CONTENT = made_up_model(content_bytes=3000, chunk_bytes=1000)
_TOPICS = Topics("home")

Story = Callable[[ContentSweep], Awaitable[None]]


# --- what is old -------------------------------------------------------------------------------------------


def _sorted(days: float, *, named: bool) -> tuple[list[str], list[str]]:
    return sort_by_age({OLD: NOW - days * DAY}, lambda name: named, NOW)


@pytest.mark.parametrize("days", [-400, 0, 1.5, 29.9])
def test_what_nobody_names_stays_as_it_is_for_30_days(days: float) -> None:
    assert _sorted(days, named=False) == ([], [])


@pytest.mark.parametrize("days", [30.1, 20_000])
def test_what_nobody_has_named_for_30_days_goes(days: float) -> None:
    assert _sorted(days, named=False) == ([OLD], [])


@pytest.mark.parametrize("days", [1.1, 30.1, 20_000])
def test_what_is_named_stays_however_old_and_is_as_new(days: float) -> None:
    assert _sorted(days, named=True) == ([], [OLD])


@pytest.mark.parametrize("days", [0.9, -0.1, -20_000])
def test_a_time_is_renewed_once_a_day_and_never_put_back_by_a_clock_that_is_behind(days: float) -> None:
    assert _sorted(days, named=True) == ([], [])


def test_each_file_goes_by_its_own_time_and_name() -> None:
    times = {OLD: NOW - 2 * KEPT_SECONDS, f"{OLD}.part": NOW - DAY / 2, OTHER: NOW - 2 * KEPT_SECONDS}

    assert sort_by_age(times, lambda name: name == OTHER, NOW) == ([OLD], [OTHER])


# --- files -------------------------------------------------------------------------------------------------


def _file(store: ContentStore, name: str, days: float, content: bytes = b"content") -> Path:
    path = store.path(name)
    path.write_bytes(content)
    _age(path, days)
    return path


def _age(path: Path, days: float) -> None:
    at = time.time() - days * DAY
    os.utime(path, (at, at), follow_symlinks=False)


def _days(path: Path) -> float:
    return (time.time() - path.lstat().st_mtime) / DAY


def test_only_content_is_listed_with_what_it_takes_of_the_disk(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    _file(store, OLD, 40)
    _file(store, f"{OLD}.part", 2, b"p")
    with store.path(f"{OTHER}.part").open("wb") as sparse:
        sparse.truncate(1 << 30)
    for name in ("notes.txt", OLD[:-1], f"{OLD}.party", f"{OLD}\n", OLD.replace("0", "A"), f"x{OLD}"):
        _file(store, name, 40)
    store.path("f" * 64).mkdir()
    os.mkfifo(store.path("e" * 64))

    kept = {file.name: file for file in store.kept()}
    assert set(kept) == {OLD, f"{OLD}.part", f"{OTHER}.part"}
    assert kept[OLD].digest == kept[f"{OLD}.part"].digest == OLD
    assert (kept[OLD].size, kept[f"{OLD}.part"].size, kept[f"{OTHER}.part"].size) == (7, 1, 0)
    assert 39.9 < (time.time() - kept[OLD].at) / DAY < 40.1


def test_a_link_to_the_file_of_a_person_goes_without_it(tmp_path: Path) -> None:
    store, theirs = ContentStore(tmp_path), tmp_path / "theirs"
    theirs.write_bytes(bytes(5000))
    _age(theirs, 50)
    store.path(OLD).symlink_to(theirs)
    _age(store.path(OLD), 40)
    (link,) = store.kept()
    assert link.size < 5000

    store.renew([OLD])
    assert _days(store.path(OLD)) < 0.1 and _days(theirs) > 49
    store.let_go(link)
    assert not os.path.lexists(store.path(OLD)) and theirs.exists()


def test_what_went_meanwhile_is_neither_renewed_nor_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ContentStore(tmp_path)

    store.renew([OLD])
    assert store.let_go(KeptFile(OLD, OLD, 0.0, 7)) is None
    assert not caplog.records and not store.kept()


def test_content_that_is_let_go_is_no_longer_there_for_whoever_looks_for_it(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    store.put(CONTENT, MODEL.digest)
    (file,) = store.kept()

    give_back = store.let_go(file)
    assert give_back is not None
    assert not store.has(MODEL.digest) and not store.verify(MODEL.digest)
    store.path(MODEL.digest).write_bytes(b"by somebody else")
    assert not store.has(MODEL.digest)
    store.put(CONTENT, MODEL.digest)
    give_back()
    assert store.has(MODEL.digest) and store.path(MODEL.digest).read_bytes() == CONTENT


def test_content_that_is_looked_for_counts_as_used(tmp_path: Path) -> None:
    """An agent that always runs for a few minutes only never comes to a sweep."""
    store = ContentStore(tmp_path)
    path = _file(store, MODEL.digest, 40, CONTENT)

    assert store.verify(MODEL.digest)
    assert _days(path) < 0.1


# --- when --------------------------------------------------------------------------------------------------


def _tell(store: ContentStore, story: Story, *, held: str = "", settle: float = 0.0) -> None:
    async def told() -> None:
        loop = asyncio.get_running_loop()
        sweep = ContentSweep(store, loop, lambda digest: digest == held, settle_seconds=settle)
        await story(sweep)
        sweep.stop()

    asyncio.run(asyncio.wait_for(told(), WAIT))


def _named(payload: bytes, model: str = "face") -> Event:
    return MessageReceived(_TOPICS.parse(_TOPICS.build("model", model=model)), payload, retained=True)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_a_device_drops_what_nobody_names_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ContentStore(tmp_path)
    old, part = _file(store, OLD, 40), _file(store, f"{OLD}.part", 31, b"begun")
    new, foreign = _file(store, OTHER, 29), _file(store, "notes.txt", 400)
    held, named = _file(store, "a" * 64, 40), _file(store, MODEL.digest, 40)
    named_part = _file(store, f"{MODEL.digest}.part", 40)

    async def story(sweep: ContentSweep) -> None:
        sweep.hear(Connected())
        sweep.hear(_named(encode_json(MODEL)))
        await _until(lambda: _days(named_part) < 1 and _days(named) < 1 and _days(held) < 1)

    caplog.set_level(logging.INFO)
    _tell(store, story, held="a" * 64)
    assert not old.exists() and not part.exists()
    assert 28 < _days(new) < 30 and _days(foreign) > 399
    said = "dropped %s from the disk (%d bytes): no model has had this content for 30 days"
    wanted = [said % (OLD[:20], 7), said % (f"{OLD[:20]}.part", 5)]
    assert sorted(record.getMessage() for record in caplog.records) == wanted


@pytest.mark.parametrize(
    "payload",
    [
        b'{"later": {"x": 1}, "digest" : "' + OLD.encode() + b'", "name": 5}',
        memoryview(b'"digest":"%b"' % OLD.encode()),
    ],
    ids=["of a later release", "torn"],
)
def test_a_manifest_that_cannot_be_read_names_its_content_all_the_same(
    payload: bytes, tmp_path: Path
) -> None:
    store = ContentStore(tmp_path)
    old, other = _file(store, OLD, 40), _file(store, OTHER, 40)

    async def story(sweep: ContentSweep) -> None:
        sweep.hear(Connected())
        sweep.hear(_named(payload))
        await _until(lambda: not other.exists())

    _tell(store, story)
    assert old.exists()


def test_what_was_named_and_removed_on_this_connection_stays(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    old, other = _file(store, OLD, 40), _file(store, OTHER, 40)

    async def story(sweep: ContentSweep) -> None:
        sweep.hear(Connected())
        sweep.hear(_named(b'{"digest":"%b"}' % OLD.encode()))
        sweep.hear(_named(b""))
        await _until(lambda: not other.exists())

    _tell(store, story)
    assert old.exists()


def test_what_only_an_earlier_connection_named_goes(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    old = _file(store, OLD, 40)

    async def story(sweep: ContentSweep) -> None:
        sweep.hear(Connected())
        sweep.hear(_named(b'{"digest":"%b"}' % OLD.encode()))
        sweep.hear(Disconnected())
        sweep.hear(Connected())
        await _until(lambda: not old.exists())

    _tell(store, story)


def test_nothing_goes_before_the_mesh_has_had_its_say(tmp_path: Path) -> None:
    """Manifests that the broker retains, or that other devices say again, take their time."""
    store = ContentStore(tmp_path)
    old = _file(store, OLD, 40)

    async def story(sweep: ContentSweep) -> None:
        sweep.hear(Connected())
        await asyncio.sleep(0.1)

    _tell(store, story, settle=60.0)
    assert old.exists()


@pytest.mark.parametrize("connected", [False, True], ids=["never there", "gone"])
def test_nothing_goes_while_the_broker_is_away(
    connected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even what was being looked at when it went."""
    store, looking, go_on = ContentStore(tmp_path), threading.Event(), threading.Event()
    old = _file(store, OLD, 40)
    look = store.kept

    def slow() -> list[KeptFile]:
        looking.set()
        go_on.wait(WAIT)
        return look()

    monkeypatch.setattr(store, "kept", slow)

    async def story(sweep: ContentSweep) -> None:
        if connected:
            sweep.hear(Connected())
            await _until(looking.is_set)
            sweep.hear(Disconnected())
        go_on.set()
        await asyncio.sleep(0.1)

    _tell(store, story)
    assert looking.is_set() == connected and old.exists()


def test_what_is_asked_for_while_a_device_looks_at_its_disk_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, looking, go_on = ContentStore(tmp_path), threading.Event(), threading.Event()
    old, other = _file(store, OLD, 40), _file(store, OTHER, 40)
    look = store.kept

    def slow() -> list[KeptFile]:
        found = look()
        looking.set()
        go_on.wait(WAIT)
        return found

    monkeypatch.setattr(store, "kept", slow)

    async def story(sweep: ContentSweep) -> None:
        sweep.hear(Connected())
        await _until(looking.is_set)
        sweep.hear(_named(b'{"digest":"%b"}' % OLD.encode()))
        go_on.set()
        await _until(lambda: not other.exists())

    _tell(store, story)
    assert old.exists()


def test_a_disk_or_a_moment_that_allows_nothing_ends_no_sweeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, tries = ContentStore(tmp_path), iter([OSError(5, "Input/output error"), RuntimeError("no thread")])
    old = _file(store, OLD, 40)
    look = store.kept

    def loose() -> list[KeptFile]:
        error = next(tries, None)
        if error is not None:
            raise error
        return look()

    monkeypatch.setattr(store, "kept", loose)
    monkeypatch.setattr("edgemesh.node.content_sweep._EVERY_SECONDS", 0.0)

    async def story(sweep: ContentSweep) -> None:
        sweep.hear(Connected())
        await _until(lambda: not old.exists())

    _tell(store, story)
    assert [record.getMessage() for record in caplog.records] == [
        "cannot look for old content on the disk now: [Errno 5] Input/output error",
        "cannot look for old content on the disk now: no thread",
    ]


def test_more_names_than_a_mesh_has_models_are_reason_to_drop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ContentStore(tmp_path)
    old = _file(store, OLD, 40)
    monkeypatch.setattr("edgemesh.node.content_sweep._NAMES", 1)

    async def story(sweep: ContentSweep) -> None:
        sweep.hear(Connected())
        for digest in (MODEL.digest, OTHER):
            sweep.hear(_named(b'{"digest":"%b"}' % digest.encode()))
        await asyncio.sleep(0.1)
        assert old.exists()
        sweep.hear(Disconnected())
        sweep.hear(Connected())
        await _until(lambda: not old.exists())

    _tell(store, story)


# --- the agent ---------------------------------------------------------------------------------------------


def test_an_agent_drops_old_content_but_not_what_its_role_fetches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEMESH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("edgemesh.node.content_sweep._SETTLE_SECONDS", 0.0)
    store = ContentStore(tmp_path)
    old, part = _file(store, OLD, 40), _file(store, f"{MODEL.digest}.part", 40, CONTENT[:1000])

    async def story() -> None:
        settings = agent_settings("home", "board", directory=tmp_path)
        agent = DeviceAgent(settings, BrokerAddress("127.0.0.1", 1), asyncio.get_running_loop())
        agent.role.content.reconsider(MODEL)  # said on an earlier connection
        agent.shell.deliver(Connected())
        await _until(lambda: not old.exists() and _days(part) < 1)
        await agent.stop()

    asyncio.run(asyncio.wait_for(story(), WAIT))
    assert part.exists()
