"""Rules of who holds a role, on a real broker."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from edgemesh.node.role_holder import RoleHolder, RoleSpec
from edgemesh.protocol.assignment import Holder
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Publish
from edgemesh.roles.events import Connected, Event
from edgemesh.transport.local_broker import start_broker

TOPICS = Topics("test")
TOPIC = TOPICS.build("decision")


@dataclass
class Told:
    """A role that only says that it is there."""

    term: int
    boot: str
    terms: list[int]
    """Grows by the term of each holding once it is connected."""

    def handle(self, event: Event, now: float) -> list[Action]:
        if not isinstance(event, Connected):
            return []
        self.terms.append(self.term)
        return [self._state("online")]

    def will(self) -> Publish:
        return self._state("offline")

    def farewell(self) -> list[Action]:
        return [self._state("stopped")]

    def _state(self, state: str) -> Publish:
        holder = Holder(state, "one", self.boot, self.term)  # type: ignore[arg-type]
        return Publish(TOPIC, encode_json(holder), qos=1, retain=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def until(terms: list[int], count: int) -> None:
    async def come() -> None:
        while len(terms) < count:
            await asyncio.sleep(0.02)

    await asyncio.wait_for(come(), 20)


def test_who_held_the_role_holds_it_in_a_higher_term_after_the_broker_lost_its_memory() -> None:
    terms: list[int] = []

    async def hold_over_a_restart() -> None:
        port = free_port()
        broker = start_broker(port)  # without a directory it keeps nothing
        holder = RoleHolder(
            RoleSpec(
                "decision node",
                "test-decision",
                TOPIC,
                0,
                False,
                None,
                lambda term, boot: Told(term, boot, terms),
            ),
            TOPICS,
            broker.address,
            asyncio.get_running_loop(),
        )
        try:
            holder.start()
            await until(terms, 1)
            for _ in range(2):
                await asyncio.to_thread(broker.stop)
                broker = await asyncio.to_thread(start_broker, port)
                await until(terms, len(terms) + 1)
            await holder.stop()
        finally:
            await asyncio.to_thread(broker.stop)

    asyncio.run(hold_over_a_restart())

    assert terms == sorted(set(terms))
    assert len(terms) == 3
