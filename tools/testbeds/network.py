"""Network namespaces of a testbed: one per device, one for the broker, veth pairs between, rates by tbf.

The names carry the process id of their maker (``leftovers.py``). The host's interfaces are never touched.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.report import NotMeasurableError

from testbeds.leftovers import NAMESPACES, prefix

_BURST_SECONDS, _LEAST_BURST = 0.0005, 4096
"""What may pass at once. It must be small, or the start of each message would cross in no time; tbf cuts
larger segments, and waits by high-resolution timers."""
_WIRE_BYTES, _PAYLOAD_BYTES = 1514, 1448
"""Of a full TCP segment: tbf counts headers, and the rates of boards are those of what TCP carries. Without
this a link would measure 4 % slow."""
_BACKLOG_SECONDS = 60.0
"""Of bytes waiting at a slow link: a queue that drops would make TCP slower than the link is."""


def why_not() -> str | None:
    """What is missing for namespaces here, with what to do about it; None where nothing is."""
    if os.geteuid() != 0:
        return f"network namespaces need root: run  sudo {sys.executable} {sys.argv[0]},  or with --loopback"
    for program in ("ip", "tc", "nsenter"):
        if not any((Path(place) / program).exists() for place in os.get_exec_path()):
            package = "iproute2" if program in ("ip", "tc") else "util-linux"
            return f"{program} is not installed: apt install {package}, or run it with --loopback"
    return None


class Network:
    """The namespaces of one testbed; use it as a context manager."""

    def __init__(self, devices: Sequence[str]) -> None:
        self._prefix = prefix()
        self._numbers = {device: number for number, device in enumerate(devices, 1)}

    def __enter__(self) -> Network:
        reason = why_not()
        if reason is not None:
            raise NotMeasurableError(reason)
        try:
            self._make("broker")
            for device, number in self._numbers.items():
                self._make(device)
                self._join(device, number)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Take all namespaces away; their interfaces go with them."""
        for name in ("broker", *self._numbers):
            with suppress(NotMeasurableError):
                _run("ip", "netns", "delete", self._prefix + name)

    def within(self, name: str) -> list[str]:
        """What to put before a command so that it runs in the namespace of a device, or of ``broker``."""
        return ["nsenter", f"--net={NAMESPACES / (self._prefix + name)}", "--"]

    def broker_address(self, device: str) -> str:
        """The broker's address on the link of ``device``."""
        return f"10.77.{self._numbers[device]}.1"

    def limit(self, device: str, up: float, down: float) -> None:
        """Bytes per second from the device and to it, from now on."""
        number = self._numbers[device]
        self._tbf(device, "link", up)
        self._tbf("broker", f"to{number}", down)

    def nbytes(self, device: str) -> tuple[int, int]:
        """Bytes that the device's interface sent and received, headers included."""
        command = [*self.within(device), "cat", "/proc/net/dev"]
        for line in _run(*command).splitlines():
            name, _, figures = line.partition(":")
            if name.strip() == "link":
                fields = figures.split()
                return int(fields[8]), int(fields[0])
        return 0, 0

    def _make(self, name: str) -> None:
        _run("ip", "netns", "add", self._prefix + name)
        self._ip(name, "link", "set", "lo", "up")

    def _join(self, device: str, number: int) -> None:
        own, other = self._prefix + device, self._prefix + "broker"
        pair = ("type", "veth", "peer", "name", "link", "netns", own)
        _run("ip", "-netns", other, "link", "add", f"to{number}", *pair)
        for name, interface, last in (("broker", f"to{number}", 1), (device, "link", 2)):
            self._ip(name, "address", "add", f"10.77.{number}.{last}/30", "dev", interface)
            self._ip(name, "link", "set", "dev", interface, "up")

    def _tbf(self, name: str, interface: str, rate: float) -> None:
        rate *= _WIRE_BYTES / _PAYLOAD_BYTES
        burst = max(_LEAST_BURST, int(rate * _BURST_SECONDS))
        limit = burst + int(rate * _BACKLOG_SECONDS)
        shape = ("rate", f"{int(rate * 8)}bit", "burst", str(burst), "limit", str(min(limit, 1 << 30)))
        namespace = self._prefix + name
        _run("tc", "-netns", namespace, "qdisc", "replace", "dev", interface, "root", "tbf", *shape)

    def _ip(self, name: str, *arguments: str) -> None:
        _run("ip", "-netns", self._prefix + name, *arguments)


def _run(*command: str) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise NotMeasurableError(f"{' '.join(command)} failed: {finished.stderr.strip()[:300]}")
    return finished.stdout
