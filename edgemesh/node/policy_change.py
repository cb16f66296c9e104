"""Shows the plan of a model, after changing what the planner must keep to where that is asked."""

from __future__ import annotations

import asyncio
import getpass
import socket
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from edgemesh.errors import DecodeError, NoRouteError, SettingsError
from edgemesh.node.mesh_reader import MeshReader
from edgemesh.node.mesh_reading import MeshReading
from edgemesh.node.policy_resets import RESETS
from edgemesh.protocol.accuracy import AccuracyBudget
from edgemesh.protocol.assignment import Assignment, PlanFailure
from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.fields import from_plain, to_plain
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.outcome import Outcome
from edgemesh.protocol.requests import ObjectiveName, Pin, Policy, Price, Zone
from edgemesh.roles.policy_words import pin_text
from edgemesh.transport.address import BrokerAddress

_REPLAN_SECONDS = 4.0
_WHO_CHARS = 200


@dataclass(frozen=True)
class PolicyChange:
    """What a person gave, under the names of ``Policy``; what is None stays as it was."""

    codecs: tuple[str, ...] | None = None
    pins: tuple[Pin, ...] | None = None
    exclude: tuple[str, ...] | None = None
    keep_input: bool | None = None
    accuracy: AccuracyBudget | None = None
    objective: ObjectiveName | None = None
    bound_factor: float | None = None
    bound_seconds: float | None = None
    in_flight: int | None = None
    zones: tuple[Zone, ...] | None = None
    battery_floor: float | None = None
    max_temperature: float | None = None
    battery_weight: float | None = None
    mains_weight: float | None = None
    prices: tuple[Price, ...] | None = None
    reset: tuple[str, ...] = ()
    """Names of options that are to be forgotten."""
    clear: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be changed."""
        return self == PolicyChange()

    @property
    def _given(self) -> dict[str, Any]:
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if name in _NAMES and value is not None}

    def applied(self, policy: Policy) -> Policy:
        """The policy after it; raises SettingsError where it forgets what it gives."""
        if self.clear:
            if self != PolicyChange(clear=True):
                raise SettingsError(
                    "--clear forgets everything: give it without --pin, --exclude and the like"
                )
            return Policy()
        given, default = self._given, Policy()
        forgotten = {name for option in self.reset for name in RESETS[option]}
        for option in self.reset:
            if not given.keys().isdisjoint(RESETS[option]):
                raise SettingsError(f"--reset {option} forgets what --{option} sets: give one of the two")
        if "bound_factor" in given or "bound_seconds" in given:
            forgotten |= set(RESETS["bound"])  # one takes the place of the other
        if "codecs" in given:
            # The raw form is always allowed: the planner falls back to it.
            given["codecs"] = tuple(dict.fromkeys(("raw", *given["codecs"])))
        kept = {name: getattr(default, name) for name in forgotten}
        return replace(policy, **{**kept, **given})


_NAMES: Final = frozenset(field.name for field in fields(Policy)) - {"changed_by"}


def is_default(policy: Policy) -> bool:
    """Whether it keeps to nothing: what is retained after everything was cleared only says who did."""
    return replace(policy, changed_by=None) == Policy()


def whoever_runs_this() -> str:
    """``user@host``, for the history."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # no entry for this user id, as in some containers
        user = "somebody"
    return f"{user}@{socket.gethostname()}"[:_WHO_CHARS]


@dataclass(frozen=True)
class Planned:
    """What ``edgemesh plan`` shows of one model and origin."""

    assignment: Assignment | None
    outcome: Outcome | None = None
    """What jobs on its route took."""
    failure: PlanFailure | None = None
    """Why there is no newer plan."""


@dataclass(frozen=True)
class Plans:
    """Plans of a mesh, or of one model, with what they are kept to."""

    plans: tuple[Planned, ...]
    policies: dict[str, Policy]


def read_plans(
    mesh: str, address: BrokerAddress, model: str | None, origin: str | None, change: PolicyChange
) -> Plans:
    """Plans of the model (for all origins, or for one), or of all models, after the change.

    Raises UnknownModelError, SettingsError for a change that cannot be kept to, NoRouteError saying why there
    is no plan, OperatorError where the broker refuses the change, BrokerError.
    """
    return asyncio.run(_read(mesh, address, model, origin, change))


async def _read(
    mesh: str, address: BrokerAddress, model: str | None, origin: str | None, change: PolicyChange
) -> Plans:
    async with MeshReader(mesh, address) as reader:
        reading = reader.reading
        if model is None:
            keys = sorted({*reading.view.assignments, *reading.failures})
            return plans_of(reading, keys, {n: p for n, p in reading.policies.items() if not is_default(p)})
        manifest = reading.manifest(model)
        if origin not in (None, APP_ORIGIN) and origin not in reading.view.devices:
            known = ", ".join(sorted(reading.view.devices)) or "none"
            raise SettingsError(f"the origin {origin} is no device of mesh {mesh} (known: {known})")
        if not change.is_empty:
            await _change(reader, manifest, origin, change)
        known_origins = {o for m, o in (*reading.view.assignments, *reading.failures) if m == model}
        keys = [
            (model, o) for o in ([origin] if origin is not None else sorted(known_origins) or [APP_ORIGIN])
        ]
        keys = await _told_of(reader, keys)
        policy = reading.policies.get(model, Policy())
        return plans_of(reading, keys, {} if is_default(policy) else {model: policy})


async def _told_of(reader: MeshReader, keys: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of ``keys`` of which there is a plan, or why there is none; raises NoRouteError without a plan.

    An origin that has left must not hide the plans of all others.
    """
    refused: list[NoRouteError] = []
    told = []
    for key in keys:
        try:
            await reader.assignment(*key)
        except NoRouteError as error:
            refused.append(error)
            if key not in reader.reading.failures:
                continue
        told.append(key)
    if len(refused) == len(keys):
        raise refused[0]
    return told


def plans_of(reading: MeshReading, keys: list[tuple[str, str]], policies: dict[str, Policy]) -> Plans:
    """What ``reading`` knows of the plans of ``keys`` (model and origin)."""
    found = []
    for key in keys:
        assignment, outcome = reading.view.assignments.get(key), reading.outcomes.get(key)
        if outcome is not None and (assignment is None or not _is_about(outcome, assignment)):
            outcome = None
        found.append(Planned(assignment, outcome, reading.failures.get(key)))
    return Plans(tuple(found), policies)


def _is_about(outcome: Outcome, assignment: Assignment) -> bool:
    """Also where the same route was published again with newer figures."""
    if outcome.epoch == assignment.epoch:
        return True
    ran = [(hop.device, hop.start, hop.stop) for hop in outcome.hops]
    return ran == [(hop.device, hop.start, hop.stop) for hop in assignment.hops]


async def _change(reader: MeshReader, manifest: Manifest, origin: str | None, change: PolicyChange) -> None:
    reading, model = reader.reading, manifest.name
    told = reading.policies.get(model)
    policy = change.applied(told or Policy())
    check_policy(policy, manifest, reading)
    before = dict(reading.view.assignments)
    # Published also when everything was cleared: an empty payload would not say who did that.
    policy = replace(policy, changed_by=whoever_runs_this())
    await reader.publish_retained("policy", encode_json(policy), model=model)
    answer = await reader.asked_plan(model, origin or APP_ORIGIN)
    if not answer.planned and not answer.soon:
        raise NoRouteError(
            f"this is kept to from now on, but no plan of {model} can: {answer.reason}; the last plan stays "
            f"in force; take it back with  edgemesh plan {model} --clear"
        )
    if policy == told:
        return  # nothing is planned anew for what is kept to already
    # Planned afresh, hence published afresh, with a new epoch.
    key = model, origin or APP_ORIGIN
    await reader.until(lambda: reading.view.assignments.get(key) != before.get(key), _REPLAN_SECONDS)


def check_policy(policy: Policy, manifest: Manifest, reading: MeshReading) -> None:
    """Raise SettingsError for what no plan could keep to, or what names something that is not there."""
    unknown = [codec for codec in policy.codecs if codec not in CODECS]
    if unknown:
        raise SettingsError(f"no codec {unknown[0]!r}: there are {', '.join(CODECS)}")
    known = reading.view.devices
    zones = [device for zone in policy.zones for device in zone.devices]
    pinned = [device for pin in policy.pins for device in policy.devices_of(pin)]
    for device in (*policy.exclude, *zones, *pinned, *(price.device for price in policy.prices)):
        if device not in known:
            names = ", ".join(sorted(known)) or "none"
            raise SettingsError(f"no device {device} in this mesh (known: {names}): see  edgemesh devices")
    able = reading.able(manifest)
    if able and set(able) <= set(policy.exclude):
        raise SettingsError(
            f"this excludes every device online that can run {manifest.name}: {', '.join(able)}"
        )
    for pin in policy.pins:
        _check_pin(pin, policy, manifest, reading)
    _check_pins_together(policy, set(known))
    try:
        from_plain(Policy, to_plain(policy))
    except DecodeError as error:
        # The decision node would refuse it, too, where only its log says so.
        raise SettingsError(f"this cannot be kept to: {error}") from None


def _check_pin(pin: Pin, policy: Policy, manifest: Manifest, reading: MeshReading) -> None:
    if pin.stop > manifest.unit_count:
        raise SettingsError(
            f"{manifest.name} has the units 0-{manifest.unit_count}, not {pin.start}-{pin.stop}: see  "
            f"edgemesh model show {manifest.name}"
        )
    if pin.zone is not None and pin.zone not in {zone.name for zone in policy.zones}:
        names = ", ".join(zone.name for zone in policy.zones) or "none"
        raise SettingsError(
            f"no zone {pin.zone} (known: {names}): say what it is with --zone {pin.zone}=DEVICE"
        )
    if pin.never:
        return
    devices = policy.devices_of(pin)
    if devices and devices <= set(policy.exclude):
        raise SettingsError(
            f"{pin_text(pin)}, which is excluded: change one of the two, or begin afresh with --clear"
        )
    abouts = [reading.view.about(device) for device in devices]
    if all(about is not None and manifest.format not in about.runtimes for about in abouts):
        raise SettingsError(
            f"{', '.join(sorted(devices))}: no {manifest.format} runtime there, so no unit of "
            f"{manifest.name} can run"
        )


def _check_pins_together(policy: Policy, known: set[str]) -> None:
    """Raise SettingsError naming two pins, or one and what is excluded, that leave a unit no device."""
    for index, pin in enumerate(policy.pins):
        for other in policy.pins[:index]:
            start, stop = max(other.start, pin.start), min(other.stop, pin.stop)
            if start < stop and not _allowed(policy, pin, known) & _allowed(policy, other, known):
                raise SettingsError(
                    f"no device may run units {start}-{stop}: {pin_text(other)}, but {pin_text(pin)}"
                )


def _allowed(policy: Policy, pin: Pin, known: set[str]) -> set[str]:
    return known - policy.devices_of(pin) if pin.never else known & policy.devices_of(pin)
