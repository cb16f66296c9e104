"""The meshes that are put under load, all by real processes and one Mosquitto."""

from __future__ import annotations

from benchmarks.models import BenchModel
from benchmarks.report import NotMeasurableError
from outages.guard import Guard
from outages.mesh import DECISION_TOPIC, GATEWAY_TOPIC, SECONDS_OF_MODEL, Mesh
from outages.observer import KINDS

from edgemesh.protocol.jsontext import encode_json
from soaking.usage import Usage, family, usage

_START_SECONDS = 40.0
_DECISION, _GATEWAY = "decision", "gateway"
ALONE = "alone"
"""The one device of a mesh that is not emulated."""


class LoadedMesh(Mesh):
    """The devices of a run, one decision node and one gateway; nothing stands between them and Mosquitto."""

    # Not the activations: this process would be the one with the most load.
    watched = (*(kind for kind in KINDS if not kind.endswith("/work")), "device/+/heartbeat")

    def __init__(self, guard: Guard, model: BenchModel, *, emulated: bool) -> None:
        """``emulated`` is three slow boards, so that little work is much load; else one device as fast as
        this machine."""
        super().__init__(guard, model)
        self.devices = tuple(SECONDS_OF_MODEL) if emulated else (ALONE,)
        self._emulated = emulated

    def usages(self) -> dict[str, Usage]:
        """What each process takes now, by member and its place in the family."""
        found = {}
        for name in ("broker", _DECISION, _GATEWAY, *self.devices):
            for place, pid in enumerate(family(self.members[name].pid)):
                found[f"{name} executor" if place else name] = usage(pid)
        return found

    def _start(self) -> None:
        manifest = self.model.manifest
        boards = self._folder / "boards"
        boards.mkdir()
        self.observer.publish(f"model/{manifest.name}", encode_json(manifest))
        environment = self.environment(self.port)
        for name in self.devices:
            arguments = ["device", "run", "--id", name, "--threads", "1"]
            if self._emulated:
                self._make_board(boards, name, SECONDS_OF_MODEL[name])
                arguments += ["--emulate", f"{name}-board"]
            self.give(name, self.model)
            self.members.edgemesh(name, arguments, environment)
        self.members.edgemesh(_DECISION, ["decision", "run", "--id", _DECISION], environment)
        self.members.edgemesh(_GATEWAY, ["gateway", "run", "--id", _GATEWAY], environment)
        states = [*(f"device/{name}/state" for name in self.devices), GATEWAY_TOPIC, DECISION_TOPIC]
        plan = f"assignment/{manifest.name}/app"
        there = self.observer.wait(
            lambda: all(map(self.observer.online, states)) and bool(self.observer.said(plan)[0]),
            _START_SECONDS,
        )
        if not there:
            raise NotMeasurableError(f"the mesh did not start:\n{self.log_ends()}")
