"""The torch runtime: opens captured models and loads ranges of their units.

This module can be imported without torch; ``open`` needs it.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemesh.errors import DecodeError, ModelError, RunError, missing_extra
from edgemesh.model.structure import ModelStructure
from edgemesh.model.torch_file import read_graph
from edgemesh.model.torch_graph import TorchGraph
from edgemesh.model.torch_structure import Liveness, boundary_of
from edgemesh.runtime.torch_operators import checked_targets

if TYPE_CHECKING:
    from edgemesh.protocol.manifest import Manifest
    from edgemesh.runtime.torch_interpreter import TorchRange


class TorchRuntime:
    """Captured models of format ``torch``."""

    name = "torch"

    def version(self) -> str | None:
        """Version of torch, found without the seconds that importing it takes; None when it is missing."""
        try:
            metadata.version("safetensors")
            return metadata.version("torch")
        except metadata.PackageNotFoundError:
            return None

    def open(self, path: Path, manifest: Manifest, threads: int) -> TorchModel:
        """The content at ``path``, to run on ``threads`` threads; raises ModelError or MissingExtraError."""
        try:
            import safetensors
            import torch
        except ImportError as error:
            raise missing_extra(error.name or "torch", "torch") from None
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        # Refused once torch has run something in parallel; our operators come one after the other anyway.
        with suppress(RuntimeError):
            torch.set_num_interop_threads(1)
        try:
            graph = read_graph(path)
            # Memory-mapped: a tensor is read from the file when the first run touches it.
            content = safetensors.safe_open(str(path), framework="pt")
        except (DecodeError, OSError, safetensors.SafetensorError) as error:
            raise ModelError(f"model {manifest.name} cannot be opened: {error}; fetch it again") from None
        return TorchModel(graph, manifest, content)


class TorchModel:
    """An open model; its units are those of the manifest, whatever this release would choose."""

    def __init__(self, graph: TorchGraph, manifest: Manifest, content: Any) -> None:
        self._graph = graph
        self._name = manifest.name
        self._content = content
        self._structure = ModelStructure(manifest.units, manifest.boundaries)
        self._liveness = Liveness(graph)
        self._check_manifest()

    def load(self, start: int, stop: int) -> TorchRange:
        """Units ``[start, stop)``, with their weights only; raises ModelError."""
        from edgemesh.runtime.torch_interpreter import TorchRange

        first, last = self._structure.operator_range(start, stop)
        span = self._liveness.operator_range(first, last)
        checked_targets({o.target for o in (*span.constants, *span.operators)}, self._name)
        memory_bytes = self._liveness.weight_bytes(first, last) + self._liveness.peak_bytes(first, last)
        try:
            return TorchRange(
                span,
                self._graph.values,
                self._weights(span.weights),
                self._name,
                from_start=start == 0,
                memory_bytes=memory_bytes,
            )
        except RunError as error:
            raise ModelError(f"units {start} to {stop} cannot be loaded: {error}") from error

    def _weights(self, wanted: tuple[int, ...]) -> dict[int, Any]:
        from edgemesh.runtime.torch_interpreter import placed

        names = {weight.value: weight.tensor for weight in self._graph.weights}
        weights = {}
        for number in wanted:
            value, stored = self._graph.values[number], self._content.get_tensor(names[number])
            # The file holds C order; a weight kept in another order gets it back, the others stay mapped.
            weights[number] = stored if value.stride is None else placed(stored, value, as_recorded=True)
        return weights

    def _check_manifest(self) -> None:
        """The manifest's units must lie on this graph; raises ModelError."""
        count = len(self._graph.operators)
        border = 0
        for cut, boundary in enumerate(self._structure.boundaries):
            alive = self._liveness.alive(border) if border <= count else ()
            if boundary_of(self._graph, alive) != boundary:
                raise ModelError(
                    f"cut {cut} of model {self._name} is not in its content: add the model again"
                )
            if cut < len(self._structure.units):
                border += self._structure.units[cut].operators
        if border != count:
            raise ModelError(
                f"the units of model {self._name} have {border} operators, its content {count}: add it again"
            )
