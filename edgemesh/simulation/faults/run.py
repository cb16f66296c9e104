"""Run: one schedule played to its end, or to the first rule that does not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from edgemesh.simulation.faults.broken import RuleBrokenError
from edgemesh.simulation.faults.rules import Rules
from edgemesh.simulation.faults.schedules import Schedule
from edgemesh.simulation.faults.settled import check_settled, settle
from edgemesh.simulation.faults.world import World

_PATIENT = 10
"""One schedule of so many is played for the whole of the time that a mesh has to settle: nothing may undo
in it what was settled before."""


@dataclass(frozen=True)
class Outcome:
    """What came of a schedule."""

    schedule: Schedule
    broken: RuleBrokenError | None
    ended: Counter[str | None]
    """Jobs by code; None for a result."""
    steps: int
    """Events that happened."""
    told_again: int
    """Results that plain apps got again, under the same job id."""
    hedged: int
    """Times that a requester sent a job again."""
    reached: Counter[str]
    """How often what schedules seldom lead to has happened."""


def played(schedule: Schedule, watch: Callable[[World], None] = lambda world: None) -> Outcome:
    """Play it; ``watch`` is given the world before the first deed. The same schedule, the same outcome."""
    world = World(schedule)
    rules = Rules(world, schedule)
    broken: RuleBrokenError | None = None
    try:
        world.build()
        rules.attach()
        watch(world)
        world.arrange(schedule.deeds)
        world.pace.run(schedule.length)
        world.repair()
        rules.check_calm()
        patient = schedule.seed % _PATIENT == 0
        settle(world, rules, patient=patient)
        check_settled(world, rules, patient=patient)
    except RuleBrokenError as error:
        broken = error
    steps = world.mesh.clock.happened
    return Outcome(schedule, broken, rules.ended, steps, rules.told_again, rules.hedged, world.rare)
