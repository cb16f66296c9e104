"""What an app submits (picture, npy file, raw or msgpack tensors) as a model's input tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgemesh.errors import DecodeError, InputError
from edgemesh.model.inputs import (
    WHOLE,
    Placement,
    described,
    matching_tensors,
    npy_array,
    raw_tensors,
    recognise,
)
from edgemesh.protocol.manifest import Manifest, boundary_bytes
from edgemesh.protocol.tensors import decode_tensors
from edgemesh.runtime.images import image_tensor


@dataclass(frozen=True)
class Inputs:
    """Tensors in the order of ``boundaries[0]``, and where they lie on the photograph they came from."""

    tensors: list[np.ndarray[Any, Any]]
    placement: Placement = WHOLE


def input_tensors(manifest: Manifest, payload: bytes, content_type: str | None = None) -> Inputs:
    """The inputs of ``manifest`` in ``payload``; the arrays may be read-only views of it.

    Raises InputError saying what was found and what the model takes, MissingExtraError when a picture comes
    and Pillow is not installed.
    """
    boundary = manifest.boundaries[0]
    kind = recognise(payload, content_type, boundary_bytes(boundary))
    if kind == "image":
        if manifest.image is None:
            raise InputError(
                f"model {manifest.name} takes no pictures but {described(boundary)}: send an npy file, or "
                "add the model again with its image input declared"
            )
        tensor, placement = image_tensor(payload, manifest.image, boundary[0].dtype)
        return Inputs([tensor], placement)
    if kind == "npy":
        return Inputs(matching_tensors([npy_array(payload)], boundary))
    if kind == "msgpack":
        try:
            arrays = decode_tensors(payload, 4 * boundary_bytes(boundary))
        except DecodeError as error:
            raise InputError(f"the msgpack input cannot be read: {error}") from None
        return Inputs(matching_tensors(arrays, boundary))
    return Inputs(raw_tensors(payload, boundary))
