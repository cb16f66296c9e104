"""Search: many schedules on several cores, resumable, with what came of each."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import edgemesh
from edgemesh.simulation.code_digest import digest_of_code
from edgemesh.simulation.faults.run import played
from edgemesh.simulation.faults.schedules import schedule_of

_CHUNK = 20
"""Schedules that one core takes at a time: a line of the resume file."""
_PARTS = ("errors.py", "model", "planning", "protocol", "roles", "simulation")
"""What a run depends on, of this package."""


@dataclass(frozen=True)
class Found:
    """What a stretch of seeds came to."""

    first: int
    count: int
    broken: tuple[tuple[int, str], ...] = ()
    """Seed and what does not hold."""
    ended: dict[str, int] = field(default_factory=dict)
    """Jobs by code; ``result`` for those that have one."""
    steps: int = 0
    told_again: int = 0
    """Results that plain apps got again, under the same job id."""
    reached: dict[str, int] = field(default_factory=dict)
    """How often what schedules seldom lead to has happened."""
    kept: bool = False
    """Read from a resume file, not played now."""
    code: str = ""
    """Digest of the code that it was played with."""


def search(seed: int, schedules: int, cores: int, resume: Path | None) -> Iterator[Found]:
    """What each stretch of ``schedules`` seeds from ``seed`` on came to, in the order in which they end.

    ``resume`` keeps what is done, a line of JSON per stretch: what it holds already is not played
    again, unless that was done with other code.
    """
    package = Path(edgemesh.__file__).parent
    code = digest_of_code(package / part for part in _PARTS)
    known = {(found.first, found.count): found for found in _kept(resume) if found.code == code}
    stretches = [
        (first, min(_CHUNK, seed + schedules - first)) for first in range(seed, seed + schedules, _CHUNK)
    ]
    yield from (known[stretch] for stretch in stretches if stretch in known)
    todo = [stretch for stretch in stretches if stretch not in known]
    for played_now in _searched(todo, cores):
        found = replace(played_now, code=code)
        if resume is not None:
            with resume.open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(found.__dict__)}\n")  # after a line that was cut off, too
        yield found


def _kept(resume: Path | None) -> Iterator[Found]:
    if resume is None or not resume.exists():
        return
    for line in resume.read_text(encoding="utf-8").splitlines():
        try:
            plain = json.loads(line)
        except ValueError:
            continue  # cut off when the search was: its stretch is played again
        broken = tuple((int(seed), str(text)) for seed, text in plain.pop("broken"))
        yield Found(broken=broken, **{**plain, "kept": True})


def _searched(stretches: list[tuple[int, int]], cores: int) -> Iterable[Found]:
    if cores == 1:
        yield from map(_stretch, stretches)
        return
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        yield from pool.imap_unordered(_stretch, stretches)


def _stretch(stretch: tuple[int, int]) -> Found:
    first, count = stretch
    broken: list[tuple[int, str]] = []
    ended: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    steps = told_again = 0
    for seed in range(first, first + count):
        outcome = played(schedule_of(seed))
        steps += outcome.steps
        told_again += outcome.told_again
        reached += outcome.reached
        ended.update({code or "result": number for code, number in outcome.ended.items()})
        if outcome.broken is not None:
            broken.append((seed, str(outcome.broken)))
    return Found(first, count, tuple(broken), dict(ended), steps, told_again, dict(reached))
