"""What a gateway is asked to hold, and what is refused before it begins."""

from __future__ import annotations

import asyncio
import threading

import pytest

from edgemesh.errors import SettingsError
from edgemesh.node.gateway_node import GatewayNode
from edgemesh.node.shell import Shell
from edgemesh.protocol.manifest import boundary_bytes
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, DecodeInput
from edgemesh.roles.events import Event, InputRefused
from edgemesh.roles.gateway import Gateway
from edgemesh.transport.address import BrokerAddress
from tests.roles.build import FACE

WAIT = 10.0


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


class _Hears:
    """A role that wants nothing."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    def handle(self, event: Event, now: float) -> list[Action]:
        self.events.put_nowait(event)
        return []


def test_an_input_that_gets_no_thread_is_refused_at_once_and_the_next_one_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found by a reader: its submission waited for its deadline."""

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def story() -> None:
        loop, role = asyncio.get_running_loop(), _Hears()
        node = GatewayNode("home", "desk", "0", BrokerAddress("127.0.0.1", 9), loop)
        shell = Shell(role, Topics("home"), loop)
        node._wire(shell)
        with monkeypatch.context() as short_of_threads:
            short_of_threads.setattr(threading.Thread, "start", none_left)
            shell.carry_out([DecodeInput("b-1", FACE, b"no picture", None)])
        text = "the gateway has no thread to read it in (can't start new thread): submit it again"
        assert await role.events.get() == InputRefused("b-1", "busy", text)
        shell.carry_out([DecodeInput("b-2", FACE, b"no picture", None)])
        refused = await role.events.get()
        assert isinstance(refused, InputRefused) and (refused.job, refused.code) == ("b-2", "bad-input")
        await node.stop()
        assert role.events.empty()

    asyncio.run(asyncio.wait_for(story(), WAIT))


@pytest.mark.parametrize(
    "place", ["edgemesh.runtime.payloads.input_tensors", "edgemesh.node.gateway_node.section_bytes"]
)
def test_an_input_that_there_is_no_memory_for_is_refused_at_once(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: where its tensors were the ones too many, its submission waited for its deadline."""

    def none_left(*given: object) -> None:
        raise MemoryError

    async def story() -> None:
        loop, role = asyncio.get_running_loop(), _Hears()
        node = GatewayNode("home", "desk", "0", BrokerAddress("127.0.0.1", 9), loop)
        shell = Shell(role, Topics("home"), loop)
        node._wire(shell)
        shell.carry_out([DecodeInput("b-1", FACE, bytes(boundary_bytes(FACE.boundaries[0])), None)])
        text = "the gateway has no memory to read it in: submit it again"
        assert await role.events.get() == InputRefused("b-1", "busy", text)
        await node.stop()

    monkeypatch.setattr(place, none_left)
    asyncio.run(asyncio.wait_for(story(), WAIT))
