"""The JSON result of a job, from its outputs and the treatment that the manifest declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgemesh.protocol.manifest import Manifest, boundary_bytes
from edgemesh.protocol.result import ResultMessage, encode_result
from edgemesh.protocol.tensors import decode_tensors
from edgemesh.roles.actions import JobEnded

if TYPE_CHECKING:
    from edgemesh.model.inputs import Placement


def rendered_outputs(
    section: bytes | memoryview, manifest: Manifest, placement: Placement | None
) -> dict[str, Any]:
    """Labels, boxes or tensors of a tensor section; raises DecodeError for outputs of another shape."""
    from edgemesh.model.inputs import WHOLE
    from edgemesh.model.outputs import results

    tensors = decode_tensors(section, boundary_bytes(manifest.boundaries[-1]))
    return dict(results(manifest, tensors, placement or WHOLE))


def result_message(ended: JobEnded, manifest: Manifest | None, placement: Placement | None) -> ResultMessage:
    """Outputs as labels, boxes or tensors, or the error; raises DecodeError for outputs of another shape."""
    outputs: dict[str, Any] = {}
    if ended.code is None and manifest is not None:
        outputs = rendered_outputs(ended.section, manifest, placement)
    return ResultMessage(
        ended.job,
        ended.model,
        ended.seconds,
        outputs,
        ended.route,
        ended.timings,
        ended.attempts,
        ended.code,
        ended.text,
    )


def rendered(ended: JobEnded, manifest: Manifest | None, placement: Placement | None) -> bytes:
    """Payload for ``result/<model>``."""
    return encode_result(result_message(ended, manifest, placement))
