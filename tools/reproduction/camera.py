"""Camera: the program on a testbed's device that has jobs run, as an app there would.

``python -m reproduction.camera DEVICE FOLDER REQUEST`` connects to the agent of the device by its own socket.
The request is JSON: ``{"model": NAME, "at": [seconds from the first job, ...], "deadline": seconds}``. It
prints ``{"ready": true}`` when the first job is due, then a line for each job as it ends. A job whose time
comes while the one before still runs is skipped: a camera has no use for old frames, and jobs that pile up
would be measured by their queue alone.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from edgemesh.errors import EdgemeshError
from edgemesh.node.client import Client
from edgemesh.runtime.made_up import made_up_inputs


def main() -> None:
    """See the module."""
    device, folder, text = sys.argv[1:]
    request = json.loads(text)
    with Client(origin=device, device_directory=Path(folder)) as client:
        _serve(client, request["model"], request["at"], request["deadline"])


def _serve(client: Client, model: str, times: list[float], deadline: float) -> None:
    given = made_up_inputs(client.manifest(model).boundaries[0])
    _say({"ready": True})
    began = time.monotonic()
    for at, following in zip(times, [*times[1:], math.inf], strict=True):
        left = began + at - time.monotonic()
        if left > 0.0:
            time.sleep(left)
        elif -left > 0.5 * (following - at):
            _say({"at": at, "skipped": True})
            continue
        sent = time.monotonic()
        try:
            result = client.infer(model, given, timeout=deadline)
        except EdgemeshError as error:
            _say({"at": at, "seconds": time.monotonic() - sent, "code": error.code, "text": str(error)})
            continue
        _say(
            {
                "at": at,
                "seconds": time.monotonic() - sent,
                "code": None,
                "route": [[hop.device, hop.stop] for hop in result.route],
                "timings": [[t.device, t.start, t.stop, t.queue, t.run, t.code] for t in result.timings],
                "attempts": result.attempts,
                "predicted": result.predicted,
            }
        )


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
