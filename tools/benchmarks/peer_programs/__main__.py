"""One process of a peer: ``python -m benchmarks.peer_programs WAY PLACE``, the place as JSON.

A half serves until its standard input ends. The requester obeys lines of JSON, and answers each with one.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from importlib import import_module
from typing import Any

from benchmarks.peer_programs.place import REQUESTER, Place, Requests
from edgemesh.runtime.allocation import keep_large_buffers


def _answer(requests: Requests, command: dict[str, Any]) -> dict[str, Any]:
    count = int(command["count"])
    began = time.perf_counter()
    if command["do"] == "stream":
        requests.stream(count, int(command["window"]))
        return {"seconds": [time.perf_counter() - began]}
    announce = getattr(requests, "announce", None)
    if announce is not None:
        announce(count, 1)
    seconds = []
    outputs = []
    for _ in range(count):
        began = time.perf_counter()
        outputs = requests.once()
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "outputs": [array.ravel().tolist() for array in outputs]}


def main() -> None:
    """See the module."""
    way, text = sys.argv[1:]
    fields = json.loads(text)
    place = Place(**{**fields, "ports": tuple(fields["ports"])})
    if place.keeps_buffers:  # else the ratios would tell of the allocator and not of the link
        keep_large_buffers()
    module = import_module(f"benchmarks.peer_programs.{way}")
    if place.rank != REQUESTER:
        threading.Thread(target=_end_with_the_benchmark, daemon=True).start()
        module.serve(place)
        return
    requests: Requests = module.Requester(place)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            answer = _answer(requests, json.loads(line))
        except Exception as error:  # what a peer's user would see: any error at all is a finding
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    os._exit(0)  # libraries that wait for their peers at the end would wait for ever


def _end_with_the_benchmark() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
