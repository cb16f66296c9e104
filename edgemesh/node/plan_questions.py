"""Asks the decision node about plans and their history; nothing in the mesh changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from edgemesh.device.boards import Board, load_board
from edgemesh.device.emulation import arithmetic_dtype
from edgemesh.errors import DecodeError, NoRouteError, SettingsError, UnknownModelError
from edgemesh.node.mesh_reader import MeshReader
from edgemesh.node.mesh_reading import MeshReading
from edgemesh.protocol.fields import from_plain, to_plain
from edgemesh.protocol.history import HistoryRequest, HistoryResponse
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.what_if import (
    AddedBoard,
    BatteryChange,
    ExplainRequest,
    ExplainResponse,
    FrontRequest,
    FrontResponse,
    LinkChange,
    LoadChange,
    SpeedRatio,
    WhatIfRequest,
    WhatIfResponse,
)
from edgemesh.transport.address import BrokerAddress

T = TypeVar("T")
_SUBSTITUTE_DTYPE = "float32"


def asked_what_if(
    mesh: str,
    address: BrokerAddress,
    model: str | None,
    origin: str | None,
    *,
    off: Sequence[str] = (),
    links: Sequence[LinkChange] = (),
    loads: Sequence[LoadChange] = (),
    batteries: Sequence[BatteryChange] = (),
    boards: Sequence[tuple[str, str]] = (),
) -> list[WhatIfResponse]:
    """The answer for each origin of the model, or for the one given; ``boards`` are (board, device) to add.

    Without ``model`` the only one of the mesh is meant.
    Raises UnknownModelError, SettingsError for a board that is unknown or a question that this mesh cannot be
    asked, NoRouteError when nobody answers, OperatorError where the broker refuses the question, BrokerError.
    """
    loaded = [(load_board(board), device) for board, device in boards]

    async def ask(reader: MeshReader) -> list[WhatIfResponse]:
        reading = reader.reading
        manifest = _manifest(reading, model)
        added = tuple(added_board(board, device, manifest, reading) for board, device in loaded)
        answers = []
        for one in origins(reading, manifest.name, origin):
            try:
                request = WhatIfRequest(
                    reading.requester,
                    manifest.name,
                    one,
                    tuple(off),
                    tuple(links),
                    tuple(loads),
                    tuple(batteries),
                    added,
                )
                from_plain(WhatIfRequest, to_plain(request))
            except DecodeError as error:
                raise SettingsError(f"the decision node would refuse this question: {error}") from None
            answers.append(await reader.asked("what-if", request, WhatIfResponse))
        return answers

    return _with_reader(mesh, address, ask)


def asked_front(
    mesh: str, address: BrokerAddress, model: str | None, origin: str | None
) -> list[FrontResponse]:
    """The front for each origin of the model, or for the one given; raises as ``asked_what_if``."""
    return _asked_of_each(mesh, address, model, origin, "front", FrontRequest, FrontResponse)


def asked_explanation(
    mesh: str, address: BrokerAddress, model: str | None, origin: str | None
) -> list[ExplainResponse]:
    """What binds, for each origin of the model, or for the one given; raises as ``asked_what_if``."""
    return _asked_of_each(mesh, address, model, origin, "explain", ExplainRequest, ExplainResponse)


def _asked_of_each(
    mesh: str,
    address: BrokerAddress,
    model: str | None,
    origin: str | None,
    verb: str,
    request: Callable[[str, str, str], object],
    response: type[T],
) -> list[T]:
    """``request`` is made of requester, model and origin."""

    async def ask(reader: MeshReader) -> list[T]:
        reading = reader.reading
        name = _manifest(reading, model).name
        return [
            await reader.asked(verb, request(reading.requester, name, one), response)
            for one in origins(reading, name, origin)
        ]

    return _with_reader(mesh, address, ask)


def asked_history(
    mesh: str, address: BrokerAddress, model: str | None, since: float | None, limit: int
) -> HistoryResponse:
    """The newest records, read from the decision node's disk.

    Raises NoRouteError, OperatorError where the broker refuses the question, BrokerError.
    """

    async def ask(reader: MeshReader) -> HistoryResponse:
        request = HistoryRequest(reader.reading.requester, model, since, limit)
        return await reader.asked("history", request, HistoryResponse)

    answer = _with_reader(mesh, address, ask)
    if answer.error is not None:
        raise NoRouteError(answer.error)
    return answer


def _manifest(reading: MeshReading, model: str | None) -> Manifest:
    """Of the given model, or of the only one; raises UnknownModelError, SettingsError where it is not one."""
    names = sorted(reading.view.manifests)
    if model is None and len(names) > 1:
        raise SettingsError(
            f"there are the models {', '.join(names)}: name one, as in  edgemesh plan {names[0]}"
        )
    if model is None and not names:
        raise UnknownModelError("there is no model in this mesh: add one with  edgemesh model add")
    return reading.manifest(names[0] if model is None else model)


def origins(reading: MeshReading, model: str, origin: str | None) -> list[str]:
    """The given origin, or those that the model is planned for; raises SettingsError for an unknown one."""
    if origin is None:
        return sorted(o for m, o in reading.view.assignments if m == model) or [APP_ORIGIN]
    if origin != APP_ORIGIN and origin not in reading.view.devices:
        known = ", ".join(sorted(reading.view.devices)) or "none"
        raise SettingsError(f"the origin {origin} is no device of this mesh (known: {known})")
    return [origin]


def added_board(board: Board, device: str, manifest: Manifest, reading: MeshReading) -> AddedBoard:
    """``board`` as a device of the mesh; raises SettingsError where it has no speed for this model."""
    runtime, dtype = manifest.format, arithmetic_dtype(manifest.boundaries)
    speed = board.speed(runtime, dtype) or board.speed(runtime, _SUBSTITUTE_DTYPE)
    if speed is None:
        raise SettingsError(
            f"board {board.name} has no speed for {runtime}: add speed.{runtime}.{_SUBSTITUTE_DTYPE} to its "
            "file"
        )
    link = board.link
    assert link is not None, board.name  # board files without are refused
    return AddedBoard(
        device=device,
        board=board.name,
        memory_bytes=board.memory_for_models,
        macs_per_second=speed,
        idle_watts=board.idle_watts or 0.0,
        busy_watts=board.busy_watts or 0.0,
        radio_watts=board.radio_watts or 0.0,
        up_bytes_per_second=link.up_bytes_per_second,
        down_bytes_per_second=link.down_bytes_per_second,
        delay=link.delay_up,
        faster_than=tuple(
            SpeedRatio(name, ratio) for name, ratio in _speed_ratios(board, manifest, dtype, reading)
        ),
    )


def _speed_ratios(
    board: Board, manifest: Manifest, dtype: str, reading: MeshReading
) -> Iterator[tuple[str, float]]:
    """Devices online whose board is known to this machine, and how many times as fast ``board`` is."""
    for device in reading.able(manifest):
        about = reading.view.about(device)
        assert about is not None
        try:
            other = load_board(about.board)
        except SettingsError:
            continue  # a board of its owner's, whose file is not here
        for kind in (dtype, _SUBSTITUTE_DTYPE):
            ours, theirs = board.speed(manifest.format, kind), other.speed(manifest.format, kind)
            if ours is not None and theirs is not None:
                yield device, ours / theirs
                break


def _with_reader(mesh: str, address: BrokerAddress, ask: Callable[[MeshReader], Coroutine[Any, Any, T]]) -> T:
    async def asked() -> T:
        async with MeshReader(mesh, address) as reader:
            return await ask(reader)

    return asyncio.run(asked())
