"""torch.distributed.pipelining: a GPipe schedule over three stages; the requester's hands on its input.

A schedule has no way back, so the last rank sends the outputs to the first by ``send``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

from benchmarks.peer_programs.gloo import WORLD, buffers, join
from benchmarks.peer_programs.place import FIRST, REQUESTER, SECOND, Arrays, Place


class _Half(nn.Module):
    def __init__(self, run: Callable[[Arrays], Arrays]) -> None:
        super().__init__()
        self._run = run

    def forward(self, *tensors: torch.Tensor) -> Any:
        outputs = tuple(torch.from_numpy(array) for array in self._run([each.numpy() for each in tensors]))
        return outputs if len(outputs) > 1 else outputs[0]


class _Schedules(dict[int, ScheduleGPipe]):
    """One schedule for each number of microbatches."""

    def __init__(self, place: Place, module: nn.Module) -> None:
        super().__init__()
        self._rank, self._module = place.rank, module
        self._takes = tuple(buffers(place.boundary(max(place.rank, FIRST))))
        self._gives = tuple(buffers(place.boundary(place.rank + 1)))

    def __missing__(self, microbatches: int) -> ScheduleGPipe:
        cpu = torch.device("cpu")
        stage = PipelineStage(
            self._module, self._rank, WORLD, cpu, input_args=self._takes, output_args=self._gives
        )
        self[microbatches] = ScheduleGPipe(stage, microbatches)
        return self[microbatches]


def serve(place: Place) -> None:
    """Take part in the steps that the requester announces, for ever."""
    module = _Half(place.half(place.rank))
    join(place)
    schedules = _Schedules(place, module)
    announced = torch.zeros(2, dtype=torch.int64)
    print("ready", flush=True)
    with torch.no_grad():
        while True:
            dist.recv(announced, REQUESTER)
            steps, microbatches = announced.tolist()
            for _ in range(steps):
                outputs = schedules[microbatches].step()
                if place.rank == SECOND:
                    for tensor in outputs if isinstance(outputs, (tuple, list)) else [outputs]:
                        dist.send(tensor, REQUESTER)


class Requester:
    """Rank 0: a stage that hands on its input."""

    def __init__(self, place: Place) -> None:
        self._inputs = [torch.from_numpy(array) for array in place.inputs()]
        self._outputs = place.boundary(SECOND + 1)
        join(place)
        self._schedules = _Schedules(place, nn.Identity())

    def announce(self, steps: int, microbatches: int) -> None:
        """Tell the others what comes: once for many jobs, so that no job pays for it."""
        announced = torch.tensor([steps, microbatches])
        for rank in (FIRST, SECOND):
            dist.send(announced, rank)

    def once(self) -> Arrays:
        """One job that was announced."""
        return self._step(1)

    def stream(self, count: int, window: int) -> None:
        """Steps of ``window`` microbatches each: a schedule fills and empties the pipeline in every step."""
        self.announce(count // window, window)
        for _ in range(count // window):
            self._step(window)

    def _step(self, microbatches: int) -> Arrays:
        batch = [torch.cat([tensor] * microbatches) for tensor in self._inputs]
        outputs = [torch.cat([tensor] * microbatches) for tensor in buffers(self._outputs)]
        with torch.no_grad():
            self._schedules[microbatches].step(*batch)
        for tensor in outputs:
            dist.recv(tensor, SECOND)
        return [tensor.numpy() for tensor in outputs]
