"""A job's input was prepared for one content: other content under the model's name never gets it."""

from __future__ import annotations

import math

import pytest

from edgemesh.protocol.activation import Hop
from edgemesh.roles.actions import JobEnded
from edgemesh.roles.events import Connected, Disconnected
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.requester import LONGEST_SECONDS, Requester
from edgemesh.roles.routes import ChosenRoute
from edgemesh.simulation.models import made_up_model
from tests.roles.build import (
    DIGEST,
    TOPICS,
    about,
    assignment,
    heartbeat,
    manifest,
    message,
    reply,
    state,
    submitted,
)
from tests.roles.driven import DrivenRequester, ends, only, works

OTHER, _ = made_up_model(content_bytes=50_000)
REPLACED = message("model", OTHER, model="face", retained=True)
WHOLE = (Hop("one", 4),)


@pytest.fixture
def asker() -> DrivenRequester:
    """A requester that knows the model, a device, and a plan for it."""
    driven = DrivenRequester(Requester("asker", "app", TOPICS, MeshView()))
    driven.take(Connected(), at=0.0)
    for known in (manifest(), state("one"), about("one", DIGEST), heartbeat("one", (0, 4))):
        driven.take(known)
    driven.take(assignment(*WHOLE))
    return driven


def plan_of_other(epoch: int = 2) -> object:
    return assignment(*WHOLE, epoch=(1, epoch), digest=OTHER.digest)


def test_a_job_goes_over_a_plan_of_its_content(asker: DrivenRequester) -> None:
    ((_, header),) = works(asker.take(submitted(digest=DIGEST), at=1.0))

    assert header.digest == DIGEST


def test_a_job_for_new_content_waits_for_a_plan_of_it(asker: DrivenRequester) -> None:
    asker.take(REPLACED, at=1.0)

    assert not works(asker.take(submitted(digest=OTHER.digest), at=1.1))
    ((_, header),) = works(asker.take(plan_of_other(), at=2.0))

    assert header.digest == OTHER.digest


def test_a_job_for_content_that_is_gone_ends_at_once(asker: DrivenRequester) -> None:
    asker.take(REPLACED, at=1.0)
    asker.take(plan_of_other())

    assert ends(asker.take(submitted(digest=DIGEST), at=1.5)) == [("j-1", "replaced")]


def test_while_the_plan_before_holds_a_job_for_its_content_is_served(asker: DrivenRequester) -> None:
    asker.take(REPLACED, at=1.0)

    ((_, header),) = works(asker.take(submitted(digest=DIGEST), at=1.5))

    assert header.digest == DIGEST


def test_a_result_of_the_content_before_still_counts(asker: DrivenRequester) -> None:
    asker.take(submitted(digest=DIGEST), at=1.0)
    asker.take(REPLACED, at=1.1)
    asker.take(plan_of_other())

    (ended,) = only(JobEnded, asker.take(reply(device="one"), at=1.2))

    assert ended.code is None and ended.digest == DIGEST


def test_a_late_job_is_not_hedged_over_other_content(asker: DrivenRequester) -> None:
    asker.take(submitted(digest=DIGEST), at=1.0)
    asker.take(REPLACED, at=1.1)
    asker.take(plan_of_other())

    later = []
    while asker.now < 9.0:
        later += [*asker.pass_until(asker.now + 1.0), *asker.take(heartbeat("one", (0, 4)))]

    assert not works(later)


def test_a_job_that_loses_its_device_ends_where_its_content_is_gone(asker: DrivenRequester) -> None:
    asker.take(submitted(digest=DIGEST), at=1.0)
    asker.take(REPLACED, at=1.1)
    asker.take(plan_of_other())

    assert ends(asker.take(state("one", "offline"), at=1.2)) == [("j-1", "replaced")]


def test_nor_does_a_given_route_lead_to_other_content(asker: DrivenRequester) -> None:
    asker.take(REPLACED, at=1.0)

    assert ends(asker.take(submitted(digest=DIGEST, route=WHOLE), at=1.5)) == [("j-1", "replaced")]


def test_nor_is_it_run_on_other_content_while_the_broker_is_away() -> None:
    here = ChosenRoute(WHOLE, OTHER.digest, 0.1)
    asker = DrivenRequester(
        Requester("asker", "app", TOPICS, MeshView(), local_route=lambda model: here),
    )
    asker.take(Connected(), at=0.0)
    asker.take(manifest())
    asker.take(Disconnected(), at=1.0)

    assert not works(asker.take(submitted(digest=DIGEST), at=1.5))
    assert works(asker.take(submitted("j-2", digest=OTHER.digest), at=1.5))


def test_who_does_not_say_what_the_input_was_prepared_for_takes_what_there_is(
    asker: DrivenRequester,
) -> None:
    asker.take(REPLACED, at=1.0)
    asker.take(plan_of_other())

    ((_, header),) = works(asker.take(submitted(), at=1.5))

    assert header.digest == OTHER.digest


@pytest.mark.parametrize("left", [math.inf, 1e10])
def test_a_deadline_that_is_out_of_reach_is_one_of_a_day(asker: DrivenRequester, left: float) -> None:
    ((_, header),) = works(asker.take(submitted(left=left), at=1.0))

    assert header.left == LONGEST_SECONDS
    assert max(asker.timers.values()) <= 1.0 + LONGEST_SECONDS


def test_a_deadline_that_is_no_number_has_passed(asker: DrivenRequester) -> None:
    assert ends(asker.take(submitted(left=math.nan), at=1.0)) == [("j-1", "deadline")]


def test_a_job_whose_copies_are_lost_ends_in_replaced_before_its_deadline(
    asker: DrivenRequester,
) -> None:
    asker.take(submitted(left=600.0, digest=DIGEST), at=1.0)
    asker.take(REPLACED)
    asker.take(plan_of_other())
    for second in range(2, 40):
        asker.pass_until(float(second))
        asker.take(heartbeat("one"))

    assert ends(asker.done) == [("j-1", "replaced")]
