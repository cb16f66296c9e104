"""One job of a client program: its input prepared for the model's content, and its result."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemesh.errors import DecodeError, InputError, error_from_code
from edgemesh.node.input_files import file_bytes
from edgemesh.node.rendering import rendered_outputs
from edgemesh.protocol.activation import Hop, Timing, check_route
from edgemesh.protocol.fields import from_plain, to_plain
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.tensors import decode_tensors, section_bytes
from edgemesh.roles.actions import JobEnded
from edgemesh.roles.events import JobSubmitted

if TYPE_CHECKING:
    import numpy as np

Input = Any
"""An array, a list of arrays (several inputs), a path of a picture or npy file, or such a file's bytes."""


@dataclass(frozen=True)
class Result:
    """What one job brought home."""

    model: str
    seconds: float
    route: tuple[Hop, ...]
    timings: tuple[Timing, ...]
    attempts: int
    predicted: float | None
    _section: Any = field(repr=False, default=b"")
    _render: Callable[[Any], dict[str, Any]] = field(repr=False, default=lambda section: {})
    alone: bool = False
    """Whether the origin ran all of it by itself, as the broker was away or refused the input."""

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """As on ``result/<model>``: ``classes``, ``detections`` or ``tensors``.

        Worked out when they are first asked for; raises DecodeError for tensors of another shape than the
        manifest says.
        """
        return self._render(self._section)

    @property
    def tensors(self) -> list[np.ndarray[Any, Any]]:
        """The output tensors, in the order of the model's outputs."""
        return decode_tensors(self._section)


class PreparedJob:
    """A job's input as tensors, with what its result is rendered by."""

    def __init__(self, manifest: Manifest, given: Input) -> None:
        self.manifest = manifest
        self.placement: Any = None
        self.section = self._section(given)

    def _section(self, given: Input) -> bytes:
        from edgemesh.model.inputs import matching_tensors

        if isinstance(given, (str, Path)):
            given = file_bytes(Path(given))
        if isinstance(given, (bytes, bytearray, memoryview)):
            from edgemesh.runtime.payloads import input_tensors

            inputs = input_tensors(self.manifest, bytes(given))
            self.placement = inputs.placement
            return section_bytes(inputs.tensors)
        arrays = list(given) if isinstance(given, (list, tuple)) else [given]
        return section_bytes(matching_tensors(arrays, self.manifest.boundaries[0]))

    def job(self, left: float, stream: str | None, route: Sequence[Hop] | None) -> JobSubmitted:
        """A job that goes only to the content that its input was prepared for."""
        return JobSubmitted(
            f"j{secrets.token_hex(8)}",
            self.manifest.name,
            self.section,
            float(left),
            stream,
            None if route is None else _checked_route(route),
            self.manifest.digest,
        )

    def result(self, ended: JobEnded) -> Result:
        """The result; raises the error that the job ended in."""
        if ended.code is not None:
            raise error_from_code(ended.code, ended.text or ended.code)
        return Result(
            ended.model,
            ended.seconds,
            ended.route,
            ended.timings,
            ended.attempts,
            ended.predicted,
            ended.section,
            partial(rendered_outputs, manifest=self.manifest, placement=self.placement),
            ended.alone,
        )


def _checked_route(route: Sequence[Hop]) -> tuple[Hop, ...]:
    """The route as it travels; raises InputError where no message could carry it.

    Here, because it is the caller's mistake alone: a device's agent closes its local lane to whoever sends
    what cannot be read, and with it end all jobs of this client.
    """
    hops = tuple(route)
    try:
        for hop in hops:
            if not isinstance(hop, Hop):
                raise DecodeError(f"it has a {type(hop).__name__} where a Hop belongs")
            from_plain(Hop, to_plain(hop))
        check_route(hops)
    except DecodeError as error:
        raise InputError(f"the given route cannot be taken: {error}") from None
    return hops
