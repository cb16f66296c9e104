"""A model whose codecs were measured is the same model: devices keep it, and the decision node plans anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgemesh.protocol.accuracy import CodecErrors
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.manifest import Manifest, TensorSpec
from edgemesh.protocol.presence import Profile
from edgemesh.protocol.requests import Pin, Policy
from edgemesh.roles.decider import Decider
from edgemesh.roles.device import Device, DeviceSettings
from edgemesh.roles.events import Connected, ContentStored, Disconnected, ProfileFound, RangeLoaded
from tests.roles.build import DIGEST, FACE, TOPICS, about, assignment, heartbeat, message, profile, state
from tests.roles.driven import Driven, HearsItself, sent

FLOATS = replace(
    FACE,
    boundaries=tuple(
        (TensorSpec(tensor.name, "float32", (tensor.elements,)),) for (tensor,) in FACE.boundaries
    ),
)


def measured(error: float) -> Manifest:
    """The model with half precision measured at every cut."""
    figures = (None, *(error for _ in FACE.units[1:]), None)
    agreement = (None,) * len(figures)
    return replace(FLOATS, codec_errors=(CodecErrors("f16", figures, figures, agreement, 8, "photographs"),))


def told(manifest: Manifest) -> object:
    return message("model", manifest, model="face", retained=True)


def test_a_device_keeps_content_profile_and_partitions_and_says_the_new_manifest_again() -> None:
    settings = DeviceSettings("one", "b-1", "edgemesh test", "pi-4b", {"tflite": "2.14"}, 4, 1 << 30)
    device = Driven(Device(settings, TOPICS))
    device.take(Connected(), at=0.0)
    device.take(state("one"))
    device.take(told(FLOATS))
    device.take(ContentStored(DIGEST))
    device.take(ProfileFound(DIGEST, Profile(DIGEST, "tflite", "2.14", 4, (0.01,) * FACE.unit_count)))
    device.take(assignment())
    device.take(RangeLoaded(DIGEST, 0, 2, 1))

    actions = device.take(told(measured(0.001)))

    assert actions == []
    assert device.role.content.held == {DIGEST: measured(0.001)}
    assert device.role.worker.held == {DIGEST}
    # A broker that lost its memory hears of the figures from whoever holds the content.
    device.take(Disconnected())
    device.take(Connected())
    reminder = sent("model", device.take(message("state", b"online", device="one")))
    assert [decode_json(Manifest, publish.payload) for publish in reminder] == [measured(0.001)]


@pytest.fixture
def decider() -> Driven:
    """Two devices, units pinned so that cut 2 is crossed, and half precision permitted by the policy."""
    driven = HearsItself(Decider("laptop", "b-9", 3, TOPICS))
    driven.take(Connected(), at=0.0)
    pins = (Pin(0, 2, "one"), Pin(2, 4, "two"))
    driven.take(message("policy", Policy(codecs=("raw", "f16"), pins=pins), model="face", retained=True))
    for device in ("one", "two"):
        driven.take(state(device))
        driven.take(about(device, DIGEST))
        driven.take(profile(device))
        driven.take(heartbeat(device))
    return driven


def codecs(decider: Driven, seconds: float) -> list[str]:
    """Codec of the crossing in each assignment that is published within the time."""
    ends, seen = decider.now + seconds, len(decider.done)
    while decider.now < ends:
        decider.pass_until(min(ends, decider.now + 1.0))
        for device in ("one", "two"):
            decider.take(heartbeat(device))
    plans = [decode_json(Assignment, a.payload) for a in sent("assignment", decider.done[seen:]) if a.payload]
    return [plan.route[0].codec for plan in plans]


def test_a_lossy_codec_is_used_once_it_was_measured_to_be_within_the_budget(decider: Driven) -> None:
    decider.take(told(measured(0.001)))

    assert codecs(decider, 5.0) == ["f16"]


@pytest.mark.parametrize("manifest", [FLOATS, measured(0.02)], ids=["unmeasured", "over the budget"])
def test_a_lossy_codec_is_not_used_beyond_the_budget(decider: Driven, manifest: Manifest) -> None:
    decider.take(told(manifest))

    assert codecs(decider, 5.0) == ["raw"]


@pytest.mark.parametrize("manifest", [FLOATS, measured(0.02)], ids=["unmeasured", "over the budget"])
def test_a_codec_in_use_is_given_up_when_new_figures_do_not_allow_it(
    decider: Driven, manifest: Manifest
) -> None:
    decider.take(told(measured(0.001)))
    assert codecs(decider, 5.0) == ["f16"]

    decider.take(told(manifest))

    assert codecs(decider, 5.0) == ["raw"]
