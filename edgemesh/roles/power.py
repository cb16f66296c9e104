"""Power: completes the readings of a device with what is known of its watts.

Meters in order of preference: one in the machine (it came with the reading), the smart plug, the model. The
model's two ends are the board's figures until metered samples tell them better.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from statistics import fmean

from edgemesh.planning.energy_check import EnergyCheck
from edgemesh.planning.power_estimate import PowerEstimator
from edgemesh.protocol.presence import PowerFigures, Resources
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, ReadResources
from edgemesh.roles.events import Event
from edgemesh.roles.plug import Plug
from edgemesh.roles.plug_payloads import PLUG_WATTS

LAGGING_SOURCES = ("battery", "plug")
"""First words of meters whose figure follows the load by up to half a minute."""
_SETTLED_SECONDS = 30.0
_SETTLED_SPREAD = 0.15
"""Of the load over that time, at most: then it does not matter how far the meter lags."""
_PLAUSIBLE = 5.0
"""Times the board's busy watts, and ``_BESIDE`` for what hangs on it: more is not this device."""
_BESIDE = 20.0


class Power:
    """One device's watts. Feed it every reading and every message of the plug."""

    def __init__(
        self, device: str, topics: Topics, board: PowerFigures | None = None, *, emulated: bool = False
    ) -> None:
        """``board`` are the figures of its profile; those of an emulated board stand for themselves."""
        self._board = board
        self._emulated = emulated
        most = PLUG_WATTS if board is None else _PLAUSIBLE * board.busy_watts + _BESIDE
        self.plug = Plug(device, topics, min(most, PLUG_WATTS))
        self._estimators: dict[str, PowerEstimator] = {}
        self._learned_from: str | None = None
        self._check = EnergyCheck()
        self._checked: object = None
        """What the check compares with: other figures or another plug begin anew."""
        self._loads: deque[tuple[float, float]] = deque()
        self._looked_at: float | None = None

    def handle(self, event: Event, now: float) -> list[Action]:
        """What the plug makes of it; a new setting is answered with new resources at once."""
        before = self.plug.setting
        actions = self.plug.handle(event, now)
        if self.plug.setting != before:
            self._forget_plug()
            actions.append(ReadResources())
        return actions

    def _forget_plug(self) -> None:
        """What another plug said, perhaps of another device."""
        for source in [source for source in self._estimators if source.startswith("plug")]:
            del self._estimators[source]

    def completed(self, read: Resources, now: float) -> tuple[Resources, list[Action]]:
        """``read`` with watts, their source and the figures to plan with."""
        before = self.plug.setting
        actions = self.plug.looked(now)
        if self.plug.setting != before:
            self._forget_plug()
        elapsed = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        self._note_load(read.cpu, now)
        status = self.plug.status(now)
        plug_source = None if status is None else f"plug {status.kind}"
        self._learn(read, plug_source, now)
        base = self._figures(now)
        self._compare(base, read.cpu, elapsed, now)
        figures = self._checked_figures(base)
        watts, source = read.watts, read.watts_source
        plug_watts = None if self._emulated else self.plug.watts(now)
        if watts is None and plug_watts is not None:
            watts, source = plug_watts, plug_source
        elif watts is None and figures is not None:
            watts = modelled_watts(figures, read.cpu)
            source = f"learned from {figures.source}" if figures.learned else figures.source
        notes = read.power_notes
        if status is not None and status.state in ("silent", "offline"):
            notes = (*notes, f"the plug {status.topic} is {status.state}: its watts are not used")
        completed = replace(
            read,
            watts=watts,
            watts_source=source,
            power=figures or read.power,
            plug=status,
            power_notes=notes,
        )
        return completed, actions

    def _note_load(self, load: float, now: float) -> None:
        self._loads.append((now, load))
        while now - self._loads[0][0] > _SETTLED_SECONDS:
            self._loads.popleft()

    def _settled_load(self) -> float | None:
        """Mean load of the last half minute; None while it changes."""
        loads = [load for _, load in self._loads]
        covered = self._loads[-1][0] - self._loads[0][0]
        steady = max(loads) - min(loads) <= _SETTLED_SPREAD
        return fmean(loads) if steady and covered >= _SETTLED_SECONDS / 2 else None

    def _learn(self, read: Resources, plug_source: str | None, now: float) -> None:
        reports = self.plug.taken()
        for report in reports:
            self._check.reported(report.joules, now)
        if self._emulated:
            return
        if read.watts is not None and read.watts_source is not None:
            lags = read.watts_source.startswith(LAGGING_SOURCES)
            load = self._settled_load() if lags else read.cpu
            self._observe(read.watts_source, load, read.watts, now)
        elif plug_source is not None:
            # Only a fresh report: one that is merely held is as old as the plug's period.
            for report in reports:
                if report.watts is not None:
                    self._observe(plug_source, self._settled_load(), report.watts, now)

    def _observe(self, source: str, load: float | None, watts: float, now: float) -> None:
        if load is None:
            return
        board = self._board
        known = (None, None) if board is None else (board.idle_watts, board.busy_watts)
        # One for each meter: what a processor's own counter says and what the wall says are two lines.
        self._estimators.setdefault(source, PowerEstimator(*known)).observe(load, watts, now)

    def _figures(self, now: float) -> PowerFigures | None:
        """Learned ones, of the meter that told them best; else the board's; None where nobody knows."""
        estimates = {source: e.estimate(now) for source, e in self._estimators.items()}
        learned = {source: e for source, e in estimates.items() if e is not None and e.learned}
        if not learned:
            self._learned_from = None
            return self._board
        if self._learned_from not in learned:
            # Kept as long as it holds: going to and fro between two meters would look like a change.
            self._learned_from = min(learned, key=lambda source: learned[source].error)
        best = learned[self._learned_from]
        radio = 0.0 if self._board is None else self._board.radio_watts
        return PowerFigures(
            best.idle_watts, best.busy_watts, radio, self._learned_from, learned=True, error=best.error
        )

    def _compare(self, base: PowerFigures | None, load: float, elapsed: float, now: float) -> None:
        compared = (None if base is None else base.source, self.plug.setting)
        if compared != self._checked:
            self._checked, self._check = compared, EnergyCheck()
        if base is not None and not self._emulated:
            self._check.passed(modelled_watts(base, load), self.plug.watts(now), elapsed)

    def _checked_figures(self, base: PowerFigures | None) -> PowerFigures | None:
        ratio = self._check.ratio
        if base is None or ratio is None:
            return base
        if base.learned or not self._check.steady:
            return replace(base, check=ratio)
        source = f"{base.source} scaled by the plug"
        idle, busy = base.idle_watts * ratio, base.busy_watts * ratio
        return replace(base, idle_watts=idle, busy_watts=busy, source=source, check=ratio)


def modelled_watts(figures: PowerFigures, load: float) -> float:
    """Watts at the fraction ``load`` of all cores: linear between idle and busy."""
    return figures.idle_watts + (figures.busy_watts - figures.idle_watts) * min(max(load, 0.0), 1.0)
