"""Switching: whether a new plan takes the place of the one in force, and the sentence that says why."""

from __future__ import annotations

from dataclasses import dataclass

from edgemesh.planning.explanation import why_changed
from edgemesh.planning.instance import Instance
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.prediction import predicted_latency
from edgemesh.planning.wording import as_milliseconds
from edgemesh.protocol.manifest import Manifest

MARGIN = 0.05
"""A plan replaces another when it is faster by this share on the same estimates."""
_DRIFT = 0.25
"""The same plan is published again when its prediction moved by this share: hedges are timed by it."""
_DWELL_SECONDS = 10.0
"""A plan stays at least this long while the same devices can be used and it remains possible."""


@dataclass(frozen=True)
class InForce:
    """What was published last for one (model, origin)."""

    plan: Plan
    instance: Instance
    manifest: Manifest
    since: float

    @property
    def usable(self) -> frozenset[str]:
        """Devices that could be used then; the fallbacks were chosen among them."""
        return usable_devices(self.instance)


@dataclass(frozen=True)
class Switch:
    """A plan to publish, which may be the one in force with fresh figures and fallbacks."""

    plan: Plan
    reason: str


def usable_devices(instance: Instance) -> frozenset[str]:
    """Devices that may run at least one unit."""
    able = instance.may_run.any(axis=1)
    return frozenset(device.id for device, may in zip(instance.devices, able, strict=True) if may)


def switch(
    current: InForce | None, manifest: Manifest, plan: Plan, instance: Instance, now: float
) -> Switch | None:
    """What to publish now that ``plan`` is the best on ``instance``; None while all stays as it is."""
    if current is None:
        return Switch(plan, f"first plan of this decision node ({len(instance.devices)} devices known)")
    before = current.manifest
    if (before.digest, before.unit_count) != (manifest.digest, manifest.unit_count):
        return Switch(plan, "the model's content or units changed")
    kept = predicted_latency(instance, current.plan.partitions, current.plan.input_codec)
    if isinstance(kept, Infeasible):
        return Switch(plan, f"the plan in force became impossible: {kept.reason}")
    usable = usable_devices(instance)
    if usable == current.usable and now - current.since < _DWELL_SECONDS:
        return None
    if plan.partitions != current.plan.partitions and plan.total < (1.0 - MARGIN) * kept.total:
        return Switch(plan, why_changed(current.plan, current.instance, plan, instance).text)
    again = Plan(current.plan.partitions, current.plan.input_codec, kept)
    if usable != current.usable:
        return Switch(again, f"fallbacks renewed: {_who_changed(current.usable, usable)}")
    if abs(kept.total - current.plan.total) > _DRIFT * current.plan.total:
        figures = f"{as_milliseconds(current.plan.total)} became {as_milliseconds(kept.total)}"
        return Switch(again, f"estimates moved: {figures}")
    return None


def _who_changed(before: frozenset[str], now: frozenset[str]) -> str:
    parts = []
    if now - before:
        parts.append(f"{', '.join(sorted(now - before))} can be used now")
    if before - now:
        parts.append(f"{', '.join(sorted(before - now))} cannot be used now")
    return ", ".join(parts)
