"""What ``edgemesh doctor`` says about a broker that lacks something."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edgemesh.node.diagnosis import Finding, _Trial
from tests.brokers.servers import Mosquitto


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("max_packet_size", "the broker refuses 1 MB: it takes 200,000 bytes at most"),
        ("message_size_limit", "the broker refuses 1 MB"),
    ],
)
def test_a_limit_of_size_is_found_and_spoils_no_other_finding(
    setting: str, found: str, tmp_path: Path
) -> None:
    async def trials(broker: Mosquitto) -> list[Finding]:
        trial = _Trial("home", broker.address)
        try:
            return [await trial.large(), await trial.retained()]
        finally:
            await trial.close()

    with Mosquitto.shipped(tmp_path, **{setting: "200000"}) as broker:
        payload, retained = asyncio.run(trials(broker))

    assert (payload.verdict, payload.found) == ("wrong", found) and setting in payload.mend
    assert retained.verdict == "ok"
