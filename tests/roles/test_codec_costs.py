"""A device is planned with the codecs that it has, at what they cost it."""

from __future__ import annotations

import math

from edgemesh.planning.instance import Instance
from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.presence import CodecSpeed
from edgemesh.protocol.requests import Policy
from edgemesh.roles.codec_costs import codec_costs
from edgemesh.roles.estimates import MeshEstimates
from edgemesh.roles.instances import planning_instance
from edgemesh.roles.mesh_view import MeshView
from tests.roles.build import DIGEST, FACE, about, profile, state

NAMES = ("raw", "f16", "q8", "q8+zstd")


def test_a_device_that_says_nothing_is_taken_for_a_usual_one_with_every_codec() -> None:
    costs = codec_costs((), tuple(CODECS))

    assert all(0.0 <= cost < 1e-8 for cost in (*costs.encode, *costs.decode))
    assert costs.encode[0] == min(costs.encode)


def test_measured_costs_count_and_a_codec_that_is_not_named_cannot_be_used() -> None:
    costs = codec_costs((CodecSpeed("q8", 5e-8, 4e-8), CodecSpeed("q4-of-tomorrow", 0.0, 0.0)), NAMES)

    assert costs.encode[1:] == (math.inf, 5e-8, math.inf)
    assert costs.decode[1:] == (math.inf, 4e-8, math.inf)
    assert costs.encode[0] < 1e-9  # raw needs nothing, and is never lacked


def test_an_absurd_cost_is_bounded_so_that_it_stays_a_number() -> None:
    costs = codec_costs((CodecSpeed("raw", 1e300, 1e300),), ("raw",))

    assert costs.encode[0] * (1 << 30) * 1e9 < 2**53


def test_each_device_is_planned_with_its_own_costs() -> None:
    view, estimates = MeshView(), MeshEstimates()
    told = (CodecSpeed("raw", 1e-9, 2e-9), CodecSpeed("f16", 3e-9, 4e-9))
    for device, codecs in (("old", ()), ("own", told)):
        view.learn(state(device), 0.0)
        view.learn(about(device, DIGEST, codecs=codecs), 0.0)
        estimates.learn(profile(device), 0.0)

    instance = planning_instance(FACE, "app", view, estimates, Policy(codecs=("raw", "f16", "q8")), 0.0)

    assert isinstance(instance, Instance)
    devices = {device.id: device for device in instance.devices}
    assert devices["own"].encode == (1e-9, 3e-9, math.inf)
    assert devices["own"].decode == (2e-9, 4e-9, math.inf)
    assert devices["old"].encode == codec_costs((), instance.codecs).encode
