"""One hour of jobs compressed: whether memory, threads or file descriptors of any process grow."""

from __future__ import annotations

import os
import time
from collections import Counter, deque

import numpy as np
from benchmarks.models import zoo_model
from benchmarks.report import Report
from outages.answers import questions
from outages.guard import Guard
from outages.mesh import NAME

from edgemesh.runtime.payloads import input_tensors
from soaking.mesh import LoadedMesh
from soaking.programs import ClientProgram, PlainProgram
from soaking.tally import RIGHT, Job, Tally
from soaking.usage import Usage, growth, usage

_WINDOW = 4
_KEPT = 1000
"""Jobs that are watched for a second end."""
_EVERY = 50
"""One job in so many has a bad input, one a deadline that it cannot meet, one comes by a plain app."""
_NO_TIME = 0.0005
_DEADLINE = 30
_SAMPLES = 90
_LEAST_SECONDS, _MOST_SECONDS = 0.02, 5.0
"""Between two looks at the processes."""
_GROWTH_MB = 2.0
_PROGRAM = "client program"


def measure(report: Report, guard: Guard, count: int) -> None:
    """Add the claims of ``count`` jobs to ``report``."""
    model = zoo_model(guard.folder / "model", "face-short")
    picture = questions(model, 1)[0].payload
    tensors = input_tensors(model.manifest, picture).tensors
    name, tally = model.manifest.name, Tally()
    with LoadedMesh(guard, model, emulated=False) as mesh:
        plain = PlainProgram(mesh.port, mesh.observer.root, name, picture, tally)
        client = ClientProgram(mesh.url, NAME, name, tensors, tally, _DEADLINE)
        looks: list[tuple[float, dict[str, Usage]]] = []
        began = time.monotonic()
        counts = _run(mesh, client, plain, tally, count, looks)
        seconds = time.monotonic() - began
        report.figure("jobs a second", count / seconds)
        client.close()
        plain.close()
    for end, number in sorted(counts.items()):
        report.figure(f"jobs: {end}", number)
    report.claim("jobs without an end", counts["nothing"], 0, "")
    report.claim(
        "jobs not counted exactly once",
        abs(count - counts.total() + counts["again"]) + counts["again"],
        0,
        "",
    )
    report.claim("results of no job", plain.unknown, 0, "")
    # Who has no time for a job says busy where another one is under way.
    expected = {RIGHT, "bad-input", "deadline", "busy", "nothing", "again"}
    report.claim(
        "jobs that ended busy or by a deadline, beyond those without time",
        max(0, counts["busy"] + counts["deadline"] - (count + _EVERY - 1) // _EVERY),
        0,
        "",
    )
    report.claim(
        "jobs that ended in another error", sum(n for e, n in counts.items() if e not in expected), 0, ""
    )
    _flat(report, looks)


def _run(
    mesh: LoadedMesh,
    client: ClientProgram,
    plain: PlainProgram,
    tally: Tally,
    count: int,
    looks: list[tuple[float, dict[str, Usage]]],
) -> Counter[str]:
    """How many jobs ended in what."""
    wrong = np.zeros((1, 3), np.float32)
    under_way: deque[Job] = deque()
    counts: Counter[str] = Counter()
    began, looked = time.monotonic(), 0.0
    for number in range(count):
        tally.wait_below(_WINDOW, _DEADLINE)
        if number % _EVERY == 10:
            under_way.append(client.submit(wrong))
        elif number % _EVERY == 20:
            # As a frame, which is sent in any case: its answer comes when nobody waits for it any more.
            under_way.append(client.submit_frame(_NO_TIME))
        elif number % _EVERY == 30:
            under_way.append(plain.submit(_DEADLINE))
        else:
            under_way.append(client.submit())
        # Kept no longer than needed: the list would be the leak that is found.
        while len(under_way) > _KEPT:
            _count(counts, under_way.popleft())
        now = time.monotonic()
        expected = (now - began) / (number + 1) * count
        if now - looked > min(_MOST_SECONDS, max(_LEAST_SECONDS, expected / _SAMPLES)):
            looks.append((now, {**mesh.usages(), _PROGRAM: usage(os.getpid())}))
            looked = now
        if (number + 1) % max(1, count // 10) == 0:
            print(f"{now - began:7.1f} s  {number + 1} of {count} jobs", flush=True)
    tally.wait_below(1, _DEADLINE + 1.0)
    for job in under_way:
        _count(counts, job)
    return counts


def _count(counts: Counter[str], job: Job) -> None:
    counts[job.end or "nothing"] += 1
    counts["again"] += max(0, job.ends - 1)


def _flat(report: Report, looks: list[tuple[float, dict[str, Usage]]]) -> None:
    for process in looks[-1][1]:
        seen = [(at, found[process]) for at, found in looks if process in found]
        memory = [(at, one.memory / 1e6) for at, one in seen]
        threads = [(at, float(one.threads)) for at, one in seen]
        descriptors = [(at, float(one.descriptors)) for at, one in seen]
        report.figure(f"{process}: memory at the end, MB", memory[-1][1])
        report.claim(
            f"{process}: memory grows over the last two thirds, MB", growth(memory), _GROWTH_MB, "MB"
        )
        # By whole ones: a look may meet a socket that is about to be closed.
        report.claim(f"{process}: threads more", round(growth(threads)), 0, "")
        report.claim(f"{process}: file descriptors more", round(growth(descriptors)), 0, "")
