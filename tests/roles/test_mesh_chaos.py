"""A mesh in which everything breaks at random: what must hold whatever happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.result import ResultMessage
from edgemesh.simulation.links import Link
from edgemesh.simulation.machine import Speed
from edgemesh.simulation.mesh import App, DeviceNode, Mesh
from edgemesh.simulation.models import made_up_model, result_of

FACE, CONTENT = made_up_model()
_STEPS = 250


class Chaos:
    """Submits jobs and breaks things, both by chance; every step is one of ``_deeds``."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.mesh = Mesh(seed)
        self.left: dict[str, float] = {}
        self.dead: list[str] = []
        self.photos = 0
        mesh = self.mesh
        for name, seconds in (("pi-zero", 0.1), ("pi-4b", 0.02), ("desktop", 0.005)):
            mesh.add_device(name, Speed(seconds, jitter=0.1), Link(0.002))
        for name in ("laptop", "server"):
            mesh.add_decider(name)
            mesh.add_gateway(name)
        mesh.run(1.0)
        mesh.add_model(FACE, CONTENT, "desktop")
        mesh.run_until(mesh.ready, within=30.0)
        self.clients = [mesh.add_client("anywhere"), mesh.add_client("camera", origin="pi-4b")]
        self.app: App = mesh.add_app()
        mesh.run(1.0)

    def step(self) -> None:
        """One deed, and some time after it."""
        deeds, weights = zip(*self._deeds(), strict=True)
        self.random.choices(deeds, weights)[0]()
        self.mesh.run(self.random.choice([0.01, 0.05, 0.2, 1.0]))

    def end(self) -> None:
        """Repair everything and let it settle."""
        while self.dead:
            self._revive()
        self.mesh.run(60.0)
        self.mesh.check()

    def _deeds(self) -> list[tuple[Callable[[], None], float]]:
        return [
            (self._submit, 50),
            (self._photo, 10),
            (self._end_device, 6),
            (self._revive, 6),
            (self._kill_executor, 2),
            (self._break_connection, 3),
            (self._change_link, 2),
            (self._end_holder, 1),
            (self._restart_broker, 1),
        ]

    def _submit(self) -> None:
        name = f"j-{len(self.left)}"
        self.left[name] = self.random.choice([2.0, 10.0, 30.0])
        self.mesh.submit(self.random.choice(self.clients), FACE, name, left=self.left[name])

    def _photo(self) -> None:
        if self.app.connection.connected:
            self.app.submit(f"p-{self.photos}")
            self.photos += 1

    def _node(self) -> DeviceNode:
        living = [name for name in self.mesh.devices if name not in self.dead]
        return self.mesh.devices[self.random.choice(living)]

    def _kill_executor(self) -> None:
        self._node().executor.kill()

    def _break_connection(self) -> None:
        connection = self._node().shell.connection
        assert connection is not None
        connection.lose()

    def _end_device(self) -> None:
        if len(self.dead) < 2:
            node = self._node()
            self.random.choice([node.kill, node.cut_power, node.stop])()
            self.dead.append(node.name)

    def _revive(self) -> None:
        if self.dead:
            self.mesh.devices[self.dead.pop(0)].restart()

    def _change_link(self) -> None:
        link = self._node().link
        link.rate_up = link.rate_down = 10.0 ** self.random.uniform(5.0, 7.0)

    def _restart_broker(self) -> None:
        self.mesh.broker.restart(wiped=False, pause=self.random.choice([0.2, 3.0]))

    def _end_holder(self) -> None:
        node = self.random.choice(self.mesh.holders)
        others = [n for n in self.mesh.holders if n.alive and n is not node and n.role == node.role]
        if node.alive and others:
            node.kill()


@pytest.mark.parametrize("seed", range(6))
def test_every_job_ends_once_and_rightly_and_the_mesh_recovers(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(_STEPS):
        chaos.step()
    chaos.end()

    ended = {end.job: end for client in chaos.clients for end in client.ended}
    assert set(ended) == set(chaos.left)
    for name, end in ended.items():
        assert end.seconds <= chaos.left[name] + 1e-6, end
        assert end.code is not None or bytes(end.section) == result_of(FACE, name), end
    assert sum(end.code is None for end in ended.values()) > 0.7 * len(ended)

    log = chaos.mesh.broker.log
    results = [decode_json(ResultMessage, m.payload) for _, _, m in log if m.topic.endswith("result/face")]
    shown = Counter(result.outputs.get("value") for result in results if result.code is None)
    wanted = {result_of(FACE, f"p-{number}")[:32].hex() for number in range(chaos.photos)}
    assert set(shown) <= wanted and len(wanted - set(shown)) <= sum(r.code is not None for r in results)

    newcomer = chaos.mesh.add_client("newcomer")
    chaos.mesh.run(3.0)
    chaos.mesh.submit(newcomer, FACE, "last")
    chaos.mesh.run(10.0)
    assert [end.code for end in newcomer.ended] == [None]
