"""The decision node's history beside its event loop: written in order, answered within bounds."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from edgemesh.node.history import Found, HistoryStore
from edgemesh.node.history_actions import HistoryActions
from edgemesh.protocol import limits
from edgemesh.protocol.history import HistoryRecord, HistoryRequest, HistoryResponse
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.requests import Policy
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import AnswerHistory, Publish, Remember
from edgemesh.roles.history_records import policy_record

TOPICS = Topics("home")


def record(text: str) -> HistoryRecord:
    return HistoryRecord("failure", "face", text, origin="app")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def answered(store: HistoryStore, records: list[HistoryRecord], request: HistoryRequest) -> HistoryResponse:
    """The response after ``records``, one each second, and a minute."""

    async def ask() -> Publish:
        clock = Clock()
        actions = HistoryActions(store, TOPICS, asyncio.get_running_loop(), clock)
        published: asyncio.Queue[Publish] = asyncio.Queue()
        handlers = actions.handlers(published.put_nowait)
        for each in records:
            handlers[Remember](Remember(each))
            clock.now += 1.0
        clock.now += 59.0
        handlers[AnswerHistory](AnswerHistory(request))
        message = await asyncio.wait_for(published.get(), 20)
        await actions.close()
        return message

    message = asyncio.run(ask())
    assert (message.topic, message.qos, message.expiry) == (TOPICS.build("response", verb="history"), 1, 30)
    return decode_json(HistoryResponse, message.payload)


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    return HistoryStore(tmp_path / "history.sqlite")


def test_records_come_back_newest_first_with_their_age(store: HistoryStore) -> None:
    response = answered(store, [record("a"), record("b")], HistoryRequest("r", since=61.0))

    assert [(entry.age, entry.record.text) for entry in response.entries] == [(60.0, "b"), (61.0, "a")]
    assert (response.requester, response.truncated) == ("r", False)


@pytest.mark.parametrize("limit", [0, 3, 1 << 40])
def test_however_much_is_asked_for_the_answer_is_bounded(store: HistoryStore, limit: int) -> None:
    store.add([(float(at), record("x" * 4000)) for at in range(500)])

    response = answered(store, [], HistoryRequest("r", limit=limit))

    assert 1 <= len(response.entries) <= min(max(limit, 1), limits.HISTORY)
    assert response.truncated


def test_a_clock_that_was_set_back_makes_no_negative_age(store: HistoryStore) -> None:
    store.add([(9e9, record("from the future"))])

    assert [entry.age for entry in answered(store, [], HistoryRequest("r")).entries] == [0.0]


def test_what_still_waits_is_written_at_the_end(store: HistoryStore) -> None:
    async def leave() -> None:
        actions = HistoryActions(store, TOPICS, asyncio.get_running_loop(), Clock())
        for at in range(50):
            actions.handlers(lambda message: None)[Remember](Remember(record(str(at))))
        await actions.close()

    asyncio.run(leave())

    texts = [found.text for _, found in HistoryStore(store.path).find(None, None, 100).records]
    assert texts == [str(at) for at in reversed(range(50))]


def test_a_bug_in_writing_is_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(HistoryStore):
        def add(self, records: object) -> None:
            raise RuntimeError("a bug")

        def find(self, *question: object) -> Found:
            return Found((), False)

    with caplog.at_level(logging.ERROR):
        answered(Broken(Path("nowhere")), [record("a")], HistoryRequest("r"))

    assert "the history was not written" in caplog.text


def test_whoever_asks_is_told_that_the_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")

    response = answered(HistoryStore(tmp_path / "file" / "\udcff.sqlite"), [], HistoryRequest("r"))

    assert response.entries == ()
    assert response.error is not None and "cannot be read" in response.error


def test_a_change_of_a_policy_that_names_many_devices_is_remembered(store: HistoryStore) -> None:
    names = [f"device-{n:03d}-of-a-large-mesh" for n in range(300)]
    one = policy_record("face", Policy(exclude=tuple(names), changed_by="eva"))
    other = policy_record(
        "face", Policy(exclude=(*names[:-1], "device-999-of-a-large-mesh"), changed_by="tom")
    )

    response = answered(store, [one, other], HistoryRequest("r"))

    assert [entry.record.who for entry in response.entries] == ["tom", "eva"]
    newest = response.entries[0].record
    assert newest.before == one.text != other.text == newest.text
    assert newest.text.startswith("never device-000") and len(newest.text) == limits.TEXT_CHARS


def test_a_disk_that_hangs_has_few_questions_waiting_and_the_others_are_refused(tmp_path: Path) -> None:
    async def ask() -> list[Publish]:
        go = threading.Event()

        class Hanging(HistoryStore):
            def find(self, *question: object) -> Found:
                assert go.wait(20)
                return Found((), False)

        actions = HistoryActions(Hanging(tmp_path / "h"), TOPICS, asyncio.get_running_loop(), Clock())
        published: list[Publish] = []
        answer = actions.handlers(published.append)[AnswerHistory]
        for number in range(100):
            answer(AnswerHistory(HistoryRequest(f"r-{number}")))
        refused = list(published)
        go.set()
        await actions.close()
        return refused

    refused = [decode_json(HistoryResponse, message.payload) for message in asyncio.run(ask())]
    assert 50 <= len(refused) < 100
    assert all("wait already" in (response.error or "") for response in refused)


def none_left(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_record_that_gets_no_thread_is_written_with_the_next_one(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by a reader: no record was written any more."""

    async def story() -> None:
        actions = HistoryActions(store, TOPICS, asyncio.get_running_loop(), Clock())
        published: asyncio.Queue[Publish] = asyncio.Queue()
        handlers = actions.handlers(published.put_nowait)
        with monkeypatch.context() as short_of_threads:
            short_of_threads.setattr(threading.Thread, "start", none_left)
            handlers[Remember](Remember(record("a")))
        handlers[Remember](Remember(record("b")))
        handlers[AnswerHistory](AnswerHistory(HistoryRequest("r")))
        message = await asyncio.wait_for(published.get(), 20)
        await actions.close()
        entries = decode_json(HistoryResponse, message.payload).entries
        assert [entry.record.text for entry in entries] == ["b", "a"]

    asyncio.run(story())
    (said,) = caplog.records
    assert said.getMessage() == "the history is written later: can't start new thread"


def test_questions_that_get_no_thread_are_refused_and_do_not_count(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        actions = HistoryActions(store, TOPICS, asyncio.get_running_loop(), Clock())
        published: asyncio.Queue[Publish] = asyncio.Queue()
        answer = actions.handlers(published.put_nowait)[AnswerHistory]
        with monkeypatch.context() as short_of_threads:
            short_of_threads.setattr(threading.Thread, "start", none_left)
            for _ in range(40):
                answer(AnswerHistory(HistoryRequest("r")))
        for _ in range(40):
            refused = decode_json(HistoryResponse, published.get_nowait().payload)
            assert (refused.error or "").endswith("(can't start new thread): ask again in a minute")
        answer(AnswerHistory(HistoryRequest("r")))
        message = await asyncio.wait_for(published.get(), 20)
        await actions.close()
        assert decode_json(HistoryResponse, message.payload) == HistoryResponse("r")

    asyncio.run(story())
