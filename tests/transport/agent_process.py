"""A device in a process of its own: ``python -m tests.transport.agent_process URL TOPIC``.

Says ``ready`` once its state is published, and ends cleanly when its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys

from edgemesh.roles.actions import Publish
from edgemesh.transport.address import parse_address
from edgemesh.transport.session import SessionSettings
from tests.transport.agent import Agent


async def device(url: str, topic: str) -> None:
    will = Publish(topic, b"offline", 1, True)
    agent = Agent(parse_address(url), "killed-device", SessionSettings(will=will))
    agent.connection.start()
    await agent.hears("connected")
    agent.publish(topic, b"online", retain=True, token="online")
    await agent.hears("acknowledged")
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await agent.connection.close([Publish(topic, b"stopped", 1, True)])


if __name__ == "__main__":
    asyncio.run(device(*sys.argv[1:]))
