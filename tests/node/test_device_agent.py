"""A device's agent: what a person chooses for it, and the machine under it."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from edgemesh.device.resources import Readings, ResourceReader
from edgemesh.errors import SettingsError, TransientError
from edgemesh.node.device_agent import DeviceAgent, agent_settings
from edgemesh.roles.actions import Action, ReadResources
from edgemesh.roles.events import Event, ResourcesRead
from edgemesh.transport.address import BrokerAddress

WAIT = 10.0


class _Hears:
    """A role that wants nothing."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def handle(self, event: Event, now: float) -> list[Action]:
        self.events.append(event)
        return []


def _agent(name: str, directory: Path) -> tuple[DeviceAgent, _Hears]:
    settings = agent_settings("home", name, directory=directory)
    agent = DeviceAgent(settings, BrokerAddress("127.0.0.1", 1), asyncio.get_running_loop())
    agent.shell.role = role = _Hears()
    return agent, role


async def _reads_again(agent: DeviceAgent, role: _Hears) -> None:
    agent.shell.carry_out([ReadResources()])
    while not role.events:
        await asyncio.sleep(0.005)
    assert [type(event) for event in role.events] == [ResourcesRead]
    await agent.stop()


def test_resources_are_read_again_after_a_time_without_a_thread_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by a reader: the timer for the next time was lost with the reading."""

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def story() -> None:
        agent, role = _agent("short-of-threads", tmp_path)
        with monkeypatch.context() as short_of_threads:
            short_of_threads.setattr(threading.Thread, "start", none_left)
            agent.shell.carry_out([ReadResources()])
        await _reads_again(agent, role)

    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("EDGEMESH_HOME", str(tmp_path))
    asyncio.run(asyncio.wait_for(story(), WAIT))
    (said,) = [record for record in caplog.records if "thread" in record.getMessage()]
    assert said.getMessage() == "cannot read this machine's resources for now: can't start new thread"
    assert said.exc_info is None


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("hwmon3/temp1_input: Input/output error"), "hwmon3/temp1_input: Input/output error"),
        (RuntimeError("cannot find the sensor's file"), "cannot find the sensor's file"),
        (IndexError(), "IndexError"),
    ],
    ids=repr,
)
def test_a_sensor_that_fails_once_is_named_in_one_line_and_read_again(
    error: Exception,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(reader: ResourceReader) -> Readings:
        raise error

    async def story() -> None:
        agent, role = _agent("loose-sensor", tmp_path)
        with monkeypatch.context() as loose:
            loose.setattr(ResourceReader, "read", broken)
            agent.shell.carry_out([ReadResources()])
            while not caplog.records:
                await asyncio.sleep(0.005)
        await _reads_again(agent, role)

    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("EDGEMESH_HOME", str(tmp_path))
    asyncio.run(asyncio.wait_for(story(), WAIT))
    (said,) = [record for record in caplog.records if "resources" in record.getMessage()]
    assert said.getMessage() == f"cannot read this machine's resources for now: {told}"
    assert said.exc_info is None


def test_a_sensor_that_stays_broken_has_one_line_until_it_is_read_or_fails_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by a reader: two lines a second, for as long as it took somebody to come by."""
    outcomes = ["a", "a", "b", "", "b", "b", "b"]
    tried: list[str] = []
    read = ResourceReader.read

    def by_turns(reader: ResourceReader) -> Readings:
        tried.append(outcomes[len(tried)])
        if tried[-1]:
            raise OSError(tried[-1])
        return read(reader)

    async def story() -> None:
        agent, _ = _agent("broken-sensor", tmp_path)
        for number in range(len(outcomes)):
            agent.shell.carry_out([ReadResources()])
            while len(tried) <= number or agent._reading is not None:
                await asyncio.sleep(0.001)
        await agent.stop()

    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("EDGEMESH_HOME", str(tmp_path))
    monkeypatch.setattr(ResourceReader, "read", by_turns)
    asyncio.run(asyncio.wait_for(story(), WAIT))
    said = [record.getMessage()[-1] for record in caplog.records if "resources" in record.getMessage()]
    assert said == ["a", "b", "b"]


@pytest.mark.parametrize("short", ["edgemesh.node.device_agent.PowerMeters", "subprocess.Popen"])
def test_a_device_on_a_machine_without_files_to_give_says_so_in_one_sentence(
    short: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: a traceback, or the advice to choose another folder."""

    def refused(*given: object, **named: object) -> None:
        raise OSError(24, "Too many open files", "/dev/null")

    async def story() -> None:
        agent, _ = _agent("short-of-files", tmp_path)
        try:
            agent.start()
        finally:
            await agent.stop()

    monkeypatch.setenv("EDGEMESH_HOME", str(tmp_path))
    monkeypatch.setattr(short, refused)
    with pytest.raises(TransientError) as told:
        asyncio.run(asyncio.wait_for(story(), WAIT))
    assert str(told.value) == (
        "device short-of-files cannot start (Too many open files: /dev/null): see what this machine is "
        "short of, and start it again"
    )


@pytest.mark.parametrize("name", ["app", "decision", "gateway-0"])
def test_a_device_cannot_have_the_name_of_a_role(name: str) -> None:
    """Found by a reader: the gateway was thrown out, and submissions vanished."""
    with pytest.raises(SettingsError, match=f"device '{name}' is the name of a role"):
        agent_settings("home", name)


def test_a_machine_with_the_name_of_a_role_becomes_a_device_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "gateway-0.lan")

    assert agent_settings("home").device == "device-gateway-0"
