"""History on disk: one SQLite file per mesh, bounded in age and rows, that survives what happens to it."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from edgemesh.errors import DecodeError
from edgemesh.protocol.history import HistoryRecord
from edgemesh.protocol.jsontext import decode_json, encode_json

DAYS: Final = 90.0
ROWS: Final = 100_000
"""A record has about 400 bytes: the file stays below 50 MB."""
_PRUNE_EVERY: Final = 256
_BELIEVED_AFTER: Final = 0.01
"""Share of the kept time, 22 hours of 90 days: so old must a record on a clock be before ages by it count."""
_BUSY_SECONDS: Final = 5.0
_DAY: Final = 86_400.0
_log = logging.getLogger("edgemesh")
T = TypeVar("T")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_model ON records (model, id);
"""


@dataclass(frozen=True)
class Found:
    """Answer of ``HistoryStore.find``, newest first, each with the time of day it was added."""

    records: tuple[tuple[float, HistoryRecord], ...]
    truncated: bool
    """Whether there are older ones that fit the question."""
    error: str | None = None
    """Why the file could not be read; nothing is found then, whatever it holds."""


class HistoryStore:
    """Opened when first used; to be used by one thread at a time.

    Nothing that happens to the file stops the caller: what cannot be written is dropped, with one line in the
    log until writing works again; a damaged file is put aside as ``<name>.damaged`` and a new one begun.
    """

    def __init__(self, path: Path, *, days: float = DAYS, rows: int = ROWS) -> None:
        """``days`` and ``rows`` are what is kept; older records and those beyond are deleted.

        Not by the age that a clock says which has just leapt: a board without one of its own may begin in
        another year, and is put right within minutes.
        """
        self.path = path
        self._days, self._rows = days, rows
        self._open: sqlite3.Connection | None = None
        self._added = 0
        self._complained = False

    def add(self, records: Sequence[tuple[float, HistoryRecord]]) -> None:
        """Keep ``records`` with the time of day of each, in one transaction.

        A policy gets what the one before it said; one that says the same again is not kept: the decision node
        reads it anew at every start.
        """
        self._guarded(lambda connection: self._insert(connection, records))

    def find(self, model: str | None, since: float | None, limit: int) -> Found:
        """The newest ``limit`` records of ``model`` (or of all) that are not before ``since``."""
        return self._guarded(lambda connection: _select(connection, model, since, limit))

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._open is not None:
            with contextlib.suppress(sqlite3.Error):
                self._open.close()
            self._open = None

    def _guarded(self, use: Callable[[sqlite3.Connection], T]) -> T | Found:
        """What ``use`` returns; where the file fails it, nothing found and why."""
        failed = ""
        for _ in range(2):
            try:
                return use(self._connection())
            except (sqlite3.OperationalError, OSError) as error:
                # Full, read-only, locked: the file may be fine, and works again when the cause is gone.
                self.close()
                if not self._complained:
                    _log.warning("the history in %s is not kept for now: %s", self.path, error)
                self._complained = True
                failed = str(error)
                break
            except sqlite3.DatabaseError as error:
                failed = str(error)
                self._put_aside(error)
        return Found((), False, f"the history in {self.path} cannot be read: {failed}")

    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Not bound to a thread: the caller sees to it that one at a time uses it.
            connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, check_same_thread=False)
            try:
                # One append per transaction instead of two writes of each page: an SD card has to bear it.
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.executescript(_SCHEMA)
            except sqlite3.Error:
                connection.close()
                raise
            self._open = connection
        return self._open

    def _insert(self, connection: sqlite3.Connection, records: Sequence[tuple[float, HistoryRecord]]) -> None:
        with connection:
            for at, record in records:
                kept = _with_before(connection, record) if record.kind == "policy" else record
                if kept is not None:
                    connection.execute(
                        "INSERT INTO records (at, kind, model, body) VALUES (?, ?, ?, ?)",
                        (at, kept.kind, kept.model, encode_json(kept)),
                    )
            if records and (self._added == 0 or self._added + len(records) >= _PRUNE_EVERY):
                self._prune(connection, max(at for at, _ in records))
                self._added = 0
            self._added += len(records)
        self._complained = False  # only now: reading works on a full disk

    def _prune(self, connection: sqlite3.Connection, now: float) -> None:
        oldest, steady = now - self._days * _DAY, now - self._days * _DAY * _BELIEVED_AFTER
        # After a rest longer than what is kept nothing is deleted by age at first, either: it does no harm.
        believed = connection.execute(
            "SELECT 1 FROM records WHERE at BETWEEN ? AND ? LIMIT 1", (oldest, steady)
        ).fetchone()
        if believed:
            connection.execute("DELETE FROM records WHERE at < ?", (oldest,))
        connection.execute("DELETE FROM records WHERE id <= (SELECT MAX(id) FROM records) - ?", (self._rows,))

    def _put_aside(self, error: sqlite3.DatabaseError) -> None:
        self.close()
        aside = self.path.with_name(f"{self.path.name}.damaged")
        _log.warning(
            "the history %s is damaged (%s): begun anew, the old file is %s", self.path, error, aside
        )
        with contextlib.suppress(OSError):
            os.replace(self.path, aside)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                self.path.with_name(self.path.name + suffix).unlink()


def _with_before(connection: sqlite3.Connection, record: HistoryRecord) -> HistoryRecord | None:
    row = connection.execute(
        "SELECT body FROM records WHERE model = ? AND kind = 'policy' ORDER BY id DESC LIMIT 1",
        (record.model,),
    ).fetchone()
    last = None if row is None else _record(row[0])
    if last is None:
        return record
    return None if last.text == record.text else replace(record, before=last.text)


def _select(connection: sqlite3.Connection, model: str | None, since: float | None, limit: int) -> Found:
    conditions = ["1"] + ["model = :model"] * (model is not None) + ["at >= :since"] * (since is not None)
    rows = connection.execute(
        f"SELECT at, body FROM records WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT :limit",
        {"model": model, "since": since, "limit": limit + 1},
    ).fetchall()
    read = [(at, _record(body)) for at, body in rows[:limit]]
    return Found(tuple((at, record) for at, record in read if record is not None), len(rows) > limit)


def _record(body: bytes) -> HistoryRecord | None:
    """None for what another version wrote and this one cannot read."""
    try:
        return decode_json(HistoryRecord, body)
    except DecodeError:
        return None
