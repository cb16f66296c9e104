"""Rules of content: what is missing is fetched in verified chunks, what is held is served."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from edgemesh.protocol.content import ChunkHeader, ChunkRequest, encode_chunk
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.roles.actions import (
    Action,
    DropContent,
    FindContent,
    Log,
    SendChunk,
    StoreChunk,
    Subscribe,
    Unsubscribe,
)
from edgemesh.roles.content import WINDOW, ContentKeeper
from edgemesh.roles.events import (
    Connected,
    ContentDamaged,
    ContentFound,
    ContentStored,
    ContentUnwritable,
    MessageReceived,
)
from edgemesh.simulation.models import made_up_model
from tests.roles.build import TOPICS, message
from tests.roles.driven import Driven, only, sent

MODEL, CONTENT = made_up_model(content_bytes=100_000, chunk_bytes=10_000)
DIGEST, SIZE = MODEL.digest, MODEL.chunk_bytes


class DrivenKeeper(Driven):
    """Also checks that no more chunks are asked for at once than the window holds."""

    def take(self, event: object, at: float | None = None) -> list[Action]:
        actions = super().take(event, at)  # type: ignore[arg-type]
        assert all(len(fetch.asked) <= WINDOW for fetch in self.role._fetches.values())
        return actions


@pytest.fixture
def keeper() -> Iterator[DrivenKeeper]:
    """Connected, with a model wanted of which nothing is on disk."""
    driven = DrivenKeeper(ContentKeeper("me", TOPICS, lambda manifest: True))
    driven.take(Connected(), at=0.0)
    assert driven.role.reconsider(MODEL) == [FindContent(MODEL)]
    driven.take(ContentFound(DIGEST, frozenset()), at=0.1)
    yield driven
    stored = [a.index for a in only(StoreChunk, driven.done)]
    assert len(set(stored)) == len(stored) or any(
        isinstance(a, Log) and "again" in a.text for a in driven.done
    )


def chunk(index: int, data: bytes | None = None) -> MessageReceived:
    if data is None:
        data = CONTENT[index * SIZE : (index + 1) * SIZE]
    return message("chunk", encode_chunk(ChunkHeader(DIGEST, index), data), digest=DIGEST, requester="me")


def asked(actions: list[Action]) -> list[int]:
    """Chunks asked for."""
    return [decode_json(ChunkRequest, a.payload).index for a in sent("chunk-request", actions)]


def test_asks_for_one_chunk_and_for_ever_more_at_once_up_to_a_window(keeper: DrivenKeeper) -> None:
    assert asked(keeper.done) == [0]
    actions = keeper.take(chunk(0), at=0.2)
    assert only(StoreChunk, actions) == [StoreChunk(MODEL, 0, CONTENT[:SIZE], False)]
    assert asked(actions) == [1, 2]
    assert [asked(keeper.take(chunk(index), at=0.3)) for index in (1, 2, 3)] == [[3, 4], [5, 6], [7]]


def test_the_last_chunk_completes_the_content_and_then_it_is_served(keeper: DrivenKeeper) -> None:
    for index in range(10):
        keeper.take(chunk(index), at=0.2 + index / 10)
    assert [a.last for a in only(StoreChunk, keeper.done)] == [False] * 9 + [True]
    actions = keeper.take(ContentStored(DIGEST), at=2.0)
    assert keeper.role.held == {DIGEST: MODEL}
    assert [a.filter for a in only(Subscribe, actions)] == [
        f"$share/holders-{DIGEST[:16]}/edgemesh/v1/home/content/{DIGEST}/request"
    ]


def test_goes_on_where_an_earlier_life_ended() -> None:
    keeper = DrivenKeeper(ContentKeeper("me", TOPICS, lambda manifest: True))
    keeper.take(Connected(), at=0.0)
    keeper.role.reconsider(MODEL)
    keeper.take(ContentFound(DIGEST, frozenset(range(8))), at=0.1)
    assert asked(keeper.done) == [8]
    assert keeper.role.progress() == {DIGEST: pytest.approx(0.8)}


def test_a_chunk_that_does_not_come_is_asked_for_again_ever_later(keeper: DrivenKeeper) -> None:
    times = []
    for step in range(1600):
        if 0 in asked(keeper.pass_until(step / 4)):
            times.append(keeper.now)
    gaps = [b - a for a, b in pairwise(times)]
    assert times[0] == pytest.approx(5.1, abs=0.3) and gaps == sorted(gaps) and gaps[-1] <= 60.5


def test_a_bad_chunk_is_not_stored_and_is_asked_for_again(keeper: DrivenKeeper) -> None:
    actions = keeper.take(chunk(0, b"x" * SIZE), at=0.2)
    assert not only(StoreChunk, actions) and only(Log, actions)
    assert 0 in asked(keeper.pass_until(6.0))
    assert only(StoreChunk, keeper.take(chunk(0), at=6.1))


def test_a_chunk_that_comes_later_than_expected_is_still_taken(keeper: DrivenKeeper) -> None:
    keeper.role.disconnected()
    assert only(StoreChunk, keeper.take(chunk(0), at=1.0))
    assert asked(keeper.take(Connected(), at=2.0)) == [1]


def test_a_slow_link_is_given_the_time_it_takes(keeper: DrivenKeeper) -> None:
    # Each chunk takes 8 seconds and they come one after the other: the first is asked for once too often.
    for index in range(10):
        keeper.take(chunk(index), at=8.1 * (index + 1))
    assert len(asked(keeper.done)) <= 11


def test_a_holder_that_appears_is_asked_at_once(keeper: DrivenKeeper) -> None:
    keeper.pass_until(40.0)
    assert asked(keeper.role.holder_appeared(DIGEST, 40.0)) == [0]


def test_chunks_of_another_content_or_twice_are_ignored(keeper: DrivenKeeper) -> None:
    other = encode_chunk(ChunkHeader("0" * 64, 0), b"x")
    assert keeper.take(message("chunk", other, digest="0" * 64, requester="me"), at=0.2) == []
    keeper.take(chunk(0), at=0.3)
    assert keeper.take(chunk(0), at=0.4) == []
    assert keeper.take(chunk(11), at=0.5) == []


def test_damaged_content_is_fetched_again_but_not_for_ever(keeper: DrivenKeeper) -> None:
    for _ in range(3):
        for index in range(10):
            keeper.take(chunk(index))
        keeper.take(ContentDamaged(DIGEST))
    assert only(Log, keeper.done)[-1].level == "error"
    assert keeper.role.reconsider(MODEL) == [] and DIGEST not in keeper.role.held
    # A manifest that is added later is another chance, and so is one of another digest.
    added_again = replace(MODEL, revision=MODEL.revision + 1)
    assert keeper.role.reconsider(added_again) == [FindContent(added_again)]
    for _ in range(3):
        keeper.take(ContentDamaged(DIGEST))
    assert keeper.role.reconsider(added_again) == keeper.role.reconsider(MODEL) == []
    other = replace(MODEL, digest=hashlib.sha256(b"other").hexdigest())
    assert keeper.role.reconsider(other) == [FindContent(other)]


def test_what_is_not_wanted_is_not_looked_for() -> None:
    keeper = ContentKeeper("me", TOPICS, lambda manifest: manifest.size < 10)
    assert keeper.reconsider(MODEL) == []


def test_while_disconnected_nothing_is_asked_for_and_afterwards_the_rest(keeper: DrivenKeeper) -> None:
    keeper.take(chunk(0), at=0.2)
    keeper.role.disconnected()
    before = len(keeper.done)
    keeper.pass_until(60.0)
    assert not asked(keeper.done[before:])
    assert asked(keeper.take(Connected(), at=60.0)) == [1, 2]


def test_a_removed_model_is_served_no_longer(keeper: DrivenKeeper) -> None:
    for index in range(3):
        keeper.take(chunk(index), at=0.2)
    keeper.take(ContentStored(DIGEST), at=0.3)

    gone = keeper.role.drop(DIGEST)

    group = f"$share/holders-{DIGEST[:16]}/edgemesh/v1/home/content/{DIGEST}/request"
    assert gone == [Unsubscribe(group), DropContent(DIGEST)]


def test_a_removed_model_is_deleted_even_when_half_of_it_is_there(keeper: DrivenKeeper) -> None:
    keeper.take(chunk(0), at=0.2)
    assert keeper.role.drop(DIGEST) == [DropContent(DIGEST)]
    assert keeper.take(chunk(1), at=0.3) == [] and keeper.take(ContentStored(DIGEST), at=0.4) == []
    assert keeper.role.drop(DIGEST) == []


def _named(name: str, letter: str) -> Manifest:
    return replace(MODEL, name=name, digest=letter * 64)


def _holding(*manifests: Manifest) -> ContentKeeper:
    keeper = ContentKeeper("me", TOPICS, lambda manifest: manifest.format == "tflite")
    for manifest in manifests:
        keeper.reconsider(manifest)
        keeper.handle(ContentStored(manifest.digest), 0.0)
    return keeper


@pytest.mark.parametrize(
    "instead",
    [_named("face", "2"), replace(_named("face", "4"), format="torch")],
    ids=["here", "unwanted"],
)
def test_replaced_content_goes_when_what_it_was_kept_for_is_not_to_arrive(instead: Manifest) -> None:
    first, twin, awaited = _named("face", "1"), _named("twin", "2"), _named("face", "3")
    keeper = _holding(first, twin)
    assert keeper.lost_name(first.digest, awaited) == []
    keeper.reconsider(awaited)
    # Nobody had the awaited content yet, and its name is given to other content.
    gone = [action.digest for action in only(DropContent, keeper.lost_name(awaited.digest, instead))]
    keeper.reconsider(instead)
    assert gone == [awaited.digest, first.digest] and list(keeper.held) == [twin.digest]


def test_replaced_content_stays_when_its_name_comes_back_before_the_other_is_here() -> None:
    first, awaited = _named("face", "1"), _named("face", "3")
    keeper = _holding(first)
    keeper.lost_name(first.digest, awaited)
    keeper.reconsider(awaited)
    keeper.lost_name(awaited.digest, first)
    assert keeper.reconsider(first) == [] and list(keeper.held) == [first.digest]


def test_serves_chunks_of_what_it_holds_and_nothing_else(keeper: DrivenKeeper) -> None:
    request = message("chunk-request", ChunkRequest("other", 3), digest=DIGEST)
    assert keeper.take(request, at=0.2) == []
    keeper.role.held[DIGEST] = MODEL
    topic = TOPICS.build("chunk", digest=DIGEST, requester="other")
    assert keeper.take(request, at=0.3) == [SendChunk(topic, DIGEST, 3, SIZE)]
    assert keeper.take(message("chunk-request", ChunkRequest("other", 10), digest=DIGEST), at=0.4) == []
    assert only(Log, keeper.take(message("chunk-request", b"{", digest=DIGEST), at=0.5))


def test_content_that_is_added_again_cut_otherwise_is_held_by_the_newer_manifest(
    keeper: DrivenKeeper,
) -> None:
    """Found by a reader: a device that was still fetching opened the units of before, and jobs ended in the
    tensor at an old cut."""
    keeper.take(chunk(0), at=0.2)
    ends = MODEL.boundaries[0], MODEL.boundaries[-1]
    newer = replace(MODEL, revision=2, units=MODEL.units[:1], boundaries=ends)

    assert keeper.role.reconsider(newer) == []
    for index in range(1, 10):
        keeper.take(chunk(index), at=0.2 + index / 10)
    keeper.take(ContentStored(DIGEST), at=2.0)

    assert keeper.role.held == {DIGEST: newer} and keeper.role.models == [newer]


def test_content_that_is_added_again_in_other_chunks_is_asked_for_in_those() -> None:
    keeper = DrivenKeeper(ContentKeeper("me", TOPICS, lambda manifest: True))
    keeper.take(Connected(), at=0.0)
    keeper.role.reconsider(MODEL)
    keeper.take(ContentFound(DIGEST, frozenset()), at=0.1)
    keeper.take(chunk(0), at=0.2)
    newer, _ = made_up_model(content_bytes=100_000, chunk_bytes=50_000)
    assert newer.digest == DIGEST

    assert keeper.role.reconsider(newer) == [FindContent(newer)]
    assert asked(keeper.take(ContentFound(DIGEST, frozenset()), at=0.3)) == [0]
    keeper.take(chunk(0, CONTENT[:50_000]), at=0.4)

    assert only(StoreChunk, keeper.done)[-1] == StoreChunk(newer, 0, CONTENT[:50_000], False)


def test_a_full_disk_is_tried_again_until_somebody_has_made_room(keeper: DrivenKeeper) -> None:
    keeper.take(chunk(0), at=0.2)
    (log,) = only(Log, keeper.take(ContentUnwritable(DIGEST, "No space left on device"), at=0.3))
    assert log.level == "error" and "No space left on device; tried again" in log.text
    # Of what was on its way nothing is kept, and it is said once.
    assert keeper.take(chunk(1), at=0.4) == []
    assert keeper.take(ContentUnwritable(DIGEST, "No space left on device"), at=0.5) == []
    assert asked(keeper.pass_until(60.0)) == []

    assert only(FindContent, keeper.pass_until(60.4)) == [FindContent(MODEL)]
    actions = keeper.take(ContentFound(DIGEST, frozenset({0})), at=60.5)
    assert asked(actions) == [1]
    for index in range(1, 10):
        keeper.take(chunk(index), at=61.0)
    keeper.take(ContentStored(DIGEST), at=62.0)
    assert DIGEST in keeper.role.held


def test_a_fetch_that_a_full_disk_holds_up_ends_with_its_model(keeper: DrivenKeeper) -> None:
    keeper.take(chunk(0), at=0.2)
    keeper.take(ContentUnwritable(DIGEST, "No space left on device"), at=0.3)
    keeper.role.drop(DIGEST)
    assert keeper.pass_until(120.0) == []
    assert keeper.take(ContentUnwritable(DIGEST, "No such file or directory"), at=121.0) == []


def test_content_that_turns_out_damaged_at_the_first_look_is_fetched_again() -> None:
    keeper = DrivenKeeper(ContentKeeper("me", TOPICS, lambda manifest: True))
    keeper.take(Connected(), at=0.0)
    keeper.role.reconsider(MODEL)
    # All chunks were there, but the agent had ended before it looked at the whole.
    assert asked(keeper.take(ContentDamaged(DIGEST), at=0.1)) == [0]
