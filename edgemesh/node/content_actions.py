"""Carries out what roles want of content on disk; used by device agents and by ``edgemesh model add``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from edgemesh.node.content_store import ContentStore, free_in_a_thread
from edgemesh.protocol.content import ChunkHeader, encode_chunk
from edgemesh.roles.actions import DropContent, FindContent, Publish, SendChunk, StoreChunk
from edgemesh.roles.events import ContentDamaged, ContentFound, ContentStored, ContentUnwritable, Event
from edgemesh.transport.daemon_threads import DAEMON_THREADS


class ContentActions:
    """Handlers for a ``Shell``. Hashing whole files runs in a thread: a model may have 500 MB."""

    def __init__(
        self,
        store: ContentStore,
        loop: asyncio.AbstractEventLoop,
        deliver: Callable[[Event], None],
        publish: Callable[[Publish], None],
    ) -> None:
        self._store = store
        self._loop = loop
        self._deliver = deliver
        self._publish = publish

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        """Action type to what carries it out."""
        return {
            FindContent: self._find,
            StoreChunk: self._store_chunk,
            SendChunk: self._send_chunk,
            DropContent: lambda action: free_in_a_thread(self._store.drop(action.digest)),
        }

    def _find(self, action: FindContent) -> None:
        manifest, digest = action.manifest, action.manifest.digest
        if self._store.has(digest):
            self._loop.call_soon(self._deliver, ContentStored(digest))
            return

        def look() -> frozenset[int]:
            return frozenset() if self._store.verify(digest) else self._store.partial_chunks(manifest)

        def found(chunks: frozenset[int]) -> None:
            if self._store.has(digest):  # asked here, because it may have been dropped meanwhile
                self._deliver(ContentStored(digest))
            elif len(chunks) == len(manifest.chunks):
                self._finish(digest, lambda: self._store.finish(manifest))
            else:
                self._deliver(ContentFound(digest, chunks))

        self._in_thread(digest, look, found)

    def _store_chunk(self, action: StoreChunk) -> None:
        try:
            self._store.write_chunk(action.manifest, action.index, action.data)
        except OSError as error:
            self._deliver(_unwritable(action.manifest.digest, error))
            return
        if action.last:
            self._finish(action.manifest.digest, lambda: self._store.finish(action.manifest))

    def _finish(self, digest: str, finish: Callable[[], bool | None]) -> None:
        def finished(whole: bool | None) -> None:
            if whole is False:
                self._deliver(ContentDamaged(digest))
            elif whole and self._store.has(digest):  # asked here, because it may have been dropped meanwhile
                self._deliver(ContentStored(digest))

        self._in_thread(digest, finish, finished)

    def _send_chunk(self, action: SendChunk) -> None:
        data = self._store.read_chunk(action.digest, action.index, action.chunk_bytes)
        if data is not None:
            header = ChunkHeader(action.digest, action.index)
            self._publish(Publish(action.topic, encode_chunk(header, data), expiry=10.0, bulk=True))

    def _in_thread(self, digest: str, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        try:
            future = self._loop.run_in_executor(DAEMON_THREADS, work)
        except RuntimeError as error:  # a small board has few threads to give
            self._loop.call_soon(self._deliver, ContentUnwritable(digest, str(error)))
            return

        def done(finished: asyncio.Future[Any]) -> None:
            if finished.cancelled():
                return
            error = finished.exception()
            if error is None:
                then(finished.result())
                return
            self._deliver(_unwritable(digest, error))  # a full disk, or removed meanwhile; or no memory left
            if not isinstance(error, (OSError, MemoryError)):
                raise error  # a mistake of ours, for the log: who fetches looks again all the same

        future.add_done_callback(done)


def _unwritable(digest: str, error: BaseException) -> ContentUnwritable:
    told = error.strerror if isinstance(error, OSError) else None
    return ContentUnwritable(digest, told or str(error) or type(error).__name__)
