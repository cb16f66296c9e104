"""One planning instance: everything the cost model knows about one (model, origin) at one moment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from edgemesh.planning.costs import Costs, costs_of
from edgemesh.planning.tables import Tables, tables_of
from edgemesh.protocol.ids import APP_ORIGIN

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Link:
    """One participant's way to the broker and back: seconds per message, bytes per second.

    A rate may be infinite. Rates and latencies per participant, not per pair: the star model.
    """

    latency_up: float
    rate_up: float
    latency_down: float
    rate_down: float

    def __post_init__(self) -> None:
        assert self.latency_up >= 0.0 and self.latency_down >= 0.0, self
        assert self.rate_up > 0.0 and self.rate_down > 0.0, self


@dataclass(frozen=True)
class Requester:
    """The gateway, owner of the jobs that arise on a topic and on no device."""

    link: Link
    encode: tuple[float, ...] = ()
    """Seconds per raw byte, by codec; empty when encoding costs nothing, infinite for a codec it lacks."""
    decode: tuple[float, ...] = ()
    radio_watts: float = 0.0
    """Above idle while its link carries something."""
    energy_weight: float = 1.0
    """What one joule of it counts."""


@dataclass(frozen=True, eq=False)
class PlanningDevice:
    """One device as the planner sees it.

    Units ``[start, stop)`` take ``run_overhead + run_factor * sum(seconds[start:stop])``, or
    ``runs[start, stop]`` where ``runs`` is given; a run first waits ``queue_seconds``.
    """

    id: str
    link: Link
    seconds: FloatArray
    """``seconds[u]``, infinite where the device cannot run unit ``u``."""
    run_overhead: float = 0.0
    run_factor: float = 1.0
    runs: FloatArray | None = None
    """``[U + 1, U + 1]`` seconds of the run ``[start, stop)``; ``seconds`` still says what it can run."""
    memory_limit: float = math.inf
    """Bytes for this model: weights of all its units plus the largest peak of activations."""
    queue_seconds: float = 0.0
    encode: tuple[float, ...] = ()
    """Seconds per raw byte, by codec; empty when encoding costs nothing, infinite for a codec it lacks."""
    decode: tuple[float, ...] = ()
    unavailable: str = ""
    """Why it runs nothing now ("is offline"), in words that follow its name; empty when it is available."""
    busy_watts: float = 0.0
    """Above idle while it runs units, encodes or decodes; waiting in its queue costs nothing."""
    radio_watts: float = 0.0
    """Above idle while its link carries something: bytes over the rate of that direction, latency left
    out."""
    energy_weight: float = 1.0
    """What one joule of it counts: a battery more than 1, a wall plug down to 0."""
    price_per_second: float = 0.0
    """Money for each second that it runs units, encodes or decodes."""
    price_per_byte: float = 0.0
    """Money for each byte that it sends or receives."""


@dataclass(frozen=True)
class Pin:
    """Units ``[start, stop)`` run on one of ``devices`` (indices) only."""

    start: int
    stop: int
    devices: frozenset[int]


@dataclass(frozen=True, eq=False)
class Instance:
    """One model, one origin, the devices and what is known of them. Nothing in it changes afterwards.

    The input starts at the origin under codec ``raw`` and the output returns there; that "the raw input
    never leaves the origin" is ``Pin(0, 1, frozenset({origin}))``.
    """

    unit_names: tuple[str, ...]
    weight_bytes: FloatArray
    """``[U]``."""
    peak_bytes: FloatArray
    """``[U]``: activations alive at once while the unit runs."""
    codecs: tuple[str, ...]
    """``codecs[0]`` is ``raw``."""
    cut_bytes: FloatArray
    """``[U + 1, K]`` bytes at a cut under a codec; finite."""
    codec_allowed: BoolArray
    """``[U + 1, K]``; a cut where no codec is allowed is never crossed between devices."""
    devices: tuple[PlanningDevice, ...]
    origin: int | Requester
    """Index of the device where inputs arise, or the gateway's side when they arise on a topic."""
    broker_seconds: float = 0.0
    """What the broker itself takes per message."""
    pins: tuple[Pin, ...] = ()
    excluded: frozenset[int] = frozenset()
    """Devices (indices) that must run nothing."""

    def __post_init__(self) -> None:
        units, codecs = len(self.unit_names), len(self.codecs)
        assert units >= 1 and self.devices and self.codecs[0] == "raw"
        _assert_shape(self.weight_bytes, (units,), "weight_bytes")
        _assert_shape(self.peak_bytes, (units,), "peak_bytes")
        _assert_shape(self.cut_bytes, (units + 1, codecs), "cut_bytes")
        _assert_shape(self.codec_allowed, (units + 1, codecs), "codec_allowed")
        assert np.isfinite(self.cut_bytes).all()
        assert len({device.id for device in self.devices}) == len(self.devices), "device ids must differ"
        for device in self.devices:
            _assert_shape(device.seconds, (units,), f"seconds of {device.id}")
            assert len(device.encode) in (0, codecs) and len(device.decode) in (0, codecs), device.id
            if device.runs is not None:
                _assert_shape(device.runs, (units + 1, units + 1), f"runs of {device.id}")

    @property
    def unit_count(self) -> int:
        """``U``."""
        return len(self.unit_names)

    @property
    def origin_name(self) -> str:
        """Id of the origin device, or ``app``."""
        return self.devices[self.origin].id if isinstance(self.origin, int) else APP_ORIGIN

    @property
    def requester(self) -> PlanningDevice | Requester:
        """Whoever sends the input and gets the output."""
        return self.devices[self.origin] if isinstance(self.origin, int) else self.origin

    @property
    def participants(self) -> tuple[PlanningDevice | Requester, ...]:
        """All who send or receive: the devices, then the gateway's side when inputs arise on a topic."""
        return self.devices if isinstance(self.origin, int) else (*self.devices, self.origin)

    @cached_property
    def indices(self) -> dict[str, int]:
        """Index of each device by its id."""
        return {device.id: index for index, device in enumerate(self.devices)}

    @cached_property
    def pinned(self) -> BoolArray:
        """``[D, U]``: whether the pins let the device run the unit."""
        allowed = np.ones((len(self.devices), self.unit_count), dtype=bool)
        for pin in self.pins:
            for device in range(len(self.devices)):
                if device not in pin.devices:
                    allowed[device, pin.start : pin.stop] = False
        return allowed

    @cached_property
    def may_run(self) -> BoolArray:
        """``[D, U]``: able, available, not excluded, and not pinned elsewhere. Memory is not in it."""
        allowed: BoolArray = self.pinned & np.isfinite([device.seconds for device in self.devices])
        for index, device in enumerate(self.devices):
            if device.unavailable or index in self.excluded:
                allowed[index] = False
        return allowed

    @cached_property
    def costs(self) -> Costs:
        """The cost model of this instance: seconds, joules and money of each step."""
        return costs_of(self)

    @cached_property
    def tables(self) -> Tables:
        """The cost model of this instance as arrays, shared by all algorithms."""
        return tables_of(self)


def raw_at_both_ends(unit_count: int, codec_count: int) -> BoolArray:
    """``codec_allowed`` where input and output travel raw and every codec is fine in between."""
    allowed = np.ones((unit_count + 1, codec_count), dtype=bool)
    allowed[[0, unit_count], 1:] = False
    return allowed


def _assert_shape(array: npt.NDArray[Any], shape: tuple[int, ...], what: str) -> None:
    assert array.shape == shape, f"{what} has shape {array.shape}, not {shape}"
    assert not np.isnan(array).any(), f"{what} holds NaN"
