"""The links of a testbed: rates by the kernel in namespaces, delays by a relay in front of each agent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from testbeds.network import Network
from testbeds.processes import Processes

BROKER_PORT = 1883
"""In the broker's namespace, and of each relay in its device's."""


@dataclass(frozen=True)
class LinkFigures:
    """What a device's link is to be; bytes per second and seconds."""

    up: float
    down: float
    delay: float
    """Each way."""
    jitter: float = 0.0
    """Standard deviation of the delay."""


class Links(Protocol):
    """How devices reach the broker."""

    def within(self, name: str) -> list[str]:
        """What to put before a command so that it runs where that device, or ``broker``, is."""
        ...

    def port(self, device: str) -> int:
        """Where the broker is reached from the device, on its own loopback."""
        ...

    def set(self, device: str, figures: LinkFigures) -> None:
        """From now on."""
        ...

    def nbytes(self, device: str) -> tuple[int, int]:
        """Bytes sent and received so far."""
        ...


class _Relay:
    def __init__(
        self, processes: Processes, device: str, within: list[str], port: int, host: str, far: int
    ) -> None:
        command = [sys.executable, "-m", "testbeds.relay", str(port), host, str(far)]
        self._process: subprocess.Popen[bytes] = processes.start(
            f"relay-{device}", command, within, pipes=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline() or 0)
        if not self.port:
            raise OSError(f"the relay of {device} did not start: {processes.words(f'relay-{device}')}")

    def say(self, setting: Mapping[str, object]) -> tuple[int, int]:
        """Change it, or with an empty setting only ask; the bytes that it took in, up and down."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(setting).encode() + b"\n")
        self._process.stdin.flush()
        up, down = json.loads(self._process.stdout.readline())
        return int(up), int(down)


class NamespaceLinks:
    """Each device in a namespace: tbf limits its interface in both directions, the relay adds the delay."""

    def __init__(self, network: Network, processes: Processes, devices: list[str]) -> None:
        self.within = network.within
        self.nbytes = network.nbytes
        self._network = network
        self._relays = {
            name: _Relay(
                processes, name, network.within(name), BROKER_PORT, network.broker_address(name), BROKER_PORT
            )
            for name in devices
        }

    def port(self, device: str) -> int:
        return self._relays[device].port

    def set(self, device: str, figures: LinkFigures) -> None:
        self._network.limit(device, figures.up, figures.down)
        way = [None, figures.delay, figures.jitter]
        self._relays[device].say({"up": way, "down": way})


class LoopbackLinks:
    """Everything on 127.0.0.1: the relay limits the rate as well, and counts no headers."""

    def __init__(self, broker_port: int, processes: Processes, devices: list[str]) -> None:
        self._relays = {name: _Relay(processes, name, [], 0, "127.0.0.1", broker_port) for name in devices}

    def within(self, name: str) -> list[str]:
        return []

    def port(self, device: str) -> int:
        return self._relays[device].port

    def set(self, device: str, figures: LinkFigures) -> None:
        ways = ("up", figures.up), ("down", figures.down)
        self._relays[device].say({way: [rate, figures.delay, figures.jitter] for way, rate in ways})

    def nbytes(self, device: str) -> tuple[int, int]:
        return self._relays[device].say({})
