"""Shows the plan of a model, after changing what the planner must keep to where that is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgemesh.errors import NoRouteError, SettingsError
from edgemesh.node.mesh_reader import MeshReader, MeshReading
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.requests import Pin, Policy
from edgemesh.protocol.tensors import CODECS
from edgemesh.transport.address import BrokerAddress

_REPLAN_SECONDS = 4.0


@dataclass(frozen=True)
class PolicyChange:
    """What a person gave; what is empty stays as it was."""

    pins: tuple[Pin, ...] = ()
    exclude: tuple[str, ...] = ()
    codecs: tuple[str, ...] | None = None
    keep_input: bool = False
    clear: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be changed."""
        return self == PolicyChange()

    def applied(self, policy: Policy) -> Policy:
        """The policy after it; raises SettingsError where ``clear`` comes with something to keep to."""
        if self.clear and self != PolicyChange(clear=True):
            raise SettingsError("--clear forgets everything: give it without --pin, --exclude and the like")
        if self.clear:
            return Policy()
        if self.codecs is not None:
            # The raw form is always allowed: the planner falls back to it.
            policy = replace(policy, codecs=tuple(dict.fromkeys(("raw", *self.codecs))))
        return replace(
            policy,
            pins=self.pins or policy.pins,
            exclude=self.exclude or policy.exclude,
            keep_input=self.keep_input or policy.keep_input,
        )


def planned(
    mesh: str, address: BrokerAddress, model: str, origin: str | None, change: PolicyChange
) -> tuple[Sequence[Assignment], dict[str, Policy]]:
    """Assignments of the model (of all origins, or of one) and its policy if it has one, after the change.

    Raises UnknownModelError, SettingsError for a change that cannot be kept to, NoRouteError saying why there
    is no plan, BrokerError.
    """
    return asyncio.run(_planned(mesh, address, model, origin, change))


async def _planned(
    mesh: str, address: BrokerAddress, model: str, origin: str | None, change: PolicyChange
) -> tuple[Sequence[Assignment], dict[str, Policy]]:
    async with MeshReader(mesh, address) as reader:
        reading = reader.reading
        manifest = reading.manifest(model)
        if origin not in (None, APP_ORIGIN) and origin not in reading.view.devices:
            known = ", ".join(sorted(reading.view.devices)) or "none"
            raise SettingsError(f"the origin {origin} is no device of mesh {mesh} (known: {known})")
        if not change.is_empty:
            await _change(reader, manifest, origin, change)
        origins = (
            [origin] if origin is not None else sorted(o for m, o in reading.view.assignments if m == model)
        )
        found = [await reader.assignment(model, o) for o in origins or [APP_ORIGIN]]
        return found, {name: policy for name, policy in reading.policies.items() if name == model}


async def _change(reader: MeshReader, manifest: Manifest, origin: str | None, change: PolicyChange) -> None:
    reading, model = reader.reading, manifest.name
    policy = change.applied(reading.policies.get(model, Policy()))
    check_policy(policy, manifest, reading)
    before = dict(reading.view.assignments)
    payload = b"" if policy == Policy() else encode_json(policy)
    await reader.publish_retained("policy", payload, model=model)
    answer = await reader.asked_plan(model, origin or APP_ORIGIN)
    if not answer.planned and not answer.soon:
        raise NoRouteError(
            f"this is kept to from now on, but no plan of {model} can: {answer.reason}; the last plan stays "
            f"in force; take it back with  edgemesh plan {model} --clear"
        )
    # Planned afresh, hence published afresh, with a new epoch.
    key = model, origin or APP_ORIGIN
    await reader.until(lambda: reading.view.assignments.get(key) != before.get(key), _REPLAN_SECONDS)


def check_policy(policy: Policy, manifest: Manifest, reading: MeshReading) -> None:
    """Raise SettingsError for what no plan could keep to, or what names something that is not there."""
    unknown = [codec for codec in policy.codecs if codec not in CODECS]
    if unknown:
        raise SettingsError(f"no codec {unknown[0]!r}: there are {', '.join(CODECS)}")
    known = reading.view.devices
    for device in (*policy.exclude, *(pin.device for pin in policy.pins)):
        if device not in known:
            names = ", ".join(sorted(known)) or "none"
            raise SettingsError(f"no device {device} in this mesh (known: {names}): see  edgemesh devices")
    able = reading.able(manifest)
    if able and set(able) <= set(policy.exclude):
        raise SettingsError(
            f"this excludes every device online that can run {manifest.name}: {', '.join(able)}"
        )
    for index, pin in enumerate(policy.pins):
        if pin.stop > manifest.unit_count:
            raise SettingsError(
                f"{manifest.name} has the units 0-{manifest.unit_count}, not {pin.start}-{pin.stop}: see  "
                f"edgemesh model show {manifest.name}"
            )
        if pin.device in policy.exclude:
            raise SettingsError(
                f"units {pin.start}-{pin.stop} are pinned to {pin.device}, which is excluded: change one of "
                "the two, or begin afresh with --clear"
            )
        about = reading.view.about(pin.device)
        if about is not None and manifest.format not in about.runtimes:
            raise SettingsError(
                f"{pin.device} has no {manifest.format} runtime: it can run no unit of {manifest.name}"
            )
        for other in policy.pins[:index]:
            if other.device != pin.device and max(other.start, pin.start) < min(other.stop, pin.stop):
                raise SettingsError(
                    f"units {max(other.start, pin.start)}-{min(other.stop, pin.stop)} are pinned to both "
                    f"{other.device} and {pin.device}: give each unit one device"
                )
