"""Real brokers for tests, on free ports, started once per session; and which tests share a worker."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.embedded import EmbeddedBroker
from tests.brokers.servers import Mosquitto, free_port

_HERE = Path(__file__).parent
_WITH_PROCESSES = frozenset({"brokers", "cli", "integration", "node", "tools", "transport"})


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


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers (pytest-xdist), what starts processes and waits for them is the work of one.

    Two such tests at a time would take each other's processor time; the other workers calculate meanwhile.
    """
    for item in items:
        if item.path.relative_to(_HERE).parts[0] in _WITH_PROCESSES:
            item.add_marker(pytest.mark.xdist_group("processes"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed goes from its worker to pytest as UTF-8, also where it is a name that is none."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections
    ]
    return report
