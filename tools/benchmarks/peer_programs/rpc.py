"""torch.distributed.rpc: the first half is called remotely, the second fetches what came out there itself."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed import rpc

from benchmarks.peer_programs.place import REQUESTER, Arrays, Place, Windowed

_NAMES = ("requester", "first", "second")
_half: Callable[[Arrays], Arrays]
# Calls arrive on threads of their own; each process may use one core at a time, as its rivals do.
_one_at_a_time = threading.Lock()


def _join(place: Place) -> None:
    os.environ["TP_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    # What two machines would use; on one machine it would take shared memory instead.
    options = rpc.TensorPipeRpcBackendOptions(
        init_method=f"tcp://127.0.0.1:{place.ports[0]}", _transports=["uv"], _channels=["basic"]
    )
    name = _NAMES[place.rank]
    rpc.init_rpc(name, rank=place.rank, world_size=len(_NAMES), rpc_backend_options=options)


def run_tensors(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Run this process's half."""
    with _one_at_a_time:
        return [torch.from_numpy(array) for array in _half([tensor.numpy() for tensor in tensors])]


def run_reference(reference: Any) -> list[torch.Tensor]:
    """Fetch what the other half left, and run this one."""
    return run_tensors(reference.to_here())


def serve(place: Place) -> None:
    """Answer calls for ever."""
    global _half
    _half = place.half(place.rank)
    _join(place)
    print("ready", flush=True)
    threading.Event().wait()


class Requester(Windowed):
    """The caller."""

    def __init__(self, place: Place) -> None:
        assert place.rank == REQUESTER
        self._inputs = [torch.from_numpy(array) for array in place.inputs()]
        self._under_way: deque[Any] = deque()
        _join(place)

    def _begin(self) -> None:
        middle = rpc.remote("first", run_tensors, (self._inputs,))
        self._under_way.append(rpc.rpc_async("second", run_reference, (middle,)))

    def _end(self) -> Arrays:
        return [tensor.numpy() for tensor in self._under_way.popleft().wait()]
