"""What is wrong with an installation, a broker or a mesh, and how to mend it."""

from __future__ import annotations

import asyncio
import secrets
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from edgemesh.errors import BrokerError, EdgemeshError
from edgemesh.node.mesh_reader import MeshReader, check_reachable
from edgemesh.node.mesh_reading import MeshReading
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Publish
from edgemesh.roles.events import Refusal
from edgemesh.roles.other_versions import refusal
from edgemesh.runtime.registry import RUNTIMES, installed_runtimes
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.connection import Callbacks, Connection
from edgemesh.transport.echo import NAGLE_SECONDS, measured_echo
from edgemesh.transport.greeting import OLDER_MQTT, greeting
from edgemesh.transport.messages import IncomingMessage
from edgemesh.transport.session import SessionSettings

Verdict = Literal["ok", "note", "wrong"]

_PYTHONS = ((3, 10), (3, 14))
_EXTRAS = {
    "image": ("Pillow", "pictures as inputs, annotated pictures"),
    "zstd": ("zstandard", "codecs with +zstd"),
    "broker": ("iotcore", "a broker where Mosquitto is not installed"),
    "mdns": ("zeroconf", "finding the broker by itself"),
    "demo": ("matplotlib", "the photograph of edgemesh demo"),
}
"""Extra to its distribution and what it is for; the runtimes have their own check."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LARGE_BYTES = 1_000_000
_LARGEST_BYTES = 16_000_000
"""Photographs of a telephone have 3 to 8 MB, the largest activation of VGG16 12.8."""
_MANY_RETAINED = 800
"""Close to what Mosquitto sends to a slow client unless its file says otherwise (brokers/README.md)."""
_TRIAL_SECONDS = 5.0
_LISTEN_SECONDS = 2.5


@dataclass(frozen=True)
class Finding:
    """One check: what was found, and what to do about it."""

    check: str
    verdict: Verdict
    found: str
    mend: str = ""


def diagnosis(mesh: str, address: BrokerAddress) -> list[Finding]:
    """All checks, in the order in which to mend things; what needs a broker only where one answers."""
    findings = [_python(), _environment(), *_extras()]
    reachable = _reachable(address)
    findings.append(reachable)
    if reachable.verdict == "ok":
        findings += asyncio.run(_of_the_mesh(mesh, address))
    findings.append(Finding("clock", "ok", "not needed: no time of one machine is compared with another's"))
    return findings


# --- this machine ------------------------------------------------------------------------------------


def _python() -> Finding:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    (_, least), (_, most) = _PYTHONS
    if sys.version_info[:2] > _PYTHONS[1]:
        return Finding(
            "python", "note", found, f"tested with 3.{least} to 3.{most}; runtimes may have no wheels"
        )
    return Finding("python", "ok", found)


def _environment() -> Finding:
    if sys.prefix != sys.base_prefix:
        return Finding("environment", "ok", f"virtual environment {sys.prefix}")
    if (Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED").exists():
        return Finding(
            "environment",
            "note",
            "the system's Python, where pip refuses to install (PEP 668)",
            "in the checkout:  python3 -m venv ~/edgemesh && ~/edgemesh/bin/pip install '.[tflite,image]'",
        )
    return Finding("environment", "ok", f"Python of {sys.prefix}")


def _extras() -> list[Finding]:
    installed = installed_runtimes()
    runtimes = ", ".join(installed.values())
    if installed:
        findings = [Finding("runtimes", "ok", runtimes)]
    else:
        mend = " or ".join(f"pip install 'edgemesh[{name}]'" for name in RUNTIMES)
        findings = [Finding("runtimes", "note", "none: this machine can ask, but run no units", mend)]
    for extra, (distribution, purpose) in _EXTRAS.items():
        try:
            findings.append(
                Finding(f"extra {extra}", "ok", f"{distribution} {metadata.version(distribution)}")
            )
        except metadata.PackageNotFoundError:
            found = f"{distribution} is not installed ({purpose})"
            findings.append(Finding(f"extra {extra}", "note", found, f"pip install 'edgemesh[{extra}]'"))
    return findings


# --- the broker --------------------------------------------------------------------------------------


def _reachable(address: BrokerAddress) -> Finding:
    try:
        check_reachable(address)
    except BrokerError as error:
        found, _, mend = str(error).partition(": ")
        return Finding("broker", "wrong", found, mend)
    return Finding("broker", "ok", f"{address} accepts connections")


async def _of_the_mesh(mesh: str, address: BrokerAddress) -> list[Finding]:
    try:
        async with MeshReader(mesh, address) as reader:
            findings = [Finding("mqtt 5", "ok", "the broker speaks it and lets us in")]
            findings += await _broker_trials(mesh, address)
            await reader.until(lambda: False, _LISTEN_SECONDS)
            reading = reader.reading
            findings += _size(reading.retained)
            return [*findings, *_roles(reading), *_devices(reading), *await _models(reader)]
    except BrokerError as error:
        answer = None if address.tls or address.websocket_path else greeting(address.host, address.port)
        if answer in OLDER_MQTT:
            mend = "update it (Mosquitto has MQTT 5 since 1.6)"
            return [Finding("mqtt 5", "wrong", f"{address} speaks MQTT 3 only", mend)]
        return [Finding("mqtt 5", "wrong", str(error), "check scheme, port, user and password of --broker")]


async def _broker_trials(mesh: str, address: BrokerAddress) -> list[Finding]:
    trial = _Trial(mesh, address)
    try:
        return [await _echo(mesh, address), await trial.large(), await trial.retained()]
    finally:
        await trial.close()


async def _echo(mesh: str, address: BrokerAddress) -> Finding:
    try:
        seconds = await measured_echo(address, mesh)
    except BrokerError as error:
        return Finding("echo", "wrong", str(error), "look at the broker's log")
    found = f"{seconds * 1e3:.1f} ms for a QoS 1 request and its reply"
    if seconds < NAGLE_SECONDS:
        return Finding("echo", "ok", found)
    mend = "set_tcp_nodelay true  in the broker's file brings it from 44 ms to 1 ms"
    near = address.host in _LOOPBACK
    return Finding(
        "echo", "wrong" if near else "note", found, mend if near else f"if the network is fast: {mend}"
    )


class _Trial:
    """Messages to ourselves, on the topic that is ours anyway."""

    def __init__(self, mesh: str, address: BrokerAddress) -> None:
        me = f"doctor-{secrets.token_hex(4)}"
        self._loop = asyncio.get_running_loop()
        self._topic = Topics(mesh).build("reply", requester=me)
        self._came: list[IncomingMessage] = []
        self._acknowledged: list[str] = []
        self._refusals: list[Refusal] = []
        callbacks = Callbacks(
            on_connected=lambda: None,
            on_disconnected=lambda reason: None,
            on_message=self._came.append,
            on_acknowledged=self._acknowledged.append,
            on_message_refused=lambda message, refusal: self._refusals.append(refusal),
        )
        self._connection = Connection(address, f"{mesh}-{me}", callbacks, SessionSettings(), self._loop)
        self._connection.start()

    async def large(self) -> Finding:
        """Whether a message of a megabyte comes through."""
        await self._until(lambda: self._connection.connected)
        self._connection.subscribe(self._topic, 1)
        self._connection.publish(Publish(self._topic, bytes(_LARGE_BYTES), qos=1))
        await self._until(lambda: self._refusals or any(len(m.payload) == _LARGE_BYTES for m in self._came))
        mend = (
            "raise  max_packet_size  or  message_size_limit  (Mosquitto) or  max_payload_size  (rumqttd) "
            "in the broker's file"
        )
        if any(len(m.payload) == _LARGE_BYTES for m in self._came):
            largest = self._connection.largest_packet
            if largest is None or largest >= _LARGEST_BYTES:
                return Finding("payload", "ok", "1 MB passes")
            found = f"1 MB passes, and at most {largest:,} bytes: larger photographs and activations do not"
            return Finding("payload", "note", found, mend)
        if self._refusals and self._refusals[0].is_for_size:
            limit = self._refusals[0].limit
            most = "" if limit is None else f": it takes {limit:,} bytes at most"
            return Finding("payload", "wrong", f"the broker refuses 1 MB{most}", mend)
        if self._refusals:
            mend = f"let this user publish on  {self._topic}"
            return Finding("payload", "wrong", f"the broker refuses it: {self._refusals[0].reason}", mend)
        return Finding("payload", "wrong", f"1 MB does not pass within {_TRIAL_SECONDS:.0f} s", mend)

    async def retained(self) -> Finding:
        """Whether what is published retained meets a later subscriber."""
        self._connection.publish(Publish(self._topic, b"kept", qos=1, retain=True, token="kept"))
        await self._until(lambda: "kept" in self._acknowledged)
        self._connection.subscribe(self._topic, 1)
        holds = await self._until(lambda: any(m.retained and m.payload == b"kept" for m in self._came))
        self._connection.publish(Publish(self._topic, b"", qos=1, retain=True, token="cleared"))
        await self._until(lambda: "cleared" in self._acknowledged)
        if holds:
            return Finding("retained", "ok", "retained messages are kept and sent")
        mend = "set  retain_available true  in the broker's file: models and plans are retained messages"
        return Finding("retained", "wrong", "a retained message did not come back", mend)

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close([])

    async def _until(self, holds: Callable[[], object]) -> bool:
        ends = self._loop.time() + _TRIAL_SECONDS
        while not holds():
            if self._loop.time() > ends:
                return False
            await asyncio.sleep(0.005)
        return True


# --- the mesh ----------------------------------------------------------------------------------------


def _size(retained: int) -> list[Finding]:
    if retained <= _MANY_RETAINED:
        return []
    found = f"{retained:,} retained messages go to whoever connects"
    mend = (
        "max_queued_messages 20000  in the broker's file: with Mosquitto's default of 1000 a client behind a "
        "slow link does not get all of them"
    )
    return [Finding("mesh", "note", found, mend)]


def _roles(reading: MeshReading) -> list[Finding]:
    decision = reading.decision
    if decision is not None and decision.state == "online":
        findings = [Finding("decision node", "ok", f"{decision.holder}, term {decision.term}")]
    else:
        said = "none has been seen" if decision is None else f"{decision.holder} is {decision.state}"
        mend = "edgemesh decision run  on one machine (or  edgemesh up)"
        findings = [Finding("decision node", "wrong", f"{said}: nothing new is planned", mend)]
    online = [
        f"{holder.holder} (slot {slot})"
        for slot, holder in sorted(reading.gateways.items())
        if holder.state == "online"
    ]
    if online:
        return [*findings, Finding("gateway", "ok", ", ".join(online))]
    mend = "edgemesh gateway run  on one machine (or  edgemesh up)"
    found = "none online: what apps publish on submit/... gets no result"
    return [*findings, Finding("gateway", "wrong", found, mend)]


def _devices(reading: MeshReading) -> list[Finding]:
    online = reading.online()
    silent = sorted(
        d for d, view in reading.view.devices.items() if view.state == "online" and d not in online
    )
    lost = sorted(d for d, view in reading.view.devices.items() if view.state == "offline")
    findings = []
    if online:
        findings.append(Finding("devices", "ok", f"{len(online)} online: {', '.join(online)}"))
    else:
        mend = "edgemesh device run  on each (or  edgemesh up)"
        findings.append(Finding("devices", "wrong", "none is online", mend))
    if silent or lost:
        found = f"not heard: {', '.join(silent + lost)}"
        findings.append(Finding("lost devices", "note", found, "look at their power, network and logs"))
    for device, major in sorted(reading.others.online):
        found, _, mend = refusal(device, major).partition(": ")
        findings.append(Finding(f"device {device}", "wrong", found, mend))
    for device in online:
        about = reading.view.about(device)
        if about is not None and not about.runtimes:
            mend = "on it:  pip install 'edgemesh[tflite]'"
            findings.append(
                Finding(f"device {device}", "wrong", "has no runtime, so it can run nothing", mend)
            )
        resources = reading.resources.get(device)
        if resources is not None and resources.throttled:
            mend = "give it a better power supply or cooling"
            findings.append(
                Finding(f"device {device}", "note", f"throttled: {', '.join(resources.throttled)}", mend)
            )
    return findings


async def _models(reader: MeshReader) -> list[Finding]:
    reading = reader.reading
    findings = []
    for name, manifest in sorted(reading.view.manifests.items()):
        holders = reading.holders(manifest.digest)
        if not holders:
            findings.append(_of_no_holder(reading, manifest))
            continue
        try:
            assignment = await reader.assignment(name, APP_ORIGIN)
        except EdgemeshError as error:
            findings.append(Finding(f"model {name}", "wrong", str(error), "see  edgemesh devices"))
            continue
        findings.append(_of_a_plan(reading, assignment, holders))
    return findings or [Finding("models", "note", "none in this mesh", "edgemesh model add zoo:face")]


def _of_no_holder(reading: MeshReading, manifest: Manifest) -> Finding:
    name = f"model {manifest.name}"
    away = sorted(
        device
        for device, view in reading.view.devices.items()
        if view.about is not None and any(held.digest == manifest.digest for held in view.about.models)
    )
    if away:  # to add it again would do nothing for a mesh whose devices are all switched off
        mend = "start one of them again, as before:  edgemesh device run  (or  edgemesh up)"
        return Finding(name, "wrong", f"no device online holds it; away: {', '.join(away)}", mend)
    mend = f"add it again:  edgemesh model add ... --name {manifest.name}"
    return Finding(name, "wrong", "no device online holds it", mend)


def _of_a_plan(reading: MeshReading, assignment: Assignment, holders: Sequence[str]) -> Finding:
    name = f"model {assignment.model}"
    gone = sorted(assignment.devices.difference(reading.online()))
    if gone:
        found = f"its plan uses {', '.join(gone)}, which is not online"
        return Finding(name, "wrong", found, "see whether a decision node is online")
    awaited = [
        f"{device} (units {partition.start} to {partition.stop})"
        for device, partition in assignment.partitions
        if not reading.view.is_ready(device, partition)
    ]
    if awaited:
        found = f"its plan waits for {', '.join(awaited)} to load; until then jobs may go over the one before"
        return Finding(name, "note", found, "if it stays so, look at the log of that device")
    route = ", ".join(sorted(assignment.devices))
    return Finding(name, "ok", f"held by {', '.join(holders)}; planned on {route}")
