"""What a gateway is asked to hold, and what is refused before it begins."""

from __future__ import annotations

import asyncio

import pytest

from edgemesh.errors import SettingsError
from edgemesh.node.gateway_node import GatewayNode
from edgemesh.protocol.topics import Topics
from edgemesh.roles.gateway import Gateway
from edgemesh.transport.address import BrokerAddress


def gateway(slot: str) -> None:
    async def story() -> None:
        GatewayNode("home", "desk", slot, BrokerAddress("127.0.0.1", 9), asyncio.get_running_loop())

    asyncio.run(story())


@pytest.mark.parametrize(
    ("slot", "says"), [("a" * 56, "is too long"), ("a" * 63, "is too long"), ("", "no valid")]
)
def test_a_slot_that_no_gateway_could_hold_is_refused_at_the_start(slot: str, says: str) -> None:
    """Found by a reader: the node stood by, and failed as soon as the slot was free."""
    with pytest.raises(SettingsError, match=says):
        gateway(slot)


@pytest.mark.parametrize("slot", ["0", "a" * 55])
def test_a_slot_that_is_not_refused_can_be_held(slot: str) -> None:
    gateway(slot)

    Gateway(slot, "desk", "b-1", 1, Topics("home"))
