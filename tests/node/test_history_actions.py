"""The decision node's history beside its event loop: written in order, answered within bounds."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from edgemesh.node.history import Found, HistoryStore
from edgemesh.node.history_actions import HistoryActions
from edgemesh.protocol import limits
from edgemesh.protocol.history import HistoryRecord, HistoryRequest, HistoryResponse
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import AnswerHistory, Publish, Remember

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
