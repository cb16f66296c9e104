"""A mesh of real processes around a real Mosquitto, with the links and boards of other machines.

All times are those of the boards times ``Bed.time_scale``: a board that is faster than this machine cannot be
emulated, so all boards, and the links with them, become slower by one factor, and what is best stays best.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from types import FrameType

from benchmarks.programs import free_port
from benchmarks.report import NotMeasurableError

from edgemesh.device.boards import load_board
from edgemesh.device.emulated_load import set_emulated_load
from edgemesh.node.client import Client
from edgemesh.node.content_store import ContentStore
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.topics import Topics
from edgemesh.runtime.made_up import made_up_inputs
from edgemesh.transport.local_broker import (
    installed_mosquitto,
    mosquitto_environment,
    shipped_configuration,
    with_settings,
)
from testbeds.checking import Check, LinkCheck, board_seconds, raised_time_scale, time_scale
from testbeds.host_speed import seconds_here
from testbeds.leftovers import new_folder, remove_leftovers
from testbeds.links import BROKER_PORT, LinkFigures, Links, LoopbackLinks, NamespaceLinks
from testbeds.network import Network
from testbeds.observer import Observer
from testbeds.processes import Processes

__all__ = ["MESH", "Bed", "Check", "DeviceSpec"]

MESH = "bed"
_CHECK_RUNS = 3
_PROBE_SECONDS = 0.3
_CHECK_DEADLINE = 600.0
_START_SECONDS = 60.0


@dataclass(frozen=True)
class DeviceSpec:
    """One device; a figure that is None is the board's own."""

    name: str
    board: str
    rate_up: float | None = None
    """Bytes per second towards the broker."""
    rate_down: float | None = None
    delay: float | None = None
    """Seconds each way."""


class Bed:
    """Use it as a context manager, from one thread that stays; everything ends with it.

    ``folder`` keeps models, profiles and logs: with the same one nothing is measured a second time.
    Raises NotMeasurableError with what to do when something is missing.
    """

    def __init__(
        self,
        devices: Sequence[DeviceSpec],
        *,
        folder: Path,
        loopback: bool = False,
        log: Callable[[str], None] = print,
    ) -> None:
        self.time_scale = 1.0
        """What everything takes here to what it takes on the boards; models that are added raise it."""
        self.devices = {device.name: device for device in devices}
        self.topics = Topics(MESH)
        self.observer: Observer
        self.folder = folder.absolute()
        self._loopback = loopback
        self._log = log
        self._boards = {device.name: load_board(device.board) for device in devices}
        self._figures = {name: self._start_figures(name) for name in self.devices}
        self._models: dict[str, Manifest] = {}
        self._away: set[str] = set()
        self._stack = ExitStack()
        self._processes: Processes
        self._links: Links
        self._broker_port = BROKER_PORT

    def __enter__(self) -> Bed:
        for name in remove_leftovers():
            self._log(f"removed {name}, which a killed testbed had left")
        self._end_on_sigterm()
        with self._stack as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    # --- models and roles ----------------------------------------------------------------------------------

    def broker_url(self, device: str | None = None) -> str:
        """As a program in that device's namespace reaches the broker, or one in the broker's own."""
        return f"mqtt://127.0.0.1:{self._broker_port if device is None else self._links.port(device)}"

    def directory(self, device: str) -> Path:
        """Where the device's agent keeps its files: the ``device_directory`` of a client there."""
        return self.folder / "cache" / MESH / device

    def add_model(self, manifest: Manifest, content_path: Path, holders: Sequence[str] | None = None) -> None:
        """Give the content to ``holders`` (default: all devices) and publish the manifest.

        May raise ``time_scale``; the agents then start again.
        """
        for device in holders if holders is not None else self.devices:
            place = ContentStore(self.directory(device)).path(manifest.digest)
            if not place.exists():
                shutil.copyfile(content_path, place.with_suffix(".new"))
                place.with_suffix(".new").replace(place)
        self._scale_for(manifest, content_path)
        self._models[manifest.name] = manifest
        self.observer.publish(self.topics.build("model", model=manifest.name), encode_json(manifest))
        self._start_devices()

    def wait_profiled(self, within: float) -> None:
        """Until every device that is there has published its profile of every model.

        May raise ``time_scale`` where this machine turns out slower than ``add_model`` found it; the agents
        then start again, and so do the ``within`` seconds.
        """
        self._wait_for_profiles(within)
        boards = [
            (sum(self.observer.profiles[device, model].seconds), real)
            for device in self._present
            for model, manifest in self._models.items()
            if (real := board_seconds(self._boards[device], manifest)) is not None
        ]
        scale = raised_time_scale(self.time_scale, boards)
        self._raise_time_scale(scale, "this machine was slower when the boards were profiled")
        self._wait_for_profiles(within)

    def _wait_for_profiles(self, within: float) -> None:
        self._start_devices()
        wanted = {(device, model) for device in self._present for model in self._models}
        if not self.observer.wait(lambda: wanted <= self.observer.profiles.keys(), within):
            missing = sorted(f"{d} of {m}" for d, m in wanted - self.observer.profiles.keys())
            raise NotMeasurableError(f"no profile within {within:.0f} s: {', '.join(missing)}")

    def decision(self, start: bool) -> None:
        """Start or stop the decision node; what it published stays retained."""
        self._role("decision", start)

    def gateway(self, start: bool) -> None:
        """Start or stop a gateway, for apps that publish on ``submit``."""
        self._role("gateway", start)

    def popen(self, args: list[str], device: str | None) -> subprocess.Popen[bytes]:
        """A program where that device is (None: where the broker is); its standard output is a pipe."""
        within = self._links.within("broker" if device is None else device)
        return self._processes.program(args, within, EDGEMESH_BROKER=self.broker_url(device))

    # --- what changes --------------------------------------------------------------------------------------

    def set_link(
        self,
        device: str,
        rate_up: float | None = None,
        rate_down: float | None = None,
        delay: float | None = None,
        jitter: float | None = None,
    ) -> None:
        """Other figures for a link, as of the real one (``time_scale`` is applied here); None leaves one."""
        given = {"up": rate_up, "down": rate_down, "delay": delay, "jitter": jitter}
        changed = {name: value for name, value in given.items() if value is not None}
        self._figures[device] = replace(self._figures[device], **changed)
        self._set_link(device)

    def link(self, device: str) -> LinkFigures:
        """What is in force here now: rates divided and times multiplied by ``time_scale``."""
        figures, scale = self._figures[device], self.time_scale
        return LinkFigures(
            figures.up / scale, figures.down / scale, figures.delay * scale, figures.jitter * scale
        )

    def true_link(self, device: str) -> LinkFigures:
        """The figures as they were given, without ``time_scale``."""
        return self._figures[device]

    def set_load(self, device: str, load: float) -> None:
        """Share of the board that other programs take, 0 to 0.99; runs take 1 / (1 - load) times as long."""
        set_emulated_load(self.directory(device), 1.0 / (1.0 - load))

    def leave(self, device: str) -> None:
        """Kill the agent."""
        self._processes.kill(device)
        self._away.add(device)

    def come_back(self, device: str) -> None:
        """Start the agent again, with what it has on disk."""
        self._away.discard(device)
        self._start_devices()

    # --- what is measured ----------------------------------------------------------------------------------

    def check(self) -> list[Check]:
        """Each device runs each model by itself, and its time is held against the board's."""
        checks = []
        for device in self._present:
            for model, manifest in self._models.items():
                wanted = board_seconds(self._boards[device], manifest)
                if wanted is not None:
                    measured = self._measured(device, manifest)
                    board = self.devices[device].board
                    checks.append(Check(device, board, model, wanted * self.time_scale, measured))
        return checks

    def check_links(self) -> list[LinkCheck]:
        """Messages of about ``_PROBE_SECONDS`` up and down each link, with nothing else on it."""
        checks = []
        for device in self._present:
            wanted = self.link(device)
            sizes = [str(max(1000, int(rate * _PROBE_SECONDS))) for rate in (wanted.up, wanted.down)]
            command = [sys.executable, "-m", "testbeds.link_probe", self.broker_url(device), *sizes]
            told = self.popen(command, device).communicate()[0]
            if not told:
                raise NotMeasurableError(f"the link of {device} could not be measured: see the error above")
            checks.append(LinkCheck(device, wanted, LinkFigures(*json.loads(told))))
        return checks

    def busy_seconds(self) -> dict[str, float]:
        """Seconds that each executor ran jobs so far, as the heartbeats say every 2 s.

        A run counts in the beat after its end, and for at most the time since the beat before: where runs
        take longer than 2 s, sum the timings of the jobs instead.
        """
        return {name: self.observer.busy_seconds().get(name, 0.0) for name in self.devices}

    def link_bytes(self) -> dict[str, tuple[int, int]]:
        """Bytes that each device sent and received so far; with headers, except on loopback."""
        return {name: self._links.nbytes(name) for name in self.devices}

    # --- inside --------------------------------------------------------------------------------------------

    @property
    def _present(self) -> list[str]:
        return [name for name in self.devices if name not in self._away]

    def _start(self, stack: ExitStack) -> None:
        run = new_folder()
        stack.callback(shutil.rmtree, run, ignore_errors=True)
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1",
            "EDGEMESH_HOME": str(self.folder),
            "EDGEMESH_MESH": MESH,
        }
        self._processes = Processes(self.folder / "logs", environment)
        names = list(self.devices)
        network = None if self._loopback else stack.enter_context(Network(names))
        # After the network, so that the processes are gone before the namespaces.
        stack.callback(self._processes.stop_all)
        self._broker_port = free_port() if network is None else BROKER_PORT
        self._start_broker(run, network)
        self.observer = Observer(self.topics, run / "broker.sock")
        stack.callback(self.observer.close)
        if network is None:
            self._links = LoopbackLinks(self._broker_port, self._processes, names)
        else:
            self._links = NamespaceLinks(network, self._processes, names)
        for name in names:
            self.directory(name).mkdir(parents=True, exist_ok=True)
            self.set_load(name, 0.0)
            self._set_link(name)

    def _start_broker(self, run: Path, network: Network | None) -> None:
        program = installed_mosquitto()
        if program is None:
            raise NotMeasurableError("mosquitto is not installed: apt install mosquitto")
        bind = "127.0.0.1" if network is None else "0.0.0.0"
        text = with_settings(
            shipped_configuration("mosquitto.conf"),
            {
                "listener": f"{self._broker_port} {bind}",
                "persistence": "false",
                # Started by root it becomes another user, who may not write here.
                "user": "root" if os.geteuid() == 0 else None,
            },
        )
        settings = run / "mosquitto.conf"
        settings.write_text(f"{text}listener 0 {run / 'broker.sock'}\n", encoding="utf-8")
        within = [] if network is None else network.within("broker")
        command = [program, "-c", str(settings)]
        self._processes.start("broker", command, within, **mosquitto_environment({}))

    def _start_devices(self) -> None:
        starting = [name for name in self._present if not self._processes.is_running(name)]
        for name in starting:
            self.observer.forget(name)
            arguments = ["device", "run", "--id", name, "--emulate", self.devices[name].board, "--no-link"]
            arguments += ["--threads", "1", "--slower", repr(self.time_scale)]
            broker = self.broker_url(name)
            self._processes.edgemesh(name, arguments, self._links.within(name), EDGEMESH_BROKER=broker)
        online = self.observer.wait(
            lambda: all(self.observer.states.get(name) == "online" for name in starting), _START_SECONDS
        )
        if not online:
            late = next(name for name in starting if self.observer.states.get(name) != "online")
            raise NotMeasurableError(f"device {late} did not start: {self._processes.words(late)}")

    def _role(self, name: str, start: bool) -> None:
        if not start:
            self._processes.stop(name)
        elif not self._processes.is_running(name):
            self._start_devices()
            within, broker = self._links.within("broker"), self.broker_url()
            self._processes.edgemesh(name, [name, "run", "--id", name], within, EDGEMESH_BROKER=broker)

    def _start_figures(self, name: str) -> LinkFigures:
        given, link = self.devices[name], self._boards[name].link
        up = given.rate_up or (link.up_bytes_per_second if link else None)
        down = given.rate_down or (link.down_bytes_per_second if link else None)
        if up is None or down is None:
            raise NotMeasurableError(f"board {given.board} has no link figures: give {name} rates")
        delay = given.delay if given.delay is not None else (link.delay_up if link else 0.0)
        return LinkFigures(up, down, delay)

    def _set_link(self, device: str) -> None:
        self._links.set(device, self.link(device))

    def _scale_for(self, manifest: Manifest, content: Path) -> None:
        kept = self.folder / "here" / f"{manifest.digest}.txt"
        if kept.exists():
            here = float(kept.read_text("ascii"))
        else:
            kept.parent.mkdir(parents=True, exist_ok=True)
            here = seconds_here(manifest, content, kept.parent, self._processes.environment)
            kept.write_text(repr(here), "ascii")
        wanted = [board_seconds(board, manifest) for board in self._boards.values()]
        scale = time_scale(here, [seconds for seconds in wanted if seconds is not None])
        took = f"this machine takes {here * 1e3:.1f} ms for {manifest.name}"
        self._raise_time_scale(scale, f"{took}, too long for the fastest board")

    def _raise_time_scale(self, scale: float, why: str) -> None:
        if scale <= self.time_scale:
            return
        self.time_scale = scale
        self._log(f"{why}: boards, links and delays are all {scale:.2f} times slower than in truth")
        for name in self._present:
            self._processes.stop(name)
        for name in self.devices:
            self._set_link(name)

    def _measured(self, device: str, manifest: Manifest) -> float:
        given = made_up_inputs(manifest.boundaries[0])
        route = [Hop(device, manifest.unit_count)]
        directory = self.directory(device)
        with Client(mesh=MESH, origin=device, device_directory=directory, timeout=_CHECK_DEADLINE) as mesh:
            results = [mesh.infer(manifest.name, given, route=route) for _ in range(_CHECK_RUNS)]
        return median(sum(timing.run for timing in result.timings) for result in results)

    def _end_on_sigterm(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return  # the program has its own way to end

        def end(number: int, frame: FrameType | None) -> None:
            raise SystemExit(128 + number)

        signal.signal(signal.SIGTERM, end)
        self._stack.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL)
