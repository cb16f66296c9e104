"""Words: the code that a job ends with says what was so."""

from __future__ import annotations

import re
from collections.abc import Callable

from edgemesh.errors import (
    BusyError,
    ModelError,
    NoRouteError,
    ReplacedError,
    RunError,
    UnknownModelError,
)
from edgemesh.roles.actions import JobEnded
from edgemesh.roles.attempts import MAX_FAILURES
from edgemesh.simulation.faults.schedules import FACE, NOTHING, NOWHERE, Deed, Schedule
from edgemesh.simulation.faults.world import World

_QUIET_SECONDS = 20.0
"""After the last fault, or the last change of a model: what anybody says by then is not of before."""
_IDLE_SECONDS = 1.0
_JOB_SECONDS = 0.25
"""That a job asked for in the same moment may take: the last of many has no time, though nothing runs yet."""
_RULE = "errors are true"
_UNKNOWN_ORIGIN = re.compile("^no device .* in this mesh|is no device of this mesh")


class Words:
    """Looks at ends of jobs and submissions."""

    def __init__(self, world: World, schedule: Schedule, broken: Callable[[str, str, str], None]) -> None:
        self.busy_at = world.mesh.clock.now
        """When a run began last, anywhere."""
        self.open_jobs = 0
        """Of clients and devices."""
        self._nobody_leaves = not any(deed.kind == "stop" for deed in schedule.deeds)
        self._world = world
        self._broken = broken

    def ended(self, deed: Deed, code: str | None, attempts: int) -> None:
        """A job, or a submission, ended with ``code`` after so many attempts; None for a result."""
        catalogue = self._world.catalogue
        if code is None:
            if deed.model in (NOTHING, NOWHERE):
                self._broken(_RULE, f"{deed.name} has a result of {deed.model}, which nobody runs", deed.name)
            return
        if code == ReplacedError.code and not catalogue.replaced:
            self._broken(_RULE, f"{deed.name} ended in {code}, and nothing was", deed.name)
        if deed.model == FACE and code in (RunError.code, ModelError.code) and attempts < MAX_FAILURES:
            text = f"{deed.name} ended in {code} after {attempts} attempts"
            self._broken("an error is the last resort", text, deed.name)
        if not self._quiet:
            return
        if deed.model == NOTHING and code != UnknownModelError.code:
            self._broken(_RULE, f"{deed.name} of a model that nobody added ended in {code}", deed.name)
        if deed.model != FACE:
            return
        if code == UnknownModelError.code and (self._world.is_told(FACE) or self._world.is_held(FACE)):
            self._broken(_RULE, f"{deed.name} of a model that everybody knows ended in {code}", deed.name)
        refused = code == BusyError.code and deed.seconds <= self.open_jobs * _JOB_SECONDS
        if code in (BusyError.code, NoRouteError.code) and self._idle and not refused:
            text = f"{deed.name} ended in {code} although all devices are there and idle"
            self._broken(_RULE, text, deed.name)

    def gave_up(self, deed: Deed, ended: JobEnded) -> None:
        """A job ended in an error: for want of a route only where none was to be expected any more."""
        if ended.code != NoRouteError.code or ended.attempts or deed.model != FACE:
            return
        # An origin that was switched off when the broker lost its memory is unknown to all until it is back.
        is_unknown = _UNKNOWN_ORIGIN.search(ended.text or "") is not None
        if self._nobody_leaves and not is_unknown:
            text = f"{deed.name} was never sent, though no device had said goodbye: {ended.text}"
            self._broken(_RULE, text, deed.name)

    @property
    def _quiet(self) -> bool:
        world = self._world
        return (
            world.mesh.clock.now - max(world.disturbed_until, world.people.models_changed_at) > _QUIET_SECONDS
        )

    @property
    def _idle(self) -> bool:
        if self._world.mesh.clock.now - self.busy_at < _IDLE_SECONDS:
            return False
        roles = [node.role for node in self._world.mesh.devices.values()]
        return all(role.worker.idle and not role.crash_bench.benched for role in roles)
