"""One device's agent: the device role with its executor process, content on disk and local lane."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import edgemesh
from edgemesh.device.boards import Board, load_board
from edgemesh.device.codec_speed import measured_codec_speeds
from edgemesh.device.emulated_load import EmulatedLoad, mark_emulated
from edgemesh.device.emulation import EmulatedBoard, LinkShaper, arithmetic_dtype, emulated_board
from edgemesh.device.identity import cache_directory, default_device_id
from edgemesh.device.power.ina_address import InaAddress
from edgemesh.device.power.meter import Place
from edgemesh.device.power.meters import PowerMeters
from edgemesh.device.recognition import recognise_board
from edgemesh.device.resources import Readings, ResourceReader
from edgemesh.errors import SettingsError, TransientError
from edgemesh.node.content_actions import ContentActions
from edgemesh.node.content_store import ContentStore, free_in_a_thread
from edgemesh.node.content_sweep import ContentSweep, Overheard
from edgemesh.node.disk_errors import disk_errors
from edgemesh.node.executor import ExecutorProcess
from edgemesh.node.local_lane import LaneServer, lane_path
from edgemesh.node.shell import Shell
from edgemesh.protocol.ids import checked_device
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Resources
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import (
    DropContent,
    FindProfile,
    JobEnded,
    LoadUnits,
    MeasureUnits,
    Publish,
    ReadResources,
    RunUnits,
    StoreProfile,
    UnloadUnits,
)
from edgemesh.roles.device import Device, DeviceSettings
from edgemesh.roles.events import (
    ContentStored,
    Event,
    JobCancelled,
    ProfileFound,
    ResourcesRead,
    RunMeasured,
)
from edgemesh.runtime.allocation import give_back_unused
from edgemesh.runtime.registry import installed_runtimes
from edgemesh.transport.broker_search import Whereabouts
from edgemesh.transport.daemon_threads import DAEMON_THREADS
from edgemesh.transport.session import SessionSettings

_log = logging.getLogger("edgemesh")


@dataclass(frozen=True)
class AgentSettings:
    """What a person chooses for a device."""

    mesh: str
    device: str
    board: Board
    emulated: bool
    threads: int
    memory_bytes: int
    runtimes: tuple[str, ...] | None = None
    """Offer only these of the installed runtimes; None offers all."""
    directory: Path | None = None
    ina: InaAddress | None = None
    """A power meter chip in the supply of the board."""
    slower: float = 1.0
    """How many times as long as on the board everything takes that is emulated."""
    link_emulated: bool = True
    """Whether this agent slows its own link down; not where something outside of it does."""


def agent_settings(
    mesh: str,
    device: str | None = None,
    *,
    emulate: str | None = None,
    threads: int | None = None,
    memory_bytes: int | None = None,
    runtimes: tuple[str, ...] | None = None,
    directory: Path | None = None,
    ina: InaAddress | None = None,
    slower: float = 1.0,
    link_emulated: bool = True,
) -> AgentSettings:
    """Settings with what a person left out taken from the board; raises SettingsError."""
    if emulate is None and (slower != 1.0 or not link_emulated):
        raise SettingsError(
            "only an emulated board is made slower or has a link to leave alone: add --emulate"
        )
    board = load_board(emulate) if emulate is not None else recognise_board()
    name = checked_device(device or emulate or default_device_id(), "device")
    cores = os.cpu_count() or 1
    # Emulated boards share one machine: with a thread each, their measured speed is their own.
    chosen = threads or (1 if emulate else cores)
    memory = memory_bytes or board.memory_for_models
    return AgentSettings(
        mesh,
        name,
        board,
        emulate is not None,
        chosen,
        memory,
        runtimes,
        directory,
        ina,
        slower,
        link_emulated,
    )


def device_directory(mesh: str, device: str) -> Path:
    """Where a device keeps models, profiles and its socket unless told otherwise."""
    return cache_directory() / mesh / device


class DeviceAgent:
    """Start it on a running loop; ``stop`` ends it cleanly."""

    def __init__(self, settings: AgentSettings, broker: Whereabouts, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OperatorError where it cannot keep its files, TransientError where the system forbids it."""
        self._settings = settings
        self._broker = broker
        self._loop = loop
        self._boot = secrets.token_hex(4)
        self._topics = Topics(settings.mesh)
        directory = settings.directory or device_directory(settings.mesh, settings.device)
        turns = None
        with disk_errors(
            f"device {settings.device} cannot keep its files", "make room there or choose another --directory"
        ):
            directory.mkdir(parents=True, exist_ok=True)
            self._store = ContentStore(directory)
            mark_emulated(directory, emulated=settings.emulated)
            if settings.emulated:
                # Not in /tmp, where another user could hold the lock for ever.
                turns = cache_directory() / "measuring.turns"
                turns.parent.mkdir(parents=True, exist_ok=True)
        self._emulated: dict[str, EmulatedBoard] = {}
        self._load = EmulatedLoad(directory)
        with _starting(settings.device):
            # An emulated board draws what its profile says, whatever this machine draws.
            self._reader = ResourceReader(meters=None if settings.emulated else _power_meters(settings.ina))
            installed = installed_runtimes()
        self._reading: asyncio.Future[Readings] | None = None
        self._unread = ""
        """What the log was told of the last reading, where it failed."""
        offered = settings.runtimes if settings.runtimes is not None else tuple(installed)
        self._runtimes = {name: installed[name] for name in offered if name in installed}
        if not self._runtimes:
            _log.warning("no runtime is installed: pip install 'edgemesh[tflite]' or 'edgemesh[torch]'")
        self.role = self._make_role()
        self.executor = ExecutorProcess(loop, settings.threads, self._deliver, turns)
        self._sweep = ContentSweep(
            self._store, loop, lambda digest: self.role.content.manifest_of(digest) is not None
        )
        self.shell = Shell(Overheard(self.role, self._sweep), self._topics, loop)
        self.lane = LaneServer(
            lane_path(directory),
            loop,
            submit=self._deliver,
            cancel=lambda job: self._deliver(JobCancelled(job)),
            manifest=self.role.view.manifests.get,
        )
        self.shell.handle_also(self._handlers())

    def start(self) -> None:
        """Start the executor, listen on the local lane and connect; raises TransientError as above."""
        with _starting(self._settings.device):
            self.executor.start()
        self._listening = self._loop.create_task(self.lane.start())
        self._listening.add_done_callback(_tell_of_a_closed_lane)
        will = self.role.will()
        board = self._settings.board
        shaped = self._settings.emulated and self._settings.link_emulated
        shaper = LinkShaper(board.link) if shaped and board.link is not None else None
        if self._settings.emulated:
            _log.info(
                "emulating %s: its times, link and watts are the board's, not this machine's", board.name
            )
        session = SessionSettings(will=will, shaper=shaper)
        client_id = f"{self._settings.mesh}-{self._settings.device}"
        self.shell.connect(self._broker, client_id, session)
        give_back_unused()  # a first start compiles every module

    async def stop(self) -> None:
        """Say ``stopped``, end the executor and close everything."""
        self.lane.stop()
        if self._reading is not None:
            self._reading.cancel()
        self._reader.close()
        await self.shell.close(self.role.farewell())
        self._sweep.stop()
        self.executor.stop()

    # --- wiring ------------------------------------------------------------------------------------------

    def _make_role(self) -> Device:
        s = self._settings
        described = DeviceSettings(
            s.device,
            self._boot,
            edgemesh.__version__,
            s.board.name,
            self._runtimes,
            s.threads,
            s.memory_bytes,
            s.emulated,
            s.board.power,
            s.board.throttle_celsius,
            # An emulated board encodes at this machine's speed, too: that is what its jobs take.
            codecs=measured_codec_speeds(),
        )
        if not s.emulated:
            return Device(described, self._topics)
        return Device(described, self._topics, emulate=self._emulate, pace=self._pace)

    def _handlers(self) -> dict[type, Callable[[Any], None]]:
        content = ContentActions(self._store, self._loop, self._deliver, self._publish)
        executor = dict.fromkeys((RunUnits, LoadUnits, UnloadUnits, MeasureUnits), self.executor.submit)
        return {
            **content.handlers(),
            **executor,
            DropContent: self._drop,
            ReadResources: lambda action: self._read_resources(),
            FindProfile: self._find_profile,
            StoreProfile: lambda action: self._store.keep_profile(action.profile),
            JobEnded: self.lane.ended,
        }

    def _publish(self, action: Publish) -> None:
        self.shell.carry_out([action])

    def _deliver(self, event: Event) -> None:
        if isinstance(event, ContentStored):
            manifest = self.role.content.manifest_of(event.digest)
            if manifest is not None:
                self.executor.open(self._store.path(event.digest), manifest)
        elif isinstance(event, RunMeasured) and self._settings.emulated:
            # Jobs are slowed by the pace; a measurement that is not would say that the load is gone.
            event = replace(event, seconds=event.seconds * self._load.times)
        self.shell.deliver(event)

    def _drop(self, action: DropContent) -> None:
        self.executor.close_model(action.digest)
        free_in_a_thread(self._store.drop(action.digest))

    def _find_profile(self, action: FindProfile) -> None:
        manifest = action.manifest
        version = self._runtimes[manifest.format]
        profile = self._store.profile(manifest.digest, version, self._settings.threads)
        self._loop.call_soon(self._deliver, ProfileFound(manifest.digest, profile))

    # --- the machine -------------------------------------------------------------------------------------

    def _read_resources(self) -> None:
        if self._reading is not None:
            return
        # In a thread: a slow firmware call or sensor must not hold up jobs and heartbeats.
        try:
            self._reading = self._loop.run_in_executor(DAEMON_THREADS, self._reader.read)
        except RuntimeError as error:  # a small board has few threads to give; the next look is another try
            self._not_read(error)
            return
        self._reading.add_done_callback(self._resources_read)

    def _resources_read(self, reading: asyncio.Future[Readings]) -> None:
        self._reading = None
        if reading.cancelled():
            return
        try:
            r = reading.result()
        # The edge to the machine: a loose sensor, or what psutil makes of one. The next look is another try.
        except Exception as error:
            self._not_read(error)
            return
        self._unread = ""
        emulated = self._settings.emulated
        # An emulated board's own load is what its jobs take; the host's figures are not its own.
        resources = Resources(
            self._load.busy_with(self.role.busy_fraction) if emulated else r.cpu,
            self._settings.memory_bytes if emulated else r.memory_total,
            self._settings.memory_bytes if emulated else r.memory_available,
            None if emulated else r.temperature,
            () if emulated else r.throttled,
            r.watts,
            r.watts_source,
            None if emulated else r.battery,
            None if emulated else r.on_battery,
            power_notes=r.power_notes,
        )
        self._deliver(ResourcesRead(resources))

    def _not_read(self, error: Exception) -> None:
        # Once: it is looked at twice a second, and what is broken stays so for days.
        text = str(error) or type(error).__name__
        if text != self._unread:
            self._unread = text
            _log.warning("cannot read this machine's resources for now: %s", text)

    def _emulate(self, manifest: Manifest, measured: Sequence[float], whole: float) -> Sequence[float]:
        dtype = arithmetic_dtype(manifest.boundaries)
        board = emulated_board(
            self._settings.board,
            manifest.units,
            measured,
            manifest.format,
            dtype,
            whole_seconds=whole,
            slower=self._settings.slower,
        )
        self._emulated[manifest.digest] = board
        for warning in board.warnings:
            _log.warning("%s", warning)
        return board.seconds

    def _pace(self, digest: str, start: int, stop: int) -> float:
        board = self._emulated.get(digest)
        return 0.0 if board is None else self._load.times * sum(board.seconds[start:stop])


@contextlib.contextmanager
def _starting(device: str) -> Iterator[None]:
    """Make an OSError that is of none of the device's own files one sentence."""
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename is not None else ""
        raise TransientError(
            f"device {device} cannot start ({error.strerror or error}{where}): see what this machine is "
            "short of, and start it again"
        ) from None


def _power_meters(ina: InaAddress | None) -> PowerMeters:
    meters = PowerMeters(Place(Path("/"), time.monotonic, ina))
    for note in meters.notes:
        _log.warning("a power meter is not used: %s", note)
    _log.info("power meters: %s", ", ".join(meter.source for meter in meters.meters) or "none")
    return meters


def _tell_of_a_closed_lane(listening: asyncio.Task[None]) -> None:
    if not listening.cancelled() and (error := listening.exception()) is not None:
        _log.error("programs on this machine cannot reach this agent by its own socket: %s", error)
