"""A program on a device that has jobs run at a steady pace, as an app there would.

``python -m testbeds.stream DEVICE FOLDER MODEL PER_SECOND BEGIN END`` submits to the agent of the device by
its own socket, between two times of the monotonic clock, and prints each job as a line of JSON when it ended.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgemesh.errors import EdgemeshError
from edgemesh.node.client import AsyncClient
from edgemesh.runtime.made_up import made_up_inputs
from testbeds.bed import MESH

_DEADLINE = 60.0


def due_times(per_second: float, begin: float, end: float) -> Iterator[float]:
    """When each job is due."""
    for number in itertools.count():
        if (at := begin + number / per_second) >= end:
            return
        yield at


async def _send(device: str, folder: Path, model: str, per_second: float, begin: float, end: float) -> None:
    async with AsyncClient(mesh=MESH, origin=device, device_directory=folder, timeout=_DEADLINE) as mesh:
        given = made_up_inputs((await mesh.manifest(model)).boundaries[0])
        jobs: set[asyncio.Task[None]] = set()
        for at in due_times(per_second, begin, end):
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            # A reference of ours: a task that nobody holds may be collected before it ends.
            jobs.add(asyncio.create_task(_job(mesh, model, given, at - begin)))
        await asyncio.gather(*jobs)


async def _job(mesh: AsyncClient, model: str, given: Any, at: float) -> None:
    told: dict[str, Any] = {"at": at}
    began = time.monotonic()
    try:
        result = await mesh.infer(model, given)
        told["route"] = [[hop.device, hop.stop] for hop in result.route]
    except EdgemeshError as error:
        told["code"], told["text"] = error.code, str(error)
    print(json.dumps({**told, "seconds": time.monotonic() - began}), flush=True)


def main() -> None:
    """See the module."""
    device, folder, model, per_second, begin, end = sys.argv[1:]
    asyncio.run(_send(device, Path(folder), model, float(per_second), float(begin), float(end)))


if __name__ == "__main__":
    main()
