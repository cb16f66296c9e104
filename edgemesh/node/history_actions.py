"""Carries out what the decision node has for its history, beside the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from edgemesh.device.identity import data_directory
from edgemesh.node.forgetful_pool import ForgetfulPool
from edgemesh.node.history import HistoryStore
from edgemesh.observe.printable import printable
from edgemesh.protocol import limits
from edgemesh.protocol.history import HistoryEntry, HistoryRecord, HistoryRequest, HistoryResponse
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.topics import TOPICS, Topics
from edgemesh.roles.actions import AnswerHistory, Publish, Remember

_WAITING = 10_000
"""Records that wait for a disk that is slow or hangs; older ones are dropped."""
_QUESTIONS = 32
"""That wait for a disk that is slow or hangs; more are refused."""
_ANSWER_BYTES = 512 * 1024
_ENTRY_OVERHEAD = 40
_log = logging.getLogger("edgemesh")


def history_path(mesh: str) -> Path:
    """Where the decision node of ``mesh`` keeps its history on this machine."""
    return data_directory() / mesh / "history.sqlite"


class HistoryActions:
    """Handlers of ``Remember`` and ``AnswerHistory``; the disk is touched by one thread of its own."""

    def __init__(
        self,
        store: HistoryStore,
        topics: Topics,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` is the time of day: history is read by people, and outlives every monotonic clock."""
        self._store, self._topics, self._loop, self._clock = store, topics, loop, clock
        self._pool = ForgetfulPool(1, "edgemesh-history")
        self._waiting: deque[tuple[float, HistoryRecord]] = deque(maxlen=_WAITING)
        self._writing = False
        self._questions = 0

    def handlers(self, publish: Callable[[Publish], None]) -> dict[type, Callable[[Any], None]]:
        """What to carry out by action type; ``publish`` is called on the loop's thread."""
        return {Remember: self._remember, AnswerHistory: lambda action: self._answer(action, publish)}

    async def close(self) -> None:
        """Write what waits, and close the file."""
        try:
            await self._loop.run_in_executor(self._pool, self._write)
            await self._loop.run_in_executor(self._pool, self._store.close)
        except RuntimeError:  # no thread, as in _remember; nothing else is done on the loop any more
            self._write()
            self._store.close()
        self._pool.shutdown(wait=False)

    def _remember(self, action: Remember) -> None:
        self._waiting.append((self._clock(), action.record))
        if self._writing:
            return
        self._writing = True
        try:
            self._pool.submit(self._write).add_done_callback(_tell_of_a_bug)
        except RuntimeError as error:  # a small board has few threads to give
            self._writing = False  # the next record tries again
            _log.warning("the history is written later: %s", error)

    def _write(self) -> None:
        # Cleared first: whoever appends from now on asks for another turn, so that nothing is left over.
        self._writing = False
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if batch:
            self._store.add(batch)

    def _answer(self, action: AnswerHistory, publish: Callable[[Publish], None]) -> None:
        topic = self._topics.build("response", verb="history")

        def tell(response: HistoryResponse) -> None:
            publish(Publish(topic, encode_json(response), qos=1, expiry=TOPICS["response"].expiry))

        def answered(done: asyncio.Future[HistoryResponse]) -> None:
            self._questions -= 1
            if not done.cancelled():
                tell(done.result())

        if self._questions >= _QUESTIONS:
            why = f"{_QUESTIONS} questions about the history wait already: ask again in a minute"
            tell(HistoryResponse(action.request.requester, error=why))
            return
        try:
            future = self._loop.run_in_executor(self._pool, self._response, action.request)
        except RuntimeError as error:
            why = f"the decision node has no thread to read it in ({error}): ask again in a minute"
            tell(HistoryResponse(action.request.requester, error=why))
            return
        self._questions += 1
        future.add_done_callback(answered)

    def _response(self, request: HistoryRequest) -> HistoryResponse:
        now = self._clock()
        since = None if request.since is None else now - request.since
        found = self._store.find(request.model, since, min(max(request.limit, 1), limits.HISTORY))
        if found.error is not None:
            # The name of a file may hold what no message can.
            text = printable(f"the decision node does not know: {found.error}")
            return HistoryResponse(request.requester, error=text[: limits.TEXT_CHARS])
        entries: list[HistoryEntry] = []
        room = _ANSWER_BYTES
        for at, record in found.records:
            room -= len(encode_json(record)) + _ENTRY_OVERHEAD
            if room < 0:
                break
            # The time of day may have been set back in between.
            entries.append(HistoryEntry(max(now - at, 0.0), record))
        truncated = found.truncated or len(entries) < len(found.records)
        return HistoryResponse(request.requester, tuple(entries), truncated)


def _tell_of_a_bug(done: Future[None]) -> None:
    # A future of a pool keeps its exception to itself.
    if not done.cancelled() and (error := done.exception()) is not None:
        _log.error("the history was not written", exc_info=error)
