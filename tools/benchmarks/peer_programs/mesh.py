"""edgemesh: the client library, with the route that the assignment in force gives."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from benchmarks.models import opened
from benchmarks.peer_programs.place import Arrays, Place, Windowed
from benchmarks.programs import MESH
from edgemesh.node.client import Client, PendingResult


class Requester(Windowed):
    """A client of the mesh."""

    def __init__(self, place: Place) -> None:
        self._inputs = place.inputs()
        self._model = opened(Path(place.folder)).manifest.name
        self._client = Client(f"mqtt://127.0.0.1:{place.ports[0]}", mesh=MESH)
        self._under_way: deque[PendingResult] = deque()
        self._client.manifest(self._model)

    def once(self) -> Arrays:
        """One job."""
        return self._client.infer(self._model, self._inputs).tensors

    def _begin(self) -> None:
        self._under_way.append(self._client.begin(self._model, self._inputs))

    def _end(self) -> Arrays:
        return self._under_way.popleft().result().tensors
