"""Runs nodes on one loop until a signal says that it is enough."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from edgemesh.cli.settings import Settings
from edgemesh.device.identity import data_directory, default_device_id
from edgemesh.errors import TransientError
from edgemesh.node.parent_death import end_with_parent
from edgemesh.protocol.ids import checked_id
from edgemesh.runtime.allocation import keep_large_buffers
from edgemesh.transport.fine_timers import run_with_fine_timers

if TYPE_CHECKING:
    from edgemesh.transport.local_broker import LocalBroker

_LOOK_SECONDS = 1.0


class Node(Protocol):
    """What can be run: an agent, a gateway, a decision node."""

    def start(self) -> None:
        """Begin; returns at once."""
        ...

    async def stop(self) -> None:
        """End cleanly."""
        ...


def node_name(name: str | None) -> str:
    """The given name, checked, or one from the host name."""
    return checked_id(name, "--id") if name else default_device_id()


def run_forever(
    settings: Settings, make: Callable[[asyncio.AbstractEventLoop], Node], *, fine_timers: bool = False
) -> None:
    """Run one node until SIGINT or SIGTERM; it leaves cleanly. ``fine_timers`` is for emulated links."""
    log_as_a_service(settings)
    keep_large_buffers()
    run = run_with_fine_timers if fine_timers else asyncio.run
    run(_until_signal(make))


def log_as_a_service(settings: Settings) -> None:
    """A node's log is its only output: it is there without ``-v``."""
    logging.getLogger("edgemesh").setLevel(logging.DEBUG if settings.verbose > 1 else logging.INFO)
    logging.getLogger().setLevel(logging.INFO)


async def _until_signal(make: Callable[[asyncio.AbstractEventLoop], Node]) -> None:
    loop = asyncio.get_running_loop()
    over = stop_signal(loop)
    end_with_parent()
    node = make(loop)
    node.start()
    await over.wait()
    await node.stop()


def stop_signal(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """An event that SIGINT or SIGTERM sets."""
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    return over


def run_broker(port: int) -> None:
    """Run a broker of our own until SIGINT or SIGTERM; raises TransientError when it dies before that."""
    from edgemesh.transport.discovery import announce
    from edgemesh.transport.local_broker import start_broker

    # All interfaces: a broker that one starts by hand is for the other machines too.
    with start_broker(port, data_directory() / "broker", bind="0.0.0.0") as running:
        print(f"{running.kind} broker at {running.address}, open to the local network", file=sys.stderr)
        with announce(port):
            asyncio.run(_until_signal_or_end(running))


async def _until_signal_or_end(running: LocalBroker) -> None:
    over = stop_signal(asyncio.get_running_loop())
    while not over.is_set():
        if (why := running.ended()) is not None:
            raise TransientError(why)  # whoever started us starts us again
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(over.wait(), _LOOK_SECONDS)
