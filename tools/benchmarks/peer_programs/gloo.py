"""torch.distributed with gloo: three ranks, ``isend`` and ``recv`` from one to the next and back."""

from __future__ import annotations

import os
from collections import deque
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.peer_programs.place import FIRST, REQUESTER, SECOND, Arrays, Place, Windowed
from edgemesh.protocol.manifest import Boundary

WORLD = 3


def join(place: Place) -> None:
    """Meet the other two."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{place.ports[0]}"
    dist.init_process_group("gloo", init_method=address, rank=place.rank, world_size=WORLD)


def buffers(boundary: Boundary) -> list[torch.Tensor]:
    """Tensors to receive into."""
    return [torch.from_numpy(np.empty(tensor.shape, tensor.dtype)) for tensor in boundary]


def serve(place: Place) -> None:
    """Run what the rank before sends, for ever; outputs are on their way while the next input runs."""
    run = place.half(place.rank)
    # Two sets, in turn: what is being sent may still be a view of what was received.
    incoming = [buffers(place.boundary(place.rank)) for _ in range(2)]
    following = SECOND if place.rank == FIRST else REQUESTER
    join(place)
    print("ready", flush=True)
    sending: list[Any] = []
    while True:
        for tensor in incoming[0]:
            dist.recv(tensor, place.rank - 1)
        outputs = [torch.from_numpy(array) for array in run([tensor.numpy() for tensor in incoming[0]])]
        for work, _ in sending:
            work.wait()
        sending = [(dist.isend(tensor, following), tensor) for tensor in outputs]
        incoming.reverse()


class Requester(Windowed):
    """Rank 0."""

    def __init__(self, place: Place) -> None:
        self._inputs = [torch.from_numpy(array) for array in place.inputs()]
        self._outputs = buffers(place.boundary(SECOND + 1))
        self._sending: deque[list[Any]] = deque()
        join(place)

    def _begin(self) -> None:
        # What is dropped before it was sent is never sent.
        self._sending.append([dist.isend(tensor, FIRST) for tensor in self._inputs])

    def _end(self) -> Arrays:
        for tensor in self._outputs:
            dist.recv(tensor, SECOND)
        for work in self._sending.popleft():
            work.wait()
        return [tensor.numpy() for tensor in self._outputs]
