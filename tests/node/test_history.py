"""History on disk: what is kept, for how long, and what happens when the disk or the file fails."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from edgemesh.node.history import HistoryStore
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.history import HistoryRecord

DAY = 86_400.0


def assignment(text: str = "first plan", model: str = "face") -> HistoryRecord:
    return HistoryRecord(
        "assignment", model, text, origin="app", term=1, sequence=2, route=(Hop("pi", 3),), seconds=0.25
    )


def policy(text: str, who: str = "eva@desk") -> HistoryRecord:
    return HistoryRecord("policy", "face", text, who=who)


def texts(
    store: HistoryStore, model: str | None = None, since: float | None = None, limit: int = 9
) -> list[str]:
    return [record.text for _, record in store.find(model, since, limit).records]


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    return HistoryStore(tmp_path / "deep" / "history.sqlite")


def test_what_was_added_is_found_newest_first_also_by_the_next_process(store: HistoryStore) -> None:
    store.add([(100.0, assignment("a")), (101.0, assignment("b"))])
    store.add([(102.0, assignment("c", model="other"))])
    store.close()

    later = HistoryStore(store.path)
    found = later.find(None, None, 9)

    assert found.records == (
        (102.0, assignment("c", model="other")),
        (101.0, assignment("b")),
        (100.0, assignment("a")),
    )
    assert not found.truncated


def test_a_question_is_kept_to_its_model_its_time_and_its_number(store: HistoryStore) -> None:
    store.add([(float(at), assignment(str(at), model="face" if at % 2 else "other")) for at in range(10)])

    assert texts(store, model="face") == ["9", "7", "5", "3", "1"]
    assert texts(store, since=7.0) == ["9", "8", "7"]
    found = store.find("face", None, 2)
    assert ([r.text for _, r in found.records], found.truncated) == (["9", "7"], True)


def test_a_file_that_is_not_there_yet_holds_nothing(store: HistoryStore) -> None:
    assert texts(store) == []


def test_old_records_and_those_beyond_the_bound_are_deleted(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "h.sqlite", days=1.0, rows=300)
    store.add([(0.0, assignment("old"))])
    for at in range(600):
        store.add([(2 * DAY + at, assignment(str(at)))])

    kept = texts(store, limit=1000)

    assert kept[0] == "599"
    assert "old" not in kept
    assert 300 <= len(kept) < 300 + 300  # pruned now and then, not at every record


def test_a_clock_that_is_years_ahead_for_a_while_deletes_nothing(tmp_path: Path) -> None:
    """Found by a reader: one record of a board whose clock began wrong emptied the history."""
    now = 1_000 * DAY
    store = HistoryStore(tmp_path / "h.sqlite")
    store.add([(now - day * DAY, assignment(f"day {day}")) for day in range(60, 0, -1)])
    store.close()

    HistoryStore(store.path).add([(now + 400 * DAY + s, assignment("wrong clock")) for s in range(300)])
    HistoryStore(store.path).add([(now, assignment("right again"))])

    kept = texts(store, limit=1000)
    assert kept[0] == "right again" and kept[-1] == "day 60"
    assert len(kept) == 60 + 300 + 1


def test_records_grow_old_by_a_clock_that_goes_on(tmp_path: Path) -> None:
    """Also after a rest that was longer than what is kept."""
    store = HistoryStore(tmp_path / "h.sqlite")
    for day in (0, 1, 2, 60, 400, 401):
        HistoryStore(store.path).add([(day * DAY, assignment(f"day {day}"))])

    assert texts(store) == ["day 401", "day 400"]


def test_a_policy_is_kept_with_the_one_before_it(store: HistoryStore) -> None:
    store.add([(1.0, policy("codecs raw")), (2.0, assignment())])
    store.add([(3.0, policy("never laptop", who="tom@pi"))])

    newest = store.find("face", None, 1).records[0][1]

    assert newest == replace(policy("never laptop", who="tom@pi"), before="codecs raw")


def test_the_same_policy_read_again_after_a_restart_is_no_change(store: HistoryStore) -> None:
    store.add([(1.0, policy("never laptop"))])
    store.close()

    HistoryStore(store.path).add([(2.0, policy("never laptop"))])

    assert texts(store) == ["never laptop"]


@pytest.mark.parametrize("content", [b"not a database " * 500, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_damaged_file_is_put_aside_and_a_new_one_begun(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "history.sqlite"
    path.write_bytes(content)
    store = HistoryStore(path)

    store.add([(1.0, assignment("after"))])

    assert texts(store) == ["after"]
    assert (tmp_path / "history.sqlite.damaged").read_bytes() == content
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is damaged" in caplog.text


def test_a_file_that_is_damaged_under_way_does_not_stop_it(
    store: HistoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.add([(float(at), assignment("x" * 1000)) for at in range(200)])
    store.close()
    content = bytearray(store.path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    store.path.write_bytes(content)

    store.add([(1000.0, assignment("after"))])

    assert texts(store) == ["after"]
    assert len(caplog.records) == 1


def test_a_full_disk_costs_records_and_one_line_of_log(
    store: HistoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.add([(1.0, assignment("before"))])
    connection = store._connection()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite then says is what it says of a disk

    with caplog.at_level(logging.WARNING):
        store.add([(2.0, assignment("y" * 4000)) for _ in range(20)])
        assert texts(store) == ["before"]  # reading goes on
        store._connection().execute(f"PRAGMA max_page_count = {pages}")
        store.add([(3.0, assignment("z" * 4000)) for _ in range(20)])

    assert "disk is full" in caplog.text
    assert len(caplog.records) == 1
    store._connection().execute("PRAGMA max_page_count = 1000000")
    store.add([(4.0, assignment("room again"))])
    assert texts(store) == ["room again", "before"]


def test_a_directory_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a directory")
    store = HistoryStore(in_the_way / "history.sqlite")

    for _ in range(3):
        store.add([(1.0, assignment())])
        assert texts(store) == []

    assert len(caplog.records) == 1


def test_two_processes_may_hold_the_file(store: HistoryStore) -> None:
    """A standby on the same machine takes over while the old holder has the file open."""
    store.add([(1.0, assignment("one"))])
    other = HistoryStore(store.path)
    other.add([(2.0, assignment("two"))])
    store.add([(3.0, assignment("three"))])

    assert texts(other) == ["three", "two", "one"]


def test_what_another_version_wrote_is_left_out(store: HistoryStore) -> None:
    store.add([(1.0, assignment("known"))])
    with sqlite3.connect(store.path) as connection:
        connection.execute(
            "INSERT INTO records (at, kind, model, body) VALUES (2, 'dream', 'face', ?)",
            (b'{"kind":"dream","model":"face","text":"?"}',),
        )

    assert texts(store) == ["known"]


def test_a_file_that_cannot_be_read_is_not_taken_for_an_empty_one(
    store: HistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgemesh.node.history._BUSY_SECONDS", 0.0)
    store.add([(1.0, assignment("there"))])
    store.close()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    found = store.find(None, None, 9)
    other.close()

    assert found.records == ()
    assert found.error is not None and "locked" in found.error and str(store.path) in found.error
    assert store.find(None, None, 9).error is None
    assert texts(store) == ["there"]
