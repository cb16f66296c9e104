"""Which broker a command that can start one uses."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from edgemesh.cli.settings import EMBEDDED, Settings

if TYPE_CHECKING:
    from edgemesh.transport.address import BrokerAddress
    from edgemesh.transport.local_broker import LocalBroker


def broker_for(settings: Settings, *, private: bool) -> AbstractContextManager[LocalBroker]:
    """The broker a person named, or one of this machine; leaving the context stops what was started.

    ``private`` wants one that nobody else uses, on a free port of loopback; otherwise it is the one on
    localhost:1883, started there if none answers. Raises BrokerError, also where nobody listens at an address
    that was named, or MissingExtraError.
    """
    from edgemesh.transport.embedded import EmbeddedBroker, free_port
    from edgemesh.transport.local_broker import DEFAULT_PORT, LocalBroker, local_broker, start_broker

    port = free_port() if private else DEFAULT_PORT
    if settings.broker == EMBEDDED:
        embedded = EmbeddedBroker(port, "127.0.0.1")
        embedded.start()
        return LocalBroker(embedded.address, "embedded", embedded)
    if settings.broker_given:
        return LocalBroker(_that_listens(settings.address), "running")
    return start_broker(port) if private else local_broker(port)


def _that_listens(address: BrokerAddress) -> BrokerAddress:
    # What is started for the command would wait for it in vain, and models are added once only.
    from edgemesh.node.mesh_reader import check_reachable

    check_reachable(address, "start it, or name none, and one is started here")
    return address


def broker_url(settings: Settings, running: LocalBroker) -> str:
    """What processes started for this command are told; a given URL keeps its password."""
    given = settings.broker_given and settings.broker != EMBEDDED
    return settings.broker if given else str(running.address)
