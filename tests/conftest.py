"""Real brokers for tests, on free ports, started once per session; and which tests share a worker."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.embedded import EmbeddedBroker
from tests.brokers.servers import Mosquitto, free_port

_WITH_PROCESSES = frozenset({"brokers", "cli", "integration", "node", "tools", "transport"})
"""Folders whose tests start processes, wait for them, or announce brokers to the network."""


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerAddress]:
    """Mosquitto with the shipped file for a home network."""
    with Mosquitto.shipped(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker.address


@pytest.fixture(scope="session")
def embedded() -> Iterator[BrokerAddress]:
    """The embedded broker."""
    with EmbeddedBroker(free_port()) as broker:
        yield broker.address


class _OneWithProcesses(LoadScopeScheduling):
    """What starts processes and waits for them is the work of one worker; others calculate meanwhile.

    Two such tests at a time would take each other's processor time, or meet on the network. Files are dealt
    out whole otherwise. (``--dist loadgroup`` keeps nothing together with pytest 9.2: pytest-xdist 3.8 writes
    the group into an attribute that is gone.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = file.split("/")[1]
        return "processes" if folder in _WITH_PROCESSES else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """With several workers, see ``_OneWithProcesses``."""
    return _OneWithProcesses(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed goes from its worker to pytest as UTF-8, also where it is a name that is none."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections
    ]
    return report
