"""Client: a program's jobs are reported like a gateway's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.link import LinkReport
from edgemesh.roles.actions import Action
from edgemesh.roles.client import ClientRole
from edgemesh.roles.events import Connected
from tests.roles.build import (
    DIGEST,
    FACE,
    TOPICS,
    assignment,
    heartbeat,
    manifest,
    message,
    reply,
    state,
    submitted,
)
from tests.roles.driven import Driven, sent


def client() -> Driven:
    driven = Driven(ClientRole("asker", "app", TOPICS))
    driven.take(Connected(), at=0.0)
    for told in (
        state("one"),
        state("two"),
        manifest(),
        assignment(epoch=(3, 4)),
        heartbeat("one", (0, 2)),
        heartbeat("two", (2, 4)),
    ):
        driven.take(told)
    return driven


def reports(actions: list[Action]) -> list[LinkReport]:
    return [decode_json(LinkReport, p.payload) for p in sent("link", actions)]


def test_a_programs_only_job_is_reported_before_it_can_end() -> None:
    driven = client()
    driven.take(submitted("j-1"), at=1.0)

    (report,) = reports(driven.take(reply("j-1"), at=1.25))

    (job,) = report.jobs
    assert (job.model, job.digest, job.origin, job.epoch) == ("face", DIGEST, "app", (3, 4))
    assert (job.seconds, job.attempts, job.code) == (0.25, 1, None)
    assert [timing.device for timing in job.timings] == ["one", "two"]


def test_many_jobs_are_reported_once_a_second_and_none_is_lost() -> None:
    driven = client()
    for number in range(50):
        driven.take(submitted(f"j-{number}"), at=1.0 + number / 10)
        driven.take(reply(f"j-{number}"), at=1.05 + number / 10)
    driven.pass_until(10.0)

    published = reports(driven.done)
    assert 5 <= len(published) <= 7
    assert sum(len(report.jobs) + report.more_jobs for report in published) == 50


def test_a_job_that_fails_is_reported_with_its_code() -> None:
    driven = client()
    driven.take(submitted("j-1"), at=1.0)

    (report,) = reports(driven.take(reply("j-1", code="bad-input"), at=1.25))

    assert [(job.code, job.epoch) for job in report.jobs] == [("bad-input", (3, 4))]


def test_a_message_that_means_nothing_to_jobs_is_followed_by_no_report() -> None:
    driven = client()

    assert reports(driven.take(message("heartbeat", b"{", device="one"), at=1.0)) == []
    assert reports(driven.pass_until(60.0)) == []


@pytest.mark.parametrize("retained", [False, True])
def test_takes_a_model_for_what_the_broker_has_of_it(retained: bool) -> None:
    """Seed 70062040 of the fault simulator: all but clients knew the older manifest that came last."""
    driven = client()
    older, newer = replace(FACE, revision=1), replace(FACE, digest="0" * 64, revision=2)
    driven.take(message("model", newer, model="face"), at=1.0)

    driven.take(message("model", older, model="face", retained=retained), at=1.1)

    assert driven.role.view.manifests["face"] == (newer if retained else older)
