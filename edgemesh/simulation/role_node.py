"""A node that may hold a role (gateway, decision node): stands by, takes it over, loses it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.result import ResultMessage, encode_result
from edgemesh.roles.actions import Action, DecodeInput, JobEnded, RenderResult
from edgemesh.roles.events import Event, InputDecoded, InputRefused, ResultRendered
from edgemesh.roles.gateway import Gateway
from edgemesh.roles.policy_memory import PolicyMemory, Remembering
from edgemesh.roles.role import HeldRole
from edgemesh.roles.standby import Standby
from edgemesh.simulation.links import Link
from edgemesh.simulation.models import input_of
from edgemesh.simulation.sections import without_stand_in
from edgemesh.simulation.shell import ModelledShell

if TYPE_CHECKING:
    from edgemesh.simulation.mesh import Mesh

_DECODE_SECONDS = 0.001


class RoleNode:
    """A node that stands by for a role, holds it, and stands by again, as ``node/role_holder.py`` does."""

    def __init__(
        self,
        mesh: Mesh,
        name: str,
        role: str,
        topic: str,
        make: Callable[[str, int], HeldRole],
        link: Link,
    ) -> None:
        self.name = name
        self.alive = True
        self.held: HeldRole | None = None
        self.terms: list[int] = []
        self.shell: ModelledShell
        self._mesh = mesh
        self.role = role
        self._topic = topic
        self._make = make
        self._memory = PolicyMemory(mesh.topics)
        self._link = link
        self.boot = mesh.boot()
        self._stand_by()

    @property
    def _remembers(self) -> bool:
        """Whether it says policies again, as decision nodes do."""
        return self.role == "decision"

    def kill(self) -> None:
        """The process dies."""
        self.alive = False
        self.shell.kill()

    def cut_power(self) -> None:
        """The machine is gone without a word."""
        self.alive = False
        self.shell.silence()

    def restart(self) -> None:
        """Start again after an end."""
        self.alive = True
        self.boot = self._mesh.boot()
        self._memory = PolicyMemory(self._mesh.topics)
        self._stand_by()

    def stop(self) -> None:
        """A clean end."""
        self.alive = False
        self.shell.stop(self.held.farewell() if self.held is not None else [])

    def _stand_by(self) -> None:
        mesh = self._mesh
        self.held = None
        sounding = mesh.topics.build("probe", requester=f"standby-{self.boot}")
        standby = Standby(self.role, self._topic, self.boot, sounding)
        watched = _Watched(standby, self._take, self._memory if self._remembers else None)
        self.shell = ModelledShell(self.name, watched, mesh.clock, mesh.broker, mesh.topics)
        self.shell.connect(f"home-{self.role}-standby-{self.boot}", self._link)

    def _take(self, term: int) -> None:
        self.shell.stop([])
        self._mesh.clock.call_later(0.0, self._hold, term)

    def _hold(self, term: int) -> None:
        if not self.alive:
            return
        mesh = self._mesh
        self.terms.append(term)
        self.boot = mesh.boot()
        self.held = role = self._make(self.boot, term)
        is_gateway = isinstance(role, Gateway)
        driven = Remembering(role, self._memory) if self._remembers else role
        self.shell = shell = ModelledShell(self.name, driven, mesh.clock, mesh.broker, mesh.topics)
        shell.handlers |= {DecodeInput: self._decode, RenderResult: self._render}

        def over() -> None:
            if self.alive and self.shell is shell:
                shell.stop([])
                self._stand_by()

        shell.connect(
            f"home-{self.role}",
            self._link,
            on_lost=over,
            on_taken_over=over,
            will=role.will(),
            clean_start=not is_gateway,
            session_lasts=is_gateway,
            acknowledges_itself=not is_gateway,
        )

    def _decode(self, action: DecodeInput) -> None:
        payload = without_stand_in(action.payload)
        event: InputDecoded | InputRefused
        if len(payload) > 32:
            event = InputRefused(action.job, "bad-input", "no input of this model")
        else:
            event = InputDecoded(action.job, input_of(action.manifest, payload.decode()))
        self.shell.deliver_later(_DECODE_SECONDS, event)

    def _render(self, action: RenderResult) -> None:
        self.shell.deliver_later(0.0, ResultRendered(action.job, rendered(action.ended, action.manifest)))


class _Watched:
    def __init__(self, standby: Standby, take: Callable[[int], None], memory: PolicyMemory | None) -> None:
        self._standby = standby
        self._take = take
        self._memory = memory

    def handle(self, event: Event, now: float) -> list[Action]:
        actions = self._standby.handle(event, now)
        if self._memory is not None:
            actions = [*actions, *self._memory.handle(event, now)]
        if self._standby.taken is not None:
            self._take(self._standby.taken.term)
        return actions


def rendered(ended: JobEnded, manifest: Manifest | None) -> bytes:
    """The JSON of an end: the value in the section, in hexadecimal, and by which content it was rendered."""
    outputs: dict[str, str] = {}
    if ended.code is None:
        assert manifest is not None
        outputs = {"value": bytes(ended.section[:32]).hex(), "content": manifest.digest}
    return encode_result(
        ResultMessage(
            ended.job,
            ended.model,
            ended.seconds,
            outputs,
            ended.route,
            ended.timings,
            ended.attempts,
            ended.code,
            ended.text,
        )
    )
