"""Rules of the bench: who fails repeatedly sits out, longer each time, and comes back."""

from __future__ import annotations

from edgemesh.protocol.activation import Hop
from edgemesh.roles.actions import Log
from edgemesh.roles.bench import Bench
from edgemesh.roles.events import Connected
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.requester import Requester
from tests.roles.build import DIGEST, TOPICS, about, assignment, manifest, reply, state, submitted
from tests.roles.driven import DrivenRequester, ends, only, works


def test_two_failures_are_forgiven_and_the_third_in_a_row_is_not() -> None:
    bench = Bench()
    bench.failed("one", 1.0)
    bench.failed("one", 2.0)
    assert not bench.sits_out({"one"}, 2.0)

    assert bench.failed("one", 3.0) == 1.0

    assert bench.sits_out({"one", "two"}, 3.9) and not bench.sits_out({"two"}, 3.9)
    assert not bench.sits_out({"one"}, 4.0)


def test_a_success_between_failures_begins_the_count_anew() -> None:
    bench = Bench()
    bench.failed("one", 1.0)
    bench.failed("one", 2.0)
    bench.succeeded({"one"})
    assert bench.failed("one", 3.0) is None and not bench.sits_out({"one"}, 3.0)


def test_who_fails_on_its_return_sits_out_twice_as_long_up_to_a_minute() -> None:
    bench = Bench()
    now, spells = 0.0, []
    for _ in range(10):
        seconds = bench.failed("one", now)
        if seconds is not None:
            spells.append(seconds)
            now += seconds
    assert spells == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_failures_of_what_was_under_way_do_not_make_it_longer() -> None:
    bench = Bench()
    for _ in range(3):
        bench.failed("one", 1.0)
    for _ in range(20):
        assert bench.failed("one", 1.5) is None
    assert not bench.sits_out({"one"}, 2.0)


def requester() -> DrivenRequester:
    """One that has a plan over ``one`` and a fallback over ``two``."""
    driven = DrivenRequester(Requester("asker", "app", TOPICS, MeshView()))
    driven.take(Connected(), at=0.0)
    driven.take(manifest())
    for device in ("one", "two"):
        driven.take(state(device))
        driven.take(about(device, DIGEST))
    driven.take(assignment(Hop("one", 4), fallbacks={"one": (Hop("two", 4),)}))
    return driven


def fail(driven: DrivenRequester, job: str) -> None:
    """A job fails on ``one`` and succeeds on ``two``."""
    driven.take(submitted(job))
    driven.take(reply(job, 0, "run-failed", device="one"))
    driven.take(reply(job, 1, device="two"))


def test_a_device_that_failed_three_jobs_is_avoided_for_a_while_and_tried_again() -> None:
    driven = requester()
    for number in range(3):
        fail(driven, f"j-{number}")
    assert [a.about for a in only(Log, driven.done)] == ["one"]

    assert [device for device, _ in works(driven.take(submitted("j-3"), at=0.9))] == ["two"]
    assert [device for device, _ in works(driven.take(submitted("j-4"), at=1.1))] == ["one"]
    driven.check()


def test_a_benched_device_is_used_where_there_is_no_other() -> None:
    driven = requester()
    for number in range(3):
        fail(driven, f"j-{number}")
    driven.take(state("two", "offline"))

    assert [device for device, _ in works(driven.take(submitted("j-3"), at=0.5))] == ["one"]
    assert ends(driven.take(reply("j-3", 0, device="one"))) == [("j-3", None)]
    # It did well: it is forgiven at once.
    driven.take(state("two"))
    assert [device for device, _ in works(driven.take(submitted("j-4"), at=0.6))] == ["one"]


def test_busy_is_no_failure() -> None:
    driven = requester()
    for number in range(6):
        driven.take(submitted(f"j-{number}"))
        driven.take(reply(f"j-{number}", 0, "busy", device="one"))
        driven.take(reply(f"j-{number}", 1, device="two"))
    assert [device for device, _ in works(driven.take(submitted("j-9")))] == ["one"]
