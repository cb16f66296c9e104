"""Which broker a command that can start one uses."""

from __future__ import annotations

import pytest

from edgemesh.cli.broker_choice import broker_for
from edgemesh.cli.settings import settings_from
from edgemesh.errors import BrokerError
from edgemesh.transport.address import BrokerAddress


@pytest.mark.parametrize("private", [False, True])
def test_a_named_broker_that_is_not_there_is_no_running_one(private: bool) -> None:
    """Found by a reader: ``up`` called it running, and stayed up without the model for good."""
    settings = settings_from({}, None, "mqtt://127.0.0.1:9", None, 0)

    with pytest.raises(BrokerError, match=r"no broker at mqtt://127\.0\.0\.1:9 .*: start it, or name none"):
        broker_for(settings, private=private)


def test_a_named_broker_that_is_there_is_used(mosquitto: BrokerAddress) -> None:
    settings = settings_from({}, None, str(mosquitto), None, 0)

    with broker_for(settings, private=False) as running:
        assert (running.kind, running.address) == ("running", mosquitto)
