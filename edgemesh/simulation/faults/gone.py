"""Gone: a job under way over a device that is known to be gone is not waited for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgemesh.protocol.activation import Activation, Hop
from edgemesh.roles.client import ClientRole
from edgemesh.simulation.faults.world import World
from edgemesh.simulation.shell import ModelledShell

_PROMPT_SECONDS = 3.0
"""With no other way at first, a job looks for one every two seconds."""


@dataclass
class _UnderWay:
    """A job that a client has sent once."""

    shell: ModelledShell
    devices: frozenset[str]
    model: str
    digest: str
    gone_since: float | None = None
    """Since when the client has known that one of the devices is gone, and another way for the job."""


class Gone:
    """Follows the jobs of clients that have one attempt under way."""

    def __init__(self, world: World, broken: Callable[[str, str, str], None]) -> None:
        self._world = world
        self._broken = broken
        self._under_way: dict[str, _UnderWay] = {}

    def sent(self, shell: ModelledShell, header: Activation) -> None:
        """A client has a job's input published for a device."""
        if self._under_way.pop(header.job, None) is None and header.attempt == 0:
            devices = frozenset(hop.device for hop in header.route)
            self._under_way[header.job] = _UnderWay(shell, devices, header.model, header.digest)

    def over(self, job: str) -> None:
        """It has ended, nobody waits for it, or a device answered: the next attempt may wait."""
        self._under_way.pop(job, None)

    def look(self, shell: ModelledShell) -> None:
        """See whether a client still waits for devices that it knows to be gone."""
        for name, job in self._under_way.items():
            if job.shell is shell:
                self._look(name, job)

    def _look(self, name: str, job: _UnderWay) -> None:
        now = self._world.mesh.clock.now
        connection = job.shell.connection
        if connection is None or not self._is_to_go_elsewhere(job, now):
            job.gone_since = None
            return
        if job.gone_since is None:
            job.gone_since = now
        # Nobody publishes, and so nobody looks, while the broker is away.
        elif now - max(job.gone_since, connection.changed_at) > _PROMPT_SECONDS:
            text = f"{name} still waits for a device that {job.shell.name} has known to be gone for a while"
            self._broken("the dead are not waited for", text, name)

    def _is_to_go_elsewhere(self, job: _UnderWay, now: float) -> bool:
        role, connection = job.shell.role, job.shell.connection
        assert isinstance(role, ClientRole) and connection is not None
        if not connection.connected or job.shell.paused:
            return False
        states = [role.view.devices.get(device) for device in job.devices]
        if all(view is None or view.state == "online" for view in states):
            return False
        ways: list[tuple[Hop, ...]] = []
        for assignment in role.requester.routes.obeyed.values():
            if (assignment.model, assignment.digest) == (job.model, job.digest):
                ways += [assignment.route, *(fallback.route for fallback in assignment.fallbacks)]
        return any(role.requester.routes.alive({hop.device for hop in way}, now) for way in ways)
