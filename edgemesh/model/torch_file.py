"""The content of a torch model: one safetensors file whose metadata holds the operator graph.

Layout (safetensors): 8 bytes little-endian length, a JSON header of that length, the tensors' bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from edgemesh.errors import DecodeError, ModelError
from edgemesh.model.torch_graph import TorchGraph, decode_graph, encode_graph
from edgemesh.protocol import limits
from edgemesh.protocol.jsontext import plain_json
from edgemesh.protocol.manifest import DTYPE_BYTES, DType

GRAPH_KEY = "edgemesh.graph"
_METADATA = "__metadata__"
_ALIGNMENT = 64
"""Cache line and widest vector: kernels take their fast path on weights that start there."""
_PREFIX = 8

_CODES: dict[str, str] = {
    "float32": "F32", "float16": "F16", "float64": "F64", "int8": "I8", "uint8": "U8", "int16": "I16",
    "uint16": "U16", "int32": "I32", "uint32": "U32", "int64": "I64", "uint64": "U64", "bool": "BOOL",
    "complex64": "C64",
}  # fmt: skip
_DTYPES: dict[str, DType] = {code: dtype for dtype, code in _CODES.items()}  # type: ignore[misc]


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies in the file."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


def read_graph(path: Path) -> TorchGraph:
    """The graph of the model at ``path``, read from its header alone.

    Raises ModelError when the file cannot be read or is no model of ours, DecodeError when it is malformed.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            return graph_of(file, size)
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}; check the path") from None


def graph_of(file: BinaryIO, size: int) -> TorchGraph:
    """The graph in ``file`` of ``size`` bytes, its weights checked against the tensors that are there."""
    metadata, tensors = read_header(file, size)
    text = metadata.get(GRAPH_KEY)
    if text is None:
        raise ModelError(
            "the safetensors file holds weights but no graph of edgemesh: add the model from its "
            "definition and pass this file as --weights"
        )
    graph = decode_graph(text)
    for weight in graph.weights:
        stored, value = tensors.get(weight.tensor), graph.values[weight.value]
        if stored is None or (stored.dtype, stored.shape) != (value.dtype, value.shape):
            raise DecodeError(f"the graph's weight {weight.tensor[:60]!r} is not in the file as it says")
    return graph


def read_header(file: BinaryIO, size: int) -> tuple[dict[str, str], dict[str, StoredTensor]]:
    """Metadata and tensors by name of a safetensors file of ``size`` bytes; raises DecodeError.

    The tensors must cover the rest of the file exactly, so a truncated file is noticed before it is used.
    """
    length = int.from_bytes(_exactly(file, _PREFIX), "little")
    if length > min(limits.JSON_BYTES, size - _PREFIX):
        raise DecodeError(f"a safetensors header of {length} bytes in a file of {size} bytes")
    header = plain_json(_exactly(file, length))
    if not isinstance(header, dict) or len(header) > limits.ITEMS:
        raise DecodeError(f"the safetensors header is not a map of at most {limits.ITEMS} tensors")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise DecodeError("the metadata of the safetensors header is not a map of texts")
    spans: list[tuple[int, int]] = []
    tensors = {name: _stored(name, entry, spans) for name, entry in header.items()}
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise DecodeError(f"the tensors of the safetensors file leave or share bytes at {first}")
        end = last
    if _PREFIX + length + end != size:
        raise DecodeError(f"a safetensors file of {size} bytes should have {_PREFIX + length + end}")
    return metadata, tensors


def write_model(
    path: Path, graph: TorchGraph, tensors: Mapping[str, StoredTensor], content: Callable[[str], bytes]
) -> None:
    """Write a model whose tensor ``name`` has the bytes ``content(name)`` (C order, little-endian).

    Equal arguments give equal bytes: names are sorted, and the graph is the only metadata. Tensors whose size
    is a multiple of the alignment come first, so that nearly all start aligned.
    """
    order = sorted(tensors, key=lambda name: (tensors[name].nbytes % _ALIGNMENT != 0, name))
    header = _header(graph, ((name, tensors[name]) for name in order))
    if len(header) > limits.JSON_BYTES:
        raise ModelError(
            f"model {graph.name} needs a header of {len(header)} bytes, more than {limits.JSON_BYTES}: "
            "it has too many operators; capture a smaller part of it"
        )
    with path.open("wb") as file:
        file.write(len(header).to_bytes(_PREFIX, "little"))
        file.write(header)
        for name in order:
            data = content(name)
            assert len(data) == tensors[name].nbytes, name
            file.write(data)


def _header(graph: TorchGraph, tensors: Iterable[tuple[str, StoredTensor]]) -> bytes:
    entries: dict[str, Any] = {_METADATA: {GRAPH_KEY: encode_graph(graph)}}
    offset = 0
    for name, tensor in tensors:
        entries[name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    # Trailing spaces are the format's own padding.
    return text + b" " * (-(_PREFIX + len(text)) % _ALIGNMENT)


def _stored(name: str, entry: object, spans: list[tuple[int, int]]) -> StoredTensor:
    if not isinstance(entry, dict):
        raise DecodeError(f"tensor {name[:60]!r} of the safetensors header is not a map")
    code, shape, span = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(code, str) or code not in _DTYPES:
        wanted = ", ".join(sorted(_DTYPES))
        raise DecodeError(f"tensor {name[:60]!r} has the dtype {str(code)[:20]!r}, not one of {wanted}")
    tensor = StoredTensor(_DTYPES[code], _sizes(name, shape))
    place = _sizes(name, span)
    if len(place) != 2 or place[1] - place[0] != tensor.nbytes:
        raise DecodeError(f"tensor {name[:60]!r} does not have {tensor.nbytes} bytes in the safetensors file")
    spans.append((place[0], place[1]))
    return tensor


def _sizes(name: str, numbers: object) -> tuple[int, ...]:
    if not isinstance(numbers, list) or len(numbers) > limits.RANK:
        raise DecodeError(f"tensor {name[:60]!r} lacks a shape or place of at most {limits.RANK} numbers")
    for number in numbers:
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= limits.MODEL_BYTES:
            raise DecodeError(f"tensor {name[:60]!r} has the size or place {repr(number)[:30]}")
    return tuple(numbers)


def _exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise DecodeError(f"the safetensors file ends after {len(data)} of {length} bytes of its header")
    return data
