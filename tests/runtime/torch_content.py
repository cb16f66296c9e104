"""Builders: a module captured into a file, and a manifest over any borders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgemesh.model.torch_file import read_graph
from edgemesh.model.torch_graph import TorchGraph
from edgemesh.model.torch_structure import Liveness, boundary_of, restored_layout, structure_of
from edgemesh.protocol.manifest import Manifest, Unit
from edgemesh.protocol.tensors import decode_tensors, encode_tensors
from edgemesh.runtime.torch import TorchModel, TorchRuntime
from edgemesh.runtime.torch_capture import capture

THREADS = 2


def captured(module: torch.nn.Module, inputs: Sequence[torch.Tensor], path: Path, name: str = "net") -> Path:
    """The content file of ``module``, made of copies of ``inputs``."""
    capture(module, tuple(tensor.clone() for tensor in inputs), path, name)
    return path


def opened(path: Path, *, every_operator: bool = False) -> tuple[TorchModel, int]:
    """The model at ``path``, and how many units it has: the chosen ones, or one per operator."""
    graph = read_graph(path)
    structure = structure_of(graph)
    units, boundaries = structure.units, structure.boundaries
    if every_operator:
        borders = operator_cuts(graph)
        units = tuple(Unit("operator", stop - start, 0, 0, 0) for start, stop in pairwise(borders))
        boundaries = tuple(boundary_of(graph, Liveness(graph).alive(border)) for border in borders)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = Manifest("net", digest, "torch", 1, units, boundaries, 1, (digest,))
    return TorchRuntime().open(path, manifest, THREADS), len(units)


def operator_cuts(graph: TorchGraph) -> list[int]:
    """All cuts whose tensors may travel, the ends included."""
    cuts = Liveness(graph).all_alive()
    inner = [
        cut
        for cut in range(1, len(cuts) - 1)
        if cuts[cut] and all(restored_layout(graph.values[value]) is not None for value in cuts[cut])
    ]
    return [0, *inner, len(cuts) - 1]


def sent(arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """What arrives of ``arrays`` under codec raw: read-only, at an address as good as any."""
    section = b"".join(bytes(part) for part in encode_tensors(arrays, "raw"))
    payload = memoryview(b"header" + section)[len(b"header") :]
    return list(decode_tensors(payload))


def arrays(tensors: Sequence[torch.Tensor]) -> list[np.ndarray[Any, Any]]:
    """Copies of ``tensors`` as the runtime takes them."""
    return [tensor.clone().numpy() for tensor in tensors]


def assert_every_cut_is_exact(
    model: TorchModel, units: int, inputs: list[np.ndarray[Any, Any]]
) -> list[np.ndarray[Any, Any]]:
    """Units ``[0, c)``, the wire, units ``[c, U)`` give the bits of the whole, for all ``c``; that whole."""
    whole = model.load(0, units).run(inputs)
    for cut in range(1, units):
        middle = sent(model.load(0, cut).run(inputs))
        result = model.load(cut, units).run(middle)
        for found, wanted in zip(result, whole, strict=True):
            np.testing.assert_array_equal(found, wanted, err_msg=f"cut {cut} of {units}", strict=True)
    return whole
